"""One row a task: rows are brought along in place, and those of former generations go by themselves."""

import time
from typing import Any

import pytest

from conftest import LABEL_CONFIG
from exemplar.labelstudio.client import Client
from exemplar.rows import Ledger, generation_number
from exemplar.rows.former import KEPT
from exemplar.rows.scores import SAME
from exemplar.store.records import Done
from flows.conftest import N_TASKS, Flow, MakeFlow
from flows.fake_state import Json

DAY = 86_400.0


class Clock:
    """The system's clock, which a test sets forward."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._real = time.time

    def __call__(self) -> float:
        return self._real() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


def ours(flow: Flow, project: Json) -> list[Json]:
    """Return all rows of ours, of whatever generation."""
    rows = flow.studio.state.predictions_of(project["id"])
    return [row for row in rows if generation_number(row["model_version"]) is not None]


def former(flow: Flow, project: Json) -> dict[int, Json]:
    return {row["id"]: row for row in ours(flow, project) if row["model_version"] != project["model_version"]}


def with_another_config(flow: Flow) -> Json:
    """A project with three answers whose label config has then changed: two generations of rows."""
    project = flow.project()
    flow.settle(project)
    flow.label(project, 3)
    flow.settle(project)
    config = LABEL_CONFIG.replace('<Choice value="0"', '<Choice value="none"/><Choice value="0"')
    flow.studio.state.patch_project(project["id"], {"label_config": config})
    flow.settle(project)
    assert project["model_version"] == "exemplar-2"
    assert former(flow, project)
    return project


# ── In place ─────────────────────────────────────────────────────────────────────────────────────────────


def test_however_many_rows_differ_after_however_long_they_are_brought_along_in_place(
    flow: Flow, clock: Clock
) -> None:
    flow.extra_params = {"n_clusters": 5, "batch_size": 8}
    project = flow.project(1100)
    flow.settle(project)
    flow.label(project, 8)
    flow.settle(project)
    assert len(ours(flow, project)) == 1100
    ids = {row["id"] for row in ours(flow, project)}
    for row in ours(flow, project):
        row["score"], row["result"] = 0.5, []
    clock.ahead = 3600
    flow.store(project).raise_number("orders")
    flow.settle(project)
    assert {row["id"] for row in ours(flow, project)} == ids
    assert project["model_version"] == "exemplar-1"
    snapshot = flow.snapshot(project)
    for task_id, (choice, score) in flow.contents(project).items():
        row = snapshot.row(task_id)
        shown = int(snapshot.shown[row])
        assert choice == (None if shown < 0 else snapshot.facts.labeling.classes[shown])
        assert abs(score - snapshot.scores[row]) <= SAME


def test_a_start_training_is_exact_also_if_an_answer_comes_in_between(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = flow.project()
    flow.settle(project)
    flow.label(project, 8)
    flow.settle(project)
    for row in ours(flow, project):
        row["score"] = min(row["score"] + 0.01, 0.9999)  # within what an answer leaves as it is
    patch = Client.patch_prediction
    n_patched = 0

    def interrupt(client: Client, *args: Any, **values: Any) -> None:
        nonlocal n_patched
        patch(client, *args, **values)
        n_patched += 1
        if n_patched == 2:
            flow.store(project).raise_number("webhooks")

    monkeypatch.setattr(Client, "patch_prediction", interrupt)
    flow.store(project).raise_number("orders")
    assert flow.run(project).pending
    assert flow.store(project).done().exact
    flow.settle(project)
    assert not flow.store(project).done().exact
    snapshot = flow.snapshot(project)
    for task_id, (_, score) in flow.contents(project).items():
        assert abs(score - snapshot.scores[snapshot.row(task_id)]) <= SAME


# ── Former generations ───────────────────────────────────────────────────────────────────────────────────


def test_the_rows_of_a_former_generation_go_when_nobody_can_hold_a_task_of_theirs(flow: Flow, clock: Clock) -> None:
    project = with_another_config(flow)
    foreign = flow.studio.state.create_prediction(
        {"task": flow.queue(project)[0], "score": 0.5, "model_version": "somebody-else"}
    )
    old, current = former(flow, project), flow.contents(project)
    annotations = [dict(annotation) for annotation in flow.studio.state.annotations.values()]
    named = {annotation["parent_prediction"] for annotation in annotations}
    assert named & set(old)

    clock.ahead = KEPT - 3600
    flow.settle(project)
    assert former(flow, project) == old

    clock.ahead = KEPT + 3600
    flow.settle(project)
    assert set(former(flow, project)) == named & set(old), "those that annotations name stay with them"
    assert [dict(annotation) for annotation in flow.studio.state.annotations.values()] == annotations
    assert flow.contents(project) == current
    assert project["model_version"] == "exemplar-2"
    assert flow.studio.state.predictions[foreign["id"]] == foreign


def test_whoever_opened_a_task_before_the_switch_submits_it_two_days_later(flow: Flow, clock: Clock) -> None:
    project = flow.project()
    flow.settle(project)
    task = flow.studio.next_task(project)
    assert task is not None
    opened_with = flow.rows(project)[task["id"]]["id"]
    config = LABEL_CONFIG.replace('<Choice value="0"', '<Choice value="none"/><Choice value="0"')
    flow.studio.state.patch_project(project["id"], {"label_config": config})
    flow.settle(project)
    clock.ahead = 2 * DAY
    flow.settle(project)
    values = {"result": [], "lead_time": 2.5, "parent_prediction": opened_with}
    annotation = flow.studio.state.create_annotation(task["id"], values, user=1)
    clock.ahead = KEPT + 3 * DAY
    flow.settle(project)
    assert set(former(flow, project)) == {opened_with}
    assert flow.studio.state.annotations[annotation["id"]]["parent_prediction"] == opened_with


def test_a_row_that_was_written_lately_stays_as_long(flow: Flow, clock: Clock) -> None:
    """Of two rows for one task the newer is put aside: somebody may just have opened the task with it."""
    project = flow.project()
    flow.settle(project)
    row = next(iter(flow.rows(project).values()))
    double = flow.studio.state.create_prediction({**row, "score": 0.1})
    flow.store(project).raise_number("orders")
    flow.settle(project)
    assert set(former(flow, project)) == {double["id"]}
    assert flow.studio.state.predictions[double["id"]]["model_version"] == "exemplar-0"
    clock.ahead = 2 * DAY
    flow.settle(project)
    assert former(flow, project)
    clock.ahead = KEPT + 3600
    flow.settle(project)
    assert not former(flow, project)


def test_taking_back_gives_way_to_annotators_and_goes_on(
    flow: Flow, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = with_another_config(flow)
    n_before = len(former(flow, project))
    delete = Client.delete_prediction
    n_deleted = 0

    def interrupt(client: Client, prediction_id: int) -> None:
        nonlocal n_deleted
        delete(client, prediction_id)
        n_deleted += 1
        if n_deleted == 2:
            flow.store(project).raise_number("webhooks")

    monkeypatch.setattr(Client, "delete_prediction", interrupt)
    clock.ahead = KEPT + 3600
    ledger = Ledger()
    assert flow.run(project, ledger=ledger).pending
    assert len(former(flow, project)) == n_before - 2
    while flow.run(project, ledger=ledger).pending:
        pass
    assert n_deleted > 2
    named = {annotation["parent_prediction"] for annotation in flow.studio.state.annotations.values()}
    assert set(former(flow, project)) <= named


def test_after_that_idle_is_idle_again(flow: Flow, clock: Clock) -> None:
    project = with_another_config(flow)
    clock.ahead = KEPT + 3600
    flow.settle(project)
    assert former(flow, project), "some stay"
    before = len(flow.studio.requests)
    flow.run(project)
    looked = [path for _, path in flow.studio.requests[before:] if "prediction" in path or "annotations" in path]
    assert not looked


def test_without_a_note_of_when_it_was_shown_the_time_begins_anew(flow: Flow, clock: Clock) -> None:
    project = with_another_config(flow)
    old = former(flow, project)
    clock.ahead = KEPT + 3600
    (flow.store(project).folder / "shown.json").unlink()
    flow.settle(project)
    assert former(flow, project) == old
    clock.ahead = 2 * KEPT + 7200
    flow.settle(project)
    assert set(former(flow, project)) < set(old)


def test_what_a_person_lets_label_studio_show_is_not_taken_back(make_flow: MakeFlow, clock: Clock) -> None:
    flow = make_flow(manage=False)
    project = flow.project()
    flow.settle(project)
    flow.studio.state.patch_project(project["id"], {"model_version": "exemplar-1"})
    config = LABEL_CONFIG.replace('name="digit"', 'name="number"')
    flow.studio.state.patch_project(project["id"], {"label_config": config})
    flow.settle(project)
    shown = flow.rows(project)
    assert shown
    clock.ahead = 2 * KEPT
    flow.settle(project)
    assert flow.rows(project) == shown


def test_what_a_version_before_left_behind_goes_too(flow: Flow, clock: Clock) -> None:
    """4 001 predictions for 2 000 texts: an earlier version imported another generation and left the first."""
    project = flow.project()
    flow.settle(project)
    flow.label(project, 8)
    flow.settle(project)
    for row in flow.rows(project).values():
        row["model_version"] = "exemplar-2"
    project["model_version"] = "exemplar-2"
    tasks = flow.studio.state.tasks_of(project["id"])
    for task in tasks:
        flow.studio.state.create_prediction({"task": task["id"], "score": -0.5, "model_version": "exemplar-1"})
    flow.forget()
    flow.studio.list_backends(project["id"])
    flow.settle(project)
    assert len(former(flow, project)) == N_TASKS
    assert flow.store(project).done() != Done()
    clock.ahead = KEPT + 3600
    flow.settle(project)
    assert not former(flow, project)
    assert len(ours(flow, project)) == N_TASKS
