"""Accepting a set of predictions by a random draw of it: no error among so many means it keeps a promise.

The set and its generation are frozen, ``draw`` says which of its tasks annotators answer blind, ``judge`` what
follows. It covers exactly that set. A draw may be lengthened while it has no error, from 59 to 99 to 299, at no
loss of confidence: of the promises it then makes, the weakest is the first to be false.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, hypergeom

from exemplar.engine.propagation import UNLABELED
from exemplar.errors import InputError

PROMISES = (0.95, 0.97, 0.99)
ALPHA = 0.05

Verdict = Literal["accepted", "refused", "open"]


def alpha_of(attempt: int, *, alpha: float = ALPHA) -> float:
    """Return the risk of a false promise that an attempt may take: half of the one before.

    All attempts together stay below twice the first one's.

    >>> alpha_of(1), alpha_of(2), alpha_of(3)
    (0.05, 0.025, 0.0125)
    """
    if attempt < 1:
        raise InputError(f"attempt is {attempt}: expected 1 or more")
    return float(alpha / 2 ** (attempt - 1))


def sample_size(promise: float, *, attempt: int = 1, n_tasks: int | None = None, alpha: float = ALPHA) -> int:
    """Return how many tasks must be answered as predicted for a promise.

    Parameters
    ----------
    promise : float between 0 and 1
        The least agreement with annotators.
    attempt : int
        1 for the first draw, 2 after one that was refused.
    n_tasks : int, optional
        The size of the set: of a small one fewer are enough.
    alpha : float
        The risk that the first attempt may take.

    Raises
    ------
    InputError
        If an argument is out of its range.

    References
    ----------
    Hanley & Lippman-Hand (1983), "If nothing goes wrong, is everything all right?". Without replacement, the
    chance of no error is hypergeometric.

    Examples
    --------
    >>> [sample_size(promise) for promise in PROMISES]
    [59, 99, 299]
    >>> sample_size(0.95, attempt=2), sample_size(0.95, n_tasks=200)
    (72, 47)
    """
    _check_promise(promise)
    risk = alpha_of(attempt, alpha=alpha)
    n = math.ceil(math.log(risk) / math.log(promise))
    if n_tasks is None:
        return n
    if n_tasks < 1:
        raise InputError(f"n_tasks is {n_tasks}: expected 1 or more")
    return min(n, _of_finite(promise, n_tasks, risk))


def _of_finite(promise: float, n_tasks: int, risk: float) -> int:
    """Return the least draw that misses all errors with at most that risk, where the promise is just broken."""
    # Rounded first: (1 - 0.9) * 10 is a little less than the one error that the promise allows.
    n_wrong = math.floor(round((1 - promise) * n_tasks, 9)) + 1
    if n_wrong > n_tasks:
        return 1
    drawn = np.arange(n_tasks - n_wrong + 1)
    missed = np.cumprod((n_tasks - n_wrong - drawn) / (n_tasks - drawn))
    return int(np.argmax(missed <= risk)) + 1


def chance_to_pass(agreement: float, n_drawn: int, *, n_tasks: int) -> float:
    """Return how likely a draw holds no error, so that its set is accepted, if none of it is skipped.

    Parameters
    ----------
    agreement : float from 0 to 1
        The share of the set that annotators would answer as predicted; rounded to whole tasks.
    n_drawn, n_tasks : int
        The sizes of the draw and of the set.

    Raises
    ------
    InputError
        If an argument is out of its range.

    Examples
    --------
    >>> round(chance_to_pass(0.99, 58, n_tasks=1340), 2), chance_to_pass(1.0, 58, n_tasks=1340)
    (0.56, 1.0)
    """
    if not 0 <= agreement <= 1:
        raise InputError(f"agreement is {agreement}: expected from 0 to 1")
    if not 1 <= n_drawn <= n_tasks:
        raise InputError(f"n_drawn is {n_drawn}: expected from 1 to n_tasks, {n_tasks}")
    n_wrong = round((1 - agreement) * n_tasks)
    return float(hypergeom.pmf(0, n_tasks, n_wrong, n_drawn))


def draw(rows: NDArray[np.intp], n: int, *, random_state: int) -> NDArray[np.intp]:
    """Return n rows of a set at random, in random order; a longer draw begins with a shorter one.

    Parameters
    ----------
    rows : int array of shape (n_tasks,)
        The frozen set, each row once. Their order does not matter.
    n : int
        At least 1; all of a set with no more.
    random_state : int

    Raises
    ------
    InputError
        If a row stands there twice, or n is below 1.

    Examples
    --------
    >>> sorted(draw(np.array([3, 5, 8]), 9, random_state=0).tolist())
    [3, 5, 8]
    """
    distinct = np.unique(rows)
    if len(distinct) < len(rows):
        raise InputError(f"rows holds {len(rows) - len(distinct)} duplicates: expected each row once")
    if n < 1:
        raise InputError(f"n is {n}: expected 1 or more")
    drawn: NDArray[np.intp] = np.random.default_rng(random_state).permutation(distinct)[:n]
    return drawn


@dataclass(frozen=True)
class AcceptTest:
    """What a draw says of its set.

    Attributes
    ----------
    verdict : "accepted", "refused" or "open"
        Open while answers are missing and none was wrong.
    promise, risk : float
        That annotators agree with at least so much of the set; the risk taken of that being false.
    n_needed, n_right, n_wrong, n_unknown : int
        Tasks to be answered, answered as predicted, otherwise, and skipped.
    low : float
        What holds at that risk whatever the verdict: annotators agree with at least so much of the set, all skipped
        ones taken as wrong.
    """

    verdict: Verdict
    promise: float
    risk: float
    n_needed: int
    n_right: int
    n_wrong: int
    n_unknown: int
    low: float


def judge(
    predicted: NDArray[np.intp],
    answered: NDArray[np.intp],
    *,
    promise: float,
    attempt: int = 1,
    n_tasks: int | None = None,
) -> AcceptTest:
    """Judge a set by the answers to its draw, in the order of the draw.

    One error refuses it. So does a skip: it may hide an error, and another task in its place would favour easy
    ones.

    Parameters
    ----------
    predicted : int array of shape (n_drawn,)
        The frozen predictions of the drawn tasks that had their turn.
    answered : int array of shape (n_drawn,)
        The annotators' classes; UNLABELED = -1 where they skipped.
    promise, attempt, n_tasks
        As in ``sample_size``.

    Raises
    ------
    InputError
        If an argument is out of its range, or the arrays do not fit together.

    References
    ----------
    Clopper & Pearson (1934), one-sided.

    Examples
    --------
    >>> found = judge(np.zeros(59, int), np.zeros(59, int), promise=0.95)
    >>> found.verdict, round(found.low, 3)
    ('accepted', 0.95)
    >>> judge(np.zeros(9, int), np.zeros(9, int), promise=0.95).verdict
    'open'
    """
    predicted, answered = np.asarray(predicted), np.asarray(answered)
    if predicted.ndim != 1 or predicted.shape != answered.shape:
        raise InputError(
            f"classes of the shapes {predicted.shape} and {answered.shape}: expected two of (n_drawn,)"
        )
    n_needed = sample_size(promise, attempt=attempt, n_tasks=n_tasks)
    n_unknown = int(np.sum(answered == UNLABELED))
    n_right = int(np.sum((predicted == answered) & (answered != UNLABELED)))
    n_wrong = len(answered) - n_right - n_unknown
    verdict: Verdict = "refused" if n_wrong or n_unknown else "accepted" if n_right >= n_needed else "open"
    risk = alpha_of(attempt)
    low = float(beta.ppf(risk, n_right, len(answered) - n_right + 1)) if n_right else 0.0
    return AcceptTest(verdict, promise, risk, n_needed, n_right, n_wrong, n_unknown, low)


def _check_promise(promise: float) -> None:
    if not 0 < promise < 1:
        raise InputError(f"promise is {promise}: expected between 0 and 1")
