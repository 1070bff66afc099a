"""A simulated annotator who answers with the truth, and what fifty of its answers are worth."""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.live import Live
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning

from exemplar.demo.dataset import Dataset
from exemplar.demo.processes import DemoError
from exemplar.demo.project import DemoProject, call, content, send, tasks
from exemplar.engine import textbook_ladder

_TASKS_PER_PREDICT = 200
_LABELS_PER_ROW = 10
_LADDER_SEEDS = 20


@dataclass(frozen=True)
class Measurement:
    """What the backend can do after so many labels; shares from 0 to 1."""

    n_labels: int
    propagated: float  # right pre-annotations, among the pool's tasks that nobody has annotated
    accuracy: float  # right predictions of what is held out
    seconds: float  # from the last Submit until /predict knew it; NaN before the first one


def run_autopilot(
    studio: httpx.Client,
    backend: httpx.Client,
    project: DemoProject,
    dataset: Dataset,
    *,
    console: Console,
    chart_path: Path,
    n_labels: int = 50,
) -> list[Measurement]:
    """Annotate the queue's first tasks, show what is learned on the way, and set it beside the textbook."""
    rest = {task["id"]: task["data"] for task in tasks(studio, project) if not task["total_annotations"]}
    if len(rest) < n_labels:
        console.print(f"{len(rest)} tasks are left to annotate, instead of {n_labels}.")
    table = _progress_table(dataset)
    measured: list[Measurement] = []
    if len(rest) == dataset.n_pool:
        with console.status("What the names of the classes say of it"):
            unasked = before_any_answer(backend, project, dataset, rest)
        if unasked:
            measured.append(unasked)
            table.add_row(*_cells(unasked))
            right = _percent(unasked.propagated)
            console.print(f"before any answer: {right} right, from the names of the classes", highlight=False)
    with Live(table, console=console, refresh_per_second=4):
        for measurement in annotate(studio, backend, project, dataset, rest, n_labels=n_labels):
            measured.append(measurement)
            table.add_row(*_cells(measurement))
    console.print()
    if measured:
        _show_ladder(dataset, measured[-1], console)
        draw_learning_curve(measured, chart_path)
        console.print(f"The learning curve: {chart_path}", soft_wrap=True)
    return measured


def before_any_answer(
    backend: httpx.Client, project: DemoProject, dataset: Dataset, rest: Mapping[int, Mapping[str, Any]]
) -> Measurement | None:
    """Return what is right of a pool that nobody has annotated; None if nothing is said of it yet."""
    asked = [{"id": task_id, "data": data} for task_id, data in rest.items()]
    if not any(predicted_choice(prediction) for prediction in predict(backend, project, asked)):
        return None
    return _measure(backend, project, dataset, rest, 0, float("nan"))


# ── Annotating ───────────────────────────────────────────────────────────────────────────────────────────


def annotate(
    studio: httpx.Client,
    backend: httpx.Client,
    project: DemoProject,
    dataset: Dataset,
    rest: Mapping[int, Mapping[str, Any]],
    *,
    n_labels: int,
) -> Iterator[Measurement]:
    """Submit the truth of up to so many of the queue's tasks; measure after every ten and after the last.

    ``rest`` is the data of the tasks that nobody has annotated, by task id.
    """
    rest = dict(rest)
    n_before = dataset.n_pool - len(rest)
    pace = np.random.default_rng(0)
    for n_given in range(1, n_labels + 1):
        task = _next_task(studio, project)
        if task is None:
            return
        submitted_at = time.monotonic()
        submit(studio, dataset, task, lead_time=round(pace.uniform(1, 4), 3))
        rest.pop(task["id"], None)
        if n_given % _LABELS_PER_ROW == 0 or n_given == n_labels or not rest:
            seconds = _until_known(backend, project, dataset, task) - submitted_at
            yield _measure(backend, project, dataset, rest, n_before + n_given, seconds)


def _next_task(studio: httpx.Client, project: DemoProject) -> dict[str, Any] | None:
    answer = send(studio, "GET", f"/api/projects/{project.id}/next")
    if answer.status_code == 404:  # Label Studio's way of saying that none is left
        return None
    task: dict[str, Any] = content(answer)
    return task


def submit(studio: httpx.Client, dataset: Dataset, task: Mapping[str, Any], *, lead_time: float) -> None:
    """Annotate a task with its truth; the lead time is what tells a person's answer from a bulk one."""
    annotation = {"result": dataset.result(task["data"]), "lead_time": lead_time}
    call(studio, "POST", f"/api/tasks/{task['id']}/annotations/", json=annotation)


# ── Measuring ────────────────────────────────────────────────────────────────────────────────────────────


