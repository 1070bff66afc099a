"""Every project's numbers for Prometheus, read from its folder when they are asked for."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from exemplar.store.home import Home
from exemplar.store.project_store import ProjectStore

ABOUT = {
    "tasks": "Tasks of the project",
    "answered": "Tasks that a person answered",
    "pre_annotated": "Tasks with a prediction of ours, shown or not",
    "shown": "Predictions that are sure enough to be ticked",
    "left_out": "Tasks that could not be read",
    "not_used": "Answers that are not used, or not all of them",
    "generation": "Generation of the rows",
    "snapshot": "Number of the snapshot that is served",
    "pending_rows": "Rows that are still to be patched",
    "problem": "1 if the last refresh failed",
    "webhooks": "Webhooks received",
    "webhooks_waiting": "Webhooks that no refresh has taken in yet",
}


class ProjectMetrics(Collector):
    """One gauge a number, one label a project."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield one gauge for each number, as the projects stand now."""
        numbers = {store.folder.name: _numbers(store) for store in self._home.stores()}
        for name, about in ABOUT.items():
            gauge = GaugeMetricFamily(f"exemplar_{name}", about, labels=["project"])
            for project, values in numbers.items():
                gauge.add_metric([project], values.get(name, 0))
            yield gauge


def _numbers(store: ProjectStore) -> dict[str, float]:
    facts, status, webhooks = store.facts(), store.status(), store.number("webhooks")
    numbers: dict[str, float] = {
        "pending_rows": status.pending_rows,
        "problem": int(status.problem is not None),
        "webhooks": webhooks,
        "webhooks_waiting": webhooks - store.done().webhooks,
    }
    if facts is not None:
        numbers |= {
            "tasks": facts.n_tasks,
            "answered": facts.n_answered,
            "pre_annotated": facts.n_pre_annotated,
            "shown": facts.n_shown,
            "left_out": len(facts.unreadable),
            "not_used": sum(found.n for found in facts.not_used.values()),
            "generation": facts.generation,
            "snapshot": facts.number,
        }
    return numbers
