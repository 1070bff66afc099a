"""The accept rule from the command to the verdict, with the default method."""

import csv
from pathlib import Path

import numpy as np
import pytest

from exemplar.commands.accept import accept
from exemplar.commands.report import report
from exemplar.errors import InputError, UnknownProjectError
from exemplar.rows import queue_scores
from flows.conftest import Flow, MakeFlow, said, truth
from flows.fake_state import Json

N_TASKS = 300


@pytest.fixture
def flow(make_flow: MakeFlow) -> Flow:
    flow = make_flow(propagation="graph", queue="herding", classifier="neighbors", audit_share=4.0)
    flow.extra_params = {}
    return flow


def labelled(flow: Flow, n: int = 60) -> Json:
    project = flow.project(N_TASKS)
    flow.settle(project)
    for _ in range(n // 10):
        flow.label(project, 10)
        flow.settle(project)
    return project


def sure_and_right(flow: Flow, project: Json) -> float:
    """Return a confidence above which every prediction is right."""
    snapshot = flow.snapshot(project)
    truths = [truth(flow.studio.state.task(task_id)) for task_id in snapshot.task_ids.tolist()]
    wrong = snapshot.choices != np.array(truths, int)
    return float(snapshot.distributions.max(axis=1)[wrong].max(initial=0.0)) + 1e-6


def answer_draw(flow: Flow, project: Json, n: int, *, wrong_at: int | None = None) -> list[int]:
    """Answer n tasks as they come from Label Studio, and check that they are those drawn, in order and blind."""
    frozen = flow.store(project).accept_set()
    assert frozen is not None
    asked = []
    for i in range(n):
        task = flow.studio.next_task(project)
        assert task is not None
        assert task["id"] == frozen.drawn[i]
        assert said(flow.rows(project)[task["id"]]) is None
        right = truth(task)
        flow.studio.submit(task, str((int(right) + 1) % 10) if i == wrong_at else right)
        asked.append(task["id"])
    flow.settle(project)
    return asked


def test_a_set_without_an_error_in_its_draw_is_accepted_and_saved(flow: Flow, tmp_path: Path) -> None:
    project = labelled(flow)
    bound = sure_and_right(flow, project)
    before = flow.snapshot(project)
    started = accept(flow.settings, project["id"], min_confidence=bound)
    frozen = flow.store(project).accept_set()
    assert frozen is not None
    assert f"{len(frozen.tasks)} predictions are frozen; {len(frozen.drawn)} of them" in started
    flow.settle(project)
    assert "open, 0 of" in accept(flow.settings, project["id"])
    with pytest.raises(InputError, match="expected an accepted set"):
        accept(flow.settings, project["id"], save=tmp_path / "labels.csv")
    answer_draw(flow, project, len(frozen.drawn))
    assert "accepted, annotators agree with at least 95%" in accept(flow.settings, project["id"])
    assert "accepted" in "\n".join(report(flow.settings, project["id"]))
    accept(flow.settings, project["id"], save=tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open() as file:
        saved = {int(row["task"]): row["label"] for row in csv.DictReader(file)}
    assert set(saved) == set(frozen.tasks)
    assert all(saved[id_] == str(before.choices[before.row(id_)]) for id_ in saved)
    assert all(saved[id_] == truth(flow.studio.state.task(id_)) for id_ in saved)


def test_one_error_refuses_and_the_next_attempt_takes_half_the_risk(flow: Flow) -> None:
    project = labelled(flow)
    bound = sure_and_right(flow, project)
    accept(flow.settings, project["id"], min_confidence=bound)
    flow.settle(project)
    frozen = flow.store(project).accept_set()
    assert frozen is not None
    assert flow.queue(project)[: len(frozen.drawn)] == list(frozen.drawn)
    answer_draw(flow, project, 3, wrong_at=2)
    assert "refused, not shown to agree at 95%: 1 answered otherwise" in accept(flow.settings, project["id"])
    # The rest of the draw is asked no more: the queue goes on.
    assert min(row["score"] for row in flow.rows(project).values()) >= queue_scores(np.array([0]))[0]
    assert "Attempt 2 may take half the risk" in accept(
        flow.settings, project["id"], min_confidence=bound, again=True
    )
    flow.settle(project)
    assert flow.snapshot(project).facts.honesty["acceptance"]["risk"] == 0.025


def test_a_skip_refuses(flow: Flow) -> None:
    project = labelled(flow)
    accept(flow.settings, project["id"])
    flow.settle(project)
    task = flow.studio.next_task(project)
    flow.studio.skip(task)
    flow.settle(project)
    assert "1 skipped or gone" in accept(flow.settings, project["id"])


def test_drawn_tasks_are_no_audits(flow: Flow) -> None:
    project = labelled(flow)
    n_audits = flow.snapshot(project).facts.honesty["accuracy"]["n_audits"]
    before = {entry.task for entry in flow.store(project).audit_log()}
    accept(flow.settings, project["id"], min_confidence=sure_and_right(flow, project))
    flow.settle(project)
    answer_draw(flow, project, 10)
    logged = {entry.task for entry in flow.store(project).audit_log()} - before
    frozen = flow.store(project).accept_set()
    assert frozen is not None
    drawn_audits = logged & set(frozen.drawn)
    assert len(drawn_audits) < 10
    assert flow.snapshot(project).facts.honesty["accuracy"]["n_audits"] <= n_audits + len(drawn_audits)


def test_another_label_config_voids_the_set(flow: Flow) -> None:
    project = labelled(flow)
    accept(flow.settings, project["id"])
    flow.settle(project)
    config = project["label_config"].replace('<Choice value="9"', '<Choice value="nine"')
    flow.studio.state.projects[project["id"]]["label_config"] = config
    flow.settle(project)
    assert "void" in accept(flow.settings, project["id"])


def test_nothing_so_sure_is_a_clear_error(flow: Flow) -> None:
    project = labelled(flow, 20)
    with pytest.raises(InputError, match="expected less, no prediction"):
        accept(flow.settings, project["id"], min_confidence=1.1)
    with pytest.raises(InputError, match="promise is 1"):
        accept(flow.settings, project["id"], promise=1.0)
    with pytest.raises(UnknownProjectError):
        accept(flow.settings, 4711)
