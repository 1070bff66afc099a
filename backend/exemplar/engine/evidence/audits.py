"""Audits: tasks drawn by a hash and asked blind, so that what they say of the model is not the model's doing.

An audit may train the model like any other answer, and is then predicted without its own (leave-one-out). But the
queue must not know of it: it may neither choose a task that is kept for audits nor see an audit's answer. A queue
that does sees no need to ask near an audit, and without the audit's own answer a hole is left there that is nowhere
else: on 77 classes, 300 labels, the audits were 4 points too pessimistic (0.3 ± 0.8 with a queue that is blind).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from exemplar.engine.propagation import UNLABELED
from exemplar.errors import InputError

# Fewer say next to nothing: an interval of 30 is up to 37 points wide.
MIN_AUDITS = 30


def hash_ranks(keys: Sequence[str], *, seed: int = 0, purpose: str = "audit") -> NDArray[np.float64]:
    """Return for each task a number in [0, 1) as good as drawn at random, and always the same for its key.

    Whatever is drawn in the order of the ranks is a random sample, and stays in it when tasks join the pool.

    Parameters
    ----------
    keys : sequence of str
        What names a task for ever.
    seed : int
    purpose : str
        Of at most 16 bytes; the draws of two purposes are independent.

    Examples
    --------
    >>> hash_ranks(["task 1", "task 2"]).round(3)
    array([0.446, 0.32 ])
    """
    person = purpose.encode()
    if len(person) > hashlib.blake2b.PERSON_SIZE:
        raise InputError(f"purpose is {purpose!r}: expected at most {hashlib.blake2b.PERSON_SIZE} bytes")
    key = repr(int(seed)).encode()
    digests = (hashlib.blake2b(k.encode(), digest_size=8, key=key, person=person).digest() for k in keys)
    # A float has 53 bits: more would round the largest ranks up to 1.
    return np.array([(int.from_bytes(digest) >> 11) / 2**53 for digest in digests], np.float64)


def is_audit(keys: Sequence[str], share: float, *, seed: int = 0) -> NDArray[np.bool_]:
    """Return which tasks are kept for audits; a larger share keeps them all.

    Parameters
    ----------
    keys : sequence of str
    share : float in [0, 1]
    seed : int

    Returns
    -------
    is_audit : bool array of shape (n_tasks,)

    Raises
    ------
    InputError
        If the share is none.

    Examples
    --------
    >>> is_audit(["task 1", "task 2"], 0.4)
    array([False,  True])
    """
    if not 0 <= share <= 1:
        raise InputError(f"share is {share}: expected 0 to 1")
    return hash_ranks(keys, seed=seed) < share


def clopper_pearson(right: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share of which ``right`` in ``n`` were seen.

    Raises
    ------
    InputError
        If not 0 <= right <= n, or the confidence is none.

    References
    ----------
    Clopper & Pearson (1934), "The use of confidence or fiducial limits illustrated in the case of the binomial".

    Examples
    --------
    >>> low, high = clopper_pearson(29, 30)
    >>> round(low, 3), round(high, 3)
    (0.828, 0.999)
    """
    if not 0 <= right <= n:
        raise InputError(f"right is {right} of n = {n}: expected 0 <= right <= n")
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}: expected between 0 and 1")
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, right, n - right + 1)) if right > 0 else 0.0
    high = float(beta.ppf(1 - tail, right + 1, n - right)) if right < n else 1.0
    return low, high


@dataclass(frozen=True)
class AccuracyEstimate:
    """How often a model says what annotators say, by audits.

    Attributes
    ----------
    n_audits : int
        Audits that had their turn: answered and skipped.
    n_right : int
        Answered as predicted.
    n_unknown : int
        Skipped: nobody knows what the right answer would have been.
    rate : float
        Of the answered ones, the share as predicted; NaN where none is.
    low, high : float
        The interval, wide enough for all unknown ones being wrong, or all right.
    population : str
        Which tasks the estimate speaks for.
    generation : str
        Which predictions.
    """

    n_audits: int
    n_right: int
    n_unknown: int
    rate: float
    low: float
    high: float
    population: str
    generation: str

    @property
    def n_answered(self) -> int:
        """How many audits an annotator answered."""
        return self.n_audits - self.n_unknown

    @property
    def is_shown(self) -> bool:
        """Whether there are audits enough to show a percentage."""
        return self.n_answered >= MIN_AUDITS


