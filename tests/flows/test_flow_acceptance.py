"""The accept rule from the command to the verdict, with the default method."""

import csv
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from exemplar import cli
from exemplar.commands.accept import accept
from exemplar.commands.report import report
from exemplar.engine import chance_to_pass, sample_size
from exemplar.errors import InputError, SettingError, UnknownProjectError
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
    accept(flow.settings, project["id"], min_confidence=sure_and_right(flow, project))
    flow.settle(project)
    answer_draw(flow, project, 10)
    frozen = flow.store(project).accept_set()
    assert frozen is not None
    # An audit may be drawn, too, also one whose prediction was written down before.
    drawn_audits = {entry.task for entry in flow.store(project).audit_log()} & set(frozen.drawn)
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


def test_a_look_shows_what_would_be_and_freezes_nothing(flow: Flow) -> None:
    project = labelled(flow)
    shown: list[str] = []
    answer = accept(flow.settings, project["id"], agrees=lambda look: bool(shown.append(look)))
    assert "nothing was frozen" in answer
    assert flow.store(project).accept_set() is None
    (look,) = shown
    n = 300 - flow.snapshot(project).facts.n_answered
    assert f"would freeze {n} predictions and ask {sample_size(0.95, n_tasks=n)} of them" in look
    assert "at least 95%" in look
    assert "ends" not in look
    chances = re.findall(r"^ +([\d.]+)% +(\d+)%( .*)?$", look, re.MULTILINE)
    for agreement, chance, _ in chances:
        exact = chance_to_pass(float(agreement) / 100, sample_size(0.95, n_tasks=n), n_tasks=n)
        assert abs(exact - float(chance) / 100) < 0.05  # both are rounded
    assert [float(agreement) for agreement, *_ in chances] == sorted((float(a) for a, *_ in chances), reverse=True)
    assert any("as sure as these predictions are" in whose for *_, whose in chances)


def test_an_open_set_is_replaced_only_with_again_which_says_what_it_ends(flow: Flow) -> None:
    project = labelled(flow)
    accept(flow.settings, project["id"])
    before = flow.store(project).accept_set()
    told = accept(flow.settings, project["id"], promise=0.99)
    assert "open, 0 of" in told
    assert "--again" in told
    assert "--again" not in accept(flow.settings, project["id"], promise=0.95)
    assert flow.store(project).accept_set() == before
    shown: list[str] = []
    accept(flow.settings, project["id"], again=True, agrees=lambda look: bool(shown.append(look)))
    assert "It ends attempt 1" in shown[0]
    assert "open, 0 of" in shown[0]
    assert flow.store(project).accept_set() == before


def test_a_set_that_was_frozen_while_one_was_asked_is_not_replaced(flow: Flow) -> None:
    project = labelled(flow)

    def slow_to_agree(look: str) -> bool:
        accept(flow.settings, project["id"])
        return True

    with pytest.raises(InputError, match="frozen meanwhile"):
        accept(flow.settings, project["id"], agrees=slow_to_agree)
    frozen = flow.store(project).accept_set()
    assert frozen is not None
    assert frozen.attempt == 1


def test_what_is_answered_while_one_is_asked_is_not_frozen(flow: Flow) -> None:
    project = labelled(flow)
    answered: list[int] = []

    def answer_first(look: str) -> bool:
        answered.extend(flow.label(project, 3))
        flow.settle(project)
        return True

    accept(flow.settings, project["id"], agrees=answer_first)
    frozen = flow.store(project).accept_set()
    assert frozen is not None
    assert not set(answered) & set(frozen.tasks)


def accept_by_command(
    flow: Flow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str, at: str = ""
) -> tuple[int, str]:
    """Type the command, at a terminal where ``at`` is typed, or without one; return its code and what it said."""
    monkeypatch.setenv("MODEL_DIR", str(flow.settings.model_dir))
    monkeypatch.setattr(sys, "argv", ["exemplar", "accept", *words])
    typed = io.StringIO(at)
    typed.isatty = lambda: bool(at)  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", typed)
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    said = capsys.readouterr()
    return code, said.out + said.err


def test_the_command_asks_at_a_terminal_and_freezes_nothing_without_one(
    flow: Flow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = labelled(flow)
    for words, at, code_expected, frozen_expected in (
        (["--look"], "", 0, False),
        ([], "", 1, False),
        ([], "n\n", 0, False),
        (["--promise", "0.97"], "y\n", 0, True),
    ):
        code, text = accept_by_command(flow, monkeypatch, capsys, str(project["id"]), *words, at=at)
        assert code == code_expected, text
        assert "would freeze" in text
        assert (flow.store(project).accept_set() is not None) == frozen_expected
    frozen = flow.store(project).accept_set()
    assert frozen is not None
    assert frozen.promise == pytest.approx(0.97)
    code, text = accept_by_command(
        flow, monkeypatch, capsys, str(project["id"]), "--again", "--yes", "--promise", "95%"
    )
    assert code == 0, text
    frozen = flow.store(project).accept_set()
    assert frozen is not None
    assert (frozen.attempt, frozen.promise) == (2, 0.95)


def test_labels_that_cannot_be_written_are_a_clear_error(flow: Flow, tmp_path: Path) -> None:
    project = labelled(flow)
    accept(flow.settings, project["id"], min_confidence=sure_and_right(flow, project))
    frozen = flow.store(project).accept_set()
    assert frozen is not None
    flow.settle(project)
    answer_draw(flow, project, len(frozen.drawn))
    for path in (tmp_path / "no such folder" / "labels.csv", tmp_path):
        with pytest.raises(SettingError, match=r"--save=.*: expected a file in a folder that exists"):
            accept(flow.settings, project["id"], save=path)
