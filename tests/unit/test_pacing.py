"""What annotators at work are spared: writes while they submit, and listings of all rows."""

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from exemplar.context import Project
from exemplar.pacing import (
    AT_WORK,
    AWAY,
    BEFORE_SUBMIT,
    BREAK,
    GONE_AFTER,
    LINGERING,
    RESTING_PAUSE,
    SETTLING,
    considerate,
    is_at_work,
)
from exemplar.rows.ledger import AT_WORK_LONGER, LEDGER_LIFE, LISTING_SHARE, Ledger
from exemplar.settings import Settings
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Connection

TOOK = 0.05


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self, at: float = 1000.0) -> None:
        self.at = at
        self._later: tuple[float, Callable[[], None]] = (np.inf, lambda: None)

    def __call__(self) -> float:
        return self.at

    def after(self, at: float, do: Callable[[], None]) -> None:
        self._later = (at, do)

    def sleep(self, seconds: float) -> None:
        self.at += seconds
        if self.at >= self._later[0]:
            _, do = self._later
            self._later = (np.inf, do)
            do()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for name in ("time", "monotonic"):
        monkeypatch.setattr(time, name, clock)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(
        Connection(key="1.1", url="http://studio"), ProjectStore(tmp_path), Mock(), Mock(), Settings(), Mock()
    )


def annotate(project: Project, clock: Clock, *intervals: float) -> None:
    """Let annotations come in at these intervals, the last one now."""
    project.store.note_annotation()
    for interval in intervals:
        clock.at += interval
        project.store.note_annotation()


def write(project: Project, clock: Clock, **options: Any) -> tuple[float, float]:
    """Make a request of TOOK; return how long it waited, and how long the next one has to."""
    asked = clock.at
    with considerate(project, **options):
        begun = clock.at
        clock.at += TOOK
    return begun - asked, round(clock.at - begun - TOOK, 6)


def test_writes_go_out_while_annotators_read_and_then_wait_for_the_next_submit(
    project: Project, clock: Clock
) -> None:
    annotate(project, clock, 12, 12, 13)
    assert write(project, clock) == (pytest.approx(SETTLING, abs=0.03), pytest.approx(0))
    clock.at += 5
    assert write(project, clock)[0] == pytest.approx(0)
    clock.at += 1  # half of the shortest interval is over
    assert write(project, clock, urgent=True)[0] == pytest.approx(0)
    waited, _ = write(project, clock)
    assert waited == pytest.approx(GONE_AFTER * 13 - SETTLING - 5 - 1 - 3 * TOOK, abs=0.1)  # until they are gone


def test_what_is_urgent_waits_less_long_for_who_lingers(project: Project, clock: Clock) -> None:
    annotate(project, clock, 3, 3, 60)
    clock.at += 3
    waited, pause = write(project, clock, urgent=True)
    assert waited == pytest.approx(LINGERING * 3 - 3, abs=0.03)
    assert pause == pytest.approx(RESTING_PAUSE * TOOK, abs=0.03)  # they may submit at any moment
    assert write(project, clock)[0] > 2 * 60


def test_of_the_quick_the_next_submit_is_expected_half_a_second_ahead(project: Project, clock: Clock) -> None:
    annotate(project, clock, 0.95, 0.95, 1)
    clock.at += 0.95 - BEFORE_SUBMIT - 0.01
    assert write(project, clock, urgent=True) == (0, 0)
    assert write(project, clock, urgent=True)[0] > 0.5


def test_a_submit_opens_the_gate_again(project: Project, clock: Clock) -> None:
    annotate(project, clock, 1, 1, 1)
    clock.at += 0.8
    asked = clock.at
    clock.after(asked + 0.3, project.store.note_annotation)
    waited, _ = write(project, clock)
    assert waited == pytest.approx(0.3 + SETTLING, abs=0.05)


def test_who_comes_back_from_a_break_meets_few_writes_and_nobody_is_waited_for_for_ever(
    project: Project, clock: Clock
) -> None:
    assert write(project, clock) == (0, 0)  # nobody was ever here
    annotate(project, clock, 2)
    clock.at += AT_WORK + 1
    assert write(project, clock) == (0, pytest.approx(RESTING_PAUSE * TOOK, abs=0.03))
    clock.at += AWAY
    assert write(project, clock) == (0, 0)


def test_something_newer_ends_any_wait(project: Project, clock: Clock) -> None:
    annotate(project, clock, 1, 1)
    assert write(project, clock, interrupted=lambda: True) == (0, 0)
    clock.at += AT_WORK
    assert write(project, clock, interrupted=lambda: True) == (0, 0)


def test_a_break_is_no_interval(project: Project, clock: Clock) -> None:
    annotate(project, clock, 12, 3 * BREAK, 12)
    clock.at += GONE_AFTER * 12 + 1
    assert not is_at_work(project)
    annotate(project, clock)
    assert is_at_work(project)


@pytest.mark.parametrize("damage", [b"", b"abc", b"\xff" * 48, struct.pack("<3d", -1.0, float("inf"), 9e9)])
def test_what_cannot_be_a_time_is_left_out(project: Project, clock: Clock, damage: bytes) -> None:
    annotated = project.store.folder / "annotated"
    annotated.write_bytes(damage)
    assert not is_at_work(project)
    annotated.write_bytes(damage[: len(damage) // 8 * 8])
    project.store.note_annotation()
    assert project.store.annotated_at() == [clock.at]
    assert is_at_work(project)


def test_rows_are_listed_when_annotators_pause_but_not_never(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    ledger = Ledger()
    assert ledger.is_stale(at_work=True)
    ledger.fill([])
    assert not ledger.is_stale(at_work=False)
    clock.at += LEDGER_LIFE
    assert ledger.is_stale(at_work=False)
    assert not ledger.is_stale(at_work=True)
    clock.at += LEDGER_LIFE * (AT_WORK_LONGER - 1)
    assert ledger.is_stale(at_work=True)
    ledger.fill([], seconds=10)
    clock.at += LISTING_SHARE * 10 - 1
    assert not ledger.is_stale(at_work=False)