def estimate_accuracy(
    predicted: NDArray[np.intp],
    answered: NDArray[np.intp],
    *,
    population: str,
    generation: str,
    confidence: float = 0.95,
) -> AccuracyEstimate:
    """Estimate a model's accuracy by the audits that had their turn.

    It speaks for tasks drawn at random from the pool, each predicted without its own answer, that the queue did not
    choose: the audits not yet asked, and new tasks of the same kind. The rest of the pool is usually
    predicted a little better, as the queue has taken the hard ones out. "Accurate" is what an annotator would say,
    mistakes included. The interval holds for a look at a time fixed beforehand: who annotates until it looks good
    finds it too good.

    Parameters
    ----------
    predicted : int array of shape (n_audits,)
        The model's classes, without the audit's own answer where it trained (``leave_one_out``: a model with one
        answer less). UNLABELED = -1 where the model had nothing to say, which counts as wrong.
    answered : int array of shape (n_audits,)
        The annotators' classes; UNLABELED where they skipped.
    population, generation : str
        What to call the tasks and the model.
    confidence : float

    Raises
    ------
    InputError
        If the arrays do not fit together.

    References
    ----------
    Clopper & Pearson (1934). Unknown answers are bounded as in Manski (1989), "Anatomy of the selection problem".

    Examples
    --------
    >>> found = estimate_accuracy(np.array([0, 1, 1, 0]), np.array([0, 1, 0, -1]), population="all", generation="7")
    >>> found.n_right, found.n_unknown, round(found.rate, 2), round(found.low, 2), found.is_shown
    (2, 1, 0.67, 0.07, False)
    """
    right, unknown = _compared(predicted, answered)
    n, n_right, n_unknown = len(right), int(right.sum()), int(unknown.sum())
    low, _ = clopper_pearson(n_right, n, confidence=confidence)
    _, high = clopper_pearson(n_right + n_unknown, n, confidence=confidence)
    rate = n_right / (n - n_unknown) if n > n_unknown else float("nan")
    return AccuracyEstimate(n, n_right, n_unknown, rate, low, high, population, generation)


@dataclass(frozen=True)
class Agreement:
    """How often annotators left a pre-annotation as it was: no measure of accuracy, for they saw it."""

    n: int
    n_same: int

    @property
    def rate(self) -> float:
        """The share left as it was; NaN where none was answered."""
        return self.n_same / self.n if self.n else float("nan")


def agreement(shown: NDArray[np.intp], answered: NDArray[np.intp]) -> Agreement:
    """Compare what annotators saw with what they answered; tasks skipped or shown empty are left out.

    Parameters
    ----------
    shown, answered : int arrays of shape (n_tasks,)
        Classes; UNLABELED = -1 where nothing was shown, or nothing answered.

    Raises
    ------
    InputError
        If the arrays do not fit together.

    Examples
    --------
    >>> agreement(np.array([0, 1, 1, -1]), np.array([0, 1, 0, 1]))
    Agreement(n=3, n_same=2)
    """
    same, unknown = _compared(shown, answered)
    both = ~unknown & (np.asarray(shown) != UNLABELED)
    return Agreement(int(both.sum()), int(same[both].sum()))


def leave_one_out_rate(q: NDArray[np.float32], y: NDArray[np.intp]) -> float:
    """Return how many labelled tasks their fellows predict right: a model's word on itself, no audit.

    The tasks were chosen by the queue, which prefers hard ones, so it is often too low.

    Parameters
    ----------
    q : array of shape (n_labeled, n_classes)
        As ``leave_one_out`` returns it; a row of zeros predicts nothing and counts as wrong.
    y : int array of shape (n_labeled,)

    Raises
    ------
    InputError
        If they do not fit together.

    Examples
    --------
    >>> leave_one_out_rate(np.float32([[2, 1], [0, 3], [0, 0]]), np.array([0, 0, 0])).__round__(2)
    0.33
    """
    q, y = np.asarray(q), np.asarray(y)
    if q.ndim != 2 or y.shape != q.shape[:1]:
        raise InputError(
            f"q has the shape {q.shape} and y {y.shape}: expected (n_labeled, n_classes), (n_labeled,)"
        )
    return float(np.mean(q.any(axis=1) & (q.argmax(axis=1) == y))) if len(y) else float("nan")


def _compared(one: NDArray[np.intp], answered: NDArray[np.intp]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where both say the same, and where nobody answered."""
    one, answered = np.asarray(one), np.asarray(answered)
    if one.ndim != 1 or one.shape != answered.shape:
        raise InputError(f"classes of the shapes {one.shape} and {answered.shape}: expected two of (n_tasks,)")
    unknown = answered == UNLABELED
    return (one == answered) & ~unknown, unknown
