"""Rows of a former generation on a real Label Studio: they go by themselves, days after, and never too early.

The backend is started again some days later: with its clock set forward, that of Label Studio as it is.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import LABEL_CONFIG, Backend
from e2e.annotators import Annotator, connect, rows, wait_for, wait_until_ready, wait_until_settled

DAY = 86_400
N_TASKS = 40
# Python imports a module of this name in each process that starts.
SITECUSTOMIZE = """
import os, time
real = time.time
time.time = lambda: real() + float(os.environ["CLOCK_AHEAD"])
"""

Json = dict[str, Any]


@pytest.fixture
def days_later(tmp_path: Path) -> Callable[[Backend, int], None]:
    """Return what starts a backend again, so many days later."""
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)

    def restart(backend: Backend, days: int) -> None:
        backend.stop()
        backend.start(PYTHONPATH=str(tmp_path), CLOCK_AHEAD=str(days * DAY))

    return restart


def test_they_go_after_three_days_but_for_those_that_annotations_name(
    api: httpx.Client,
    make_backend: Callable[..., Backend],
    make_project: Callable[..., Json],
    days_later: Callable[[Backend, int], None],
) -> None:
    project, backend, annotator = make_project(n_digits=N_TASKS), make_backend(EXEMPLAR_POLL="2"), Annotator(api)
    connect(api, project, backend)
    wait_until_ready(backend, project)
    for _ in range(3):
        annotator.submit_shown(_next(annotator, project))
    wait_until_settled(backend, project, answered=3)
    held = _next(annotator, project)  # open in a browser, from before the switch to long after it
    wait_until_settled(backend, project, answered=3)
    foreign = {"task": held["id"], "result": [], "score": 0.5, "model_version": "somebody-else"}
    api.post("/api/predictions", json=foreign | {"project": project["id"]}).raise_for_status()

    config = LABEL_CONFIG.replace('<Choice value="0"', '<Choice value="none"/><Choice value="0"')
    api.patch(f"/api/projects/{project['id']}/", json={"label_config": config}).raise_for_status()
    wait_for(lambda: set(_by_version(api, project)) >= {"exemplar-1", "exemplar-2"}, "the next generation")
    wait_until_settled(backend, project, answered=3)
    old = _by_version(api, project)["exemplar-1"]
    assert len(old) == N_TASKS

    days_later(backend, 2)
    wait_until_settled(backend, project, answered=3)
    annotator.submit_shown(held)
    wait_until_settled(backend, project, answered=4)
    assert _by_version(api, project)["exemplar-1"] == old, "somebody may still have a task open"

    annotations = _annotations(api, project)
    named = {annotation["parent_prediction"] for annotation in annotations}
    assert len(named) == 4
    assert named <= set(old)
    days_later(backend, 4)
    wait_for(lambda: set(_by_version(api, project)["exemplar-1"]) <= named, "the others to go")
    wait_until_settled(backend, project, answered=4)
    assert set(_by_version(api, project)["exemplar-1"]) == named
    assert _annotations(api, project) == annotations
    assert len(_by_version(api, project)["somebody-else"]) == 1
    assert len(rows(api, project)) == N_TASKS, "of the generation that is shown, none has gone"
    assert "took back 36 rows of former generations; 4 stay, because annotations name them" in backend.log


def _next(annotator: Annotator, project: Json) -> Json:
    task = annotator.next_task(project)
    assert task is not None
    return task


def _by_version(api: httpx.Client, project: Json) -> dict[str, dict[int, Json]]:
    """Return all predictions of a project by their ids, by model version."""
    found: dict[str, dict[int, Json]] = {}
    for row in api.get("/api/predictions", params={"project": project["id"]}).raise_for_status().json():
        del row["created_ago"]  # it grows by itself
        found.setdefault(row["model_version"], {})[row["id"]] = row
    return found


def _annotations(api: httpx.Client, project: Json) -> list[Json]:
    export = api.get(f"/api/projects/{project['id']}/export", params={"exportType": "JSON"}).raise_for_status()
    found = [annotation for task in export.json() for annotation in task["annotations"]]
    return sorted(found, key=lambda annotation: annotation["id"])
