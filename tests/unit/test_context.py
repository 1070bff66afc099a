"""What annotators at work are spared: pauses between writes, and listings of all rows."""

import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from exemplar.context import AT_WORK, Project, considerate
from exemplar.rows.ledger import AT_WORK_LONGER, LEDGER_LIFE, LISTING_SHARE, Ledger
from exemplar.settings import Settings
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Connection

TOOK = 0.05


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self, at: float = 1000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for name in ("time", "monotonic"):
        monkeypatch.setattr(time, name, clock)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock


def pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, *, since: float, **options: Any) -> float:
    """Return how long a request of TOOK is followed by a pause, an annotation's seconds before it ended."""
    connection = Connection(key="1.1", url="http://studio")
    project = Project(connection, ProjectStore(tmp_path), Mock(), Mock(), Settings())
    annotated = clock.at + TOOK - since
    monkeypatch.setattr(ProjectStore, "raised_at", lambda store, kind: annotated)
    with considerate(project, **options):
        clock.at += TOOK
    return clock.at - 1000.0 - TOOK


def test_the_rest_waits_long_and_what_is_urgent_goes_on_once_somebody_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    assert pause(tmp_path, monkeypatch, clock, since=5) == pytest.approx(20 * TOOK, abs=0.03)
    clock.at = 1000.0
    assert pause(tmp_path, monkeypatch, clock, since=5, urgent=True) == pytest.approx(2 * TOOK, abs=0.03)
    clock.at = 1000.0
    # Annotated 0.6 s ago: at 1 s they read.
    assert pause(tmp_path, monkeypatch, clock, since=0.6, urgent=True) == pytest.approx(0.4, abs=0.03)


def test_nobody_at_work_or_something_newer_ends_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    assert pause(tmp_path, monkeypatch, clock, since=AT_WORK + 1) == pytest.approx(0)
    clock.at = 1000.0
    assert pause(tmp_path, monkeypatch, clock, since=AT_WORK - 0.1) == pytest.approx(0.1, abs=0.03)
    clock.at = 1000.0
    assert pause(tmp_path, monkeypatch, clock, since=1, interrupted=lambda: True) == pytest.approx(0)


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
