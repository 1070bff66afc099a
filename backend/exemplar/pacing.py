"""When the requests of a long series go out: while annotators read, not while they submit.

Label Studio is one process over one database: a Submit that meets a write of ours takes up to twice as long. So
writes keep to the rhythm of the annotators. After a Submit comes a while in which nobody submits, about half of
the shortest interval that they took lately, and never the last half second before the next Submit is expected; then
nothing is written until that Submit, or until they seem to linger over a task or to be gone.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from statistics import median

from exemplar.context import Project

# Right after its webhook, Label Studio still works on a Submit, and then looks for the next task.
SETTLING = 0.15
# Writes go out in this share of the shortest recent interval between two annotations, urgent ones in more of it.
READING, URGENT_READING = 0.5, 0.7
# What was written shortly before still costs a Submit: to annotators of one second a task, 4 to 8 % of the median.
BEFORE_SUBMIT = 0.5
# However quick they are, this much of a while there is after SETTLING.
SHORTEST_WINDOW = 0.3
# The interval that is believed of annotators who have just begun.
TYPICAL_INTERVAL = 2.0
# Annotators are gone after so many of their longest recent intervals; a break is no interval. What is urgent waits
# for so many of the median ones: by then they look at this task longer than at others.
GONE_AFTER, LINGERING = 2.5, 1.5
BREAK = 60.0
# They are at work for so many seconds at least.
AT_WORK = 10.0
# When they linger or are gone, each request is followed by a pause of so many times its own duration: whoever comes
# back shall hardly notice. After so many seconds without an annotation nobody is expected.
RESTING_PAUSE = 2.0
AWAY = 120.0


def is_at_work(project: Project) -> bool:
    """Return whether annotators are at work."""
    recent = project.store.annotated_at()
    return bool(recent) and time.time() - recent[-1] < _patience(recent)


@contextmanager
def considerate(
    project: Project, *, interrupted: Callable[[], bool] = lambda: False, urgent: bool = False
) -> Iterator[None]:
    """Make one request of a long series when annotators feel least of it."""
    _wait(lambda: is_open(project.store.annotated_at(), time.time(), urgent=urgent), interrupted)
    started = time.monotonic()
    yield
    ended = time.monotonic()
    pause = _resting_pause(project.store.annotated_at(), time.time()) * (ended - started)
    _wait(lambda: time.monotonic() >= ended + pause, interrupted)


def is_open(recent: Sequence[float], now: float, *, urgent: bool = False) -> bool:
    """Return whether a write would meet nobody's Submit, as far as the annotators' rhythm tells.

    Parameters
    ----------
    recent : sequence of float
        When the last annotations came in, the newest last, in seconds since the epoch.
    now : float
    urgent : bool
        Of what annotators see next.

    Examples
    --------
    >>> [is_open([0, 10, 20], now) for now in (20.1, 21, 24.9, 25.1, 40)]
    [False, True, True, False, False]
    >>> [is_open([0, 10, 20], now, urgent=True) for now in (26, 28, 36)]
    [True, False, True]
    >>> is_open([0, 10, 20], 46)
    True
    """
    if not recent or now - recent[-1] >= _patience(recent):
        return True
    if urgent and _linger(recent, now):
        return True
    shortest = min(_intervals(recent))
    share = URGENT_READING if urgent else READING
    return SETTLING <= now - recent[-1] <= min(share * shortest, max(shortest - BEFORE_SUBMIT, SHORTEST_WINDOW))


def _intervals(recent: Sequence[float]) -> list[float]:
    intervals = [later - earlier for earlier, later in pairwise(recent)]
    return [interval for interval in intervals if interval <= BREAK] or [TYPICAL_INTERVAL]


def _patience(recent: Sequence[float]) -> float:
    return max(AT_WORK, GONE_AFTER * max(_intervals(recent)))


def _linger(recent: Sequence[float], now: float) -> bool:
    return now - recent[-1] > LINGERING * median(_intervals(recent))


def _resting_pause(recent: Sequence[float], now: float) -> float:
    if not recent or now - recent[-1] >= AWAY or not _linger(recent, now):
        return 0.0
    return RESTING_PAUSE


def _wait(over: Callable[[], bool], interrupted: Callable[[], bool]) -> None:
    while not over() and not interrupted():
        time.sleep(0.02)