def predict(
    backend: httpx.Client, project: DemoProject, asked: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield the backend's prediction of each task, asked for as Label Studio does."""
    for start in range(0, len(asked), _TASKS_PER_PREDICT):
        batch = asked[start : start + _TASKS_PER_PREDICT]
        request = {
            "tasks": batch,
            "project": project.key,
            "label_config": project.label_config,
            "params": {"show_all": True},
        }
        results = call(backend, "POST", "/predict", json=request)["results"]
        if len(results) != len(batch):
            raise DemoError(f"/predict gave {len(results)} results: expected one for each of {len(batch)} tasks")
        yield from results


def predicted_choice(prediction: Mapping[str, Any]) -> str | None:
    """Return the choice that a prediction ticks, None if it is empty.

    >>> predicted_choice({"result": [{"value": {"choices": ["7"]}}], "score": 0.9})
    '7'
    """
    result = prediction["result"]
    return str(result[0]["value"]["choices"][0]) if result else None


def _until_known(
    backend: httpx.Client,
    project: DemoProject,
    dataset: Dataset,
    task: Mapping[str, Any],
    *,
    patience: float = 120,
) -> float:
    """Return the moment at which the backend first answered a task with the annotation that it was given."""
    truth = dataset.answer(task["data"])
    asked = [{"id": task["id"], "data": task["data"]}]
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        [prediction] = predict(backend, project, asked)
        if prediction.get("score") == 1.0 and predicted_choice(prediction) == truth:
            return time.monotonic()
        time.sleep(0.05)
    raise DemoError(f"/predict did not know of the annotation of task {task['id']} within {patience:.0f} s")


def _measure(
    backend: httpx.Client,
    project: DemoProject,
    dataset: Dataset,
    rest: Mapping[int, Mapping[str, Any]],
    n_labels: int,
    seconds: float,
) -> Measurement:
    pool = [{"id": task_id, "data": data} for task_id, data in rest.items()]
    propagated = _share_right(backend, project, pool, [dataset.answer(data) for data in rest.values()])
    held_out = [{"data": dataset.data(index)} for index in dataset.held_out]
    accuracy = _share_right(backend, project, held_out, [dataset.truth[index] for index in dataset.held_out])
    return Measurement(n_labels, propagated, accuracy, seconds)


def _share_right(
    backend: httpx.Client, project: DemoProject, asked: Sequence[Mapping[str, Any]], truth: Sequence[str]
) -> float:
    if not asked:
        return float("nan")
    found = [predicted_choice(prediction) for prediction in predict(backend, project, asked)]
    return sum(a == b for a, b in zip(found, truth, strict=True)) / len(truth)


# ── Showing ──────────────────────────────────────────────────────────────────────────────────────────────


def _progress_table(dataset: Dataset) -> Table:
    table = Table(title="What each label is worth, asked in the queue's order")
    table.add_column("labels", justify="right")
    table.add_column("propagated labels right", justify="right")
    table.add_column(f"classifier on {len(dataset.held_out)} held-out {dataset.examples}", justify="right")
    table.add_column("from Submit to /predict", justify="right")
    return table


def _cells(measurement: Measurement) -> tuple[str, str, str, str]:
    return (
        str(measurement.n_labels),
        _percent(measurement.propagated),
        _percent(measurement.accuracy),
        "–" if np.isnan(measurement.seconds) else f"{measurement.seconds:.2f} s",
    )


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{share:.1%}"


def _show_ladder(dataset: Dataset, last: Measurement, console: Console) -> None:
    pool, held_out = list(dataset.pool), list(dataset.held_out)
    with console.status(f"The textbook's ladder on {dataset.textbook}: {_LADDER_SEEDS} seeds of 5 steps"):
        X, y = dataset.textbook_vectors(), np.unique(dataset.truth, return_inverse=True)[1]
        with warnings.catch_warnings():
            # On the pixels of drawings its regression does not converge: that row tells, forty warnings do not.
            warnings.simplefilter("ignore", ConvergenceWarning)
            ladder = textbook_ladder(X[pool], y[pool], X[held_out], y[held_out], seeds=range(_LADDER_SEEDS))
    console.print(ladder_table(ladder, last, dataset.textbook))


def ladder_table(ladder: Mapping[str, NDArray[np.float64]], last: Measurement, vectors: str) -> Table:
    """Return the textbook's steps over many seeds, and this run's classifier below them."""
    n_seeds = len(next(iter(ladder.values())))
    table = Table(title=f"The textbook's ladder (Géron, ch. 9) on {vectors}: mean ± std of {n_seeds} seeds")
    table.add_column("trained on")
    table.add_column("accuracy, held out", justify="right")
    for step, accuracies in ladder.items():
        table.add_row(step, f"{accuracies.mean():.1%} ± {accuracies.std():.1%}")
    table.add_section()
    table.add_row(f"this run: {last.n_labels} labels in Label Studio", f"{last.accuracy:.1%}")
    return table


def draw_learning_curve(measured: Sequence[Measurement], path: Path) -> None:
    """Draw the measurements as a PNG."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    labels = [m.n_labels for m in measured]
    axes.plot(labels, [100 * m.propagated for m in measured], marker="o", label="propagated labels right")
    axes.plot(labels, [100 * m.accuracy for m in measured], marker="s", label="classifier, held out")
    axes.set(xlabel="labels given", ylabel="%", ylim=(0, 100), title="What the labels are worth")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
