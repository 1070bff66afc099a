"""When more annotations are hardly worth it: advice, which nothing is made to follow."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.evidence.audits import hash_ranks
from exemplar.errors import InputError

STABLE_KAPPA = 0.99
WINDOWS = 3
# A batch that is expected to set right less than 2 of 1 000 tasks is hardly worth it.
LEAST_GAIN = 0.002


@dataclass(frozen=True)
class Checkpoint:
    """What is remembered of a snapshot, to compare later ones with it.

    Attributes
    ----------
    n_labels : int
    predictions : int array of shape (n_sample,)
        The classes of the fixed sample, the same tasks in the same order each time.
    expected_accuracy : float in [0, 1]
        The mean calibrated confidence over the pool, 1 for answered tasks.
    """

    n_labels: int
    predictions: NDArray[np.intp]
    expected_accuracy: float


@dataclass(frozen=True)
class Advice:
    """Whether to stop, and why.

    Attributes
    ----------
    stop : bool
    kappa : float
        The mean of the last windows' agreements; NaN with too few.
    expected_gain : float
        Of the pool's accuracy by the next batch; NaN with too few checkpoints.
    why : str
    """

    stop: bool
    kappa: float
    expected_gain: float
    why: str


def fixed_sample(keys: Sequence[str], size: int = 2000, *, seed: int = 0) -> NDArray[np.intp]:
    """Return rows of the pool at random, independent of the audits, the same whenever the pool is the same.

    Raises
    ------
    InputError
        If size is below 1.

    Examples
    --------
    >>> fixed_sample(["task 1", "task 2", "task 3"], 2)
    array([0, 1])
    """
    if size < 1:
        raise InputError(f"size is {size}: expected 1 or more")
    return np.sort(np.argsort(hash_ranks(keys, seed=seed, purpose="stopping"), kind="stable")[:size])


def is_due(before: Checkpoint | None, n_labels: int) -> bool:
    """Return whether it is time for a checkpoint: between two, labels grow by a tenth and at least by ten.

    Otherwise an answer a time would never change enough to go on.

    >>> is_due(None, 1), is_due(Checkpoint(200, np.zeros(1, int), 0.9), 219)
    (True, False)
    """
    return before is None or n_labels >= before.n_labels + next_batch(before.n_labels)


def next_batch(n_labels: int) -> int:
    """Return how many labels there are from one checkpoint to the next.

    >>> next_batch(50), next_batch(200)
    (10, 20)
    """
    return max(10, n_labels // 10)


def kappa(one: NDArray[np.intp], two: NDArray[np.intp]) -> float:
    """Return Cohen's agreement of two models' classes beyond chance; 1 if they are the same, at most 1.

    Parameters
    ----------
    one, two : int arrays of shape (n_sample,)
        UNLABELED counts as a class of its own.

    Raises
    ------
    InputError
        If they do not fit together, or are empty.

    References
    ----------
    Cohen (1960), "A coefficient of agreement for nominal scales".

    Examples
    --------
    >>> kappa(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))
    0.5
    """
    one, two = np.asarray(one), np.asarray(two)
    if one.ndim != 1 or one.shape != two.shape or not len(one):
        raise InputError(f"classes of the shapes {one.shape} and {two.shape}: expected two of (n_sample,), n >= 1")
    agreed = float(np.mean(one == two))
    if agreed == 1:
        return 1.0
    _, which = np.unique(np.concatenate([one, two]), return_inverse=True)
    n_classes = int(which.max()) + 1
    a, b = (np.bincount(part, minlength=n_classes) / len(one) for part in np.split(which, 2))
    by_chance = float(a @ b)
    return (agreed - by_chance) / (1 - by_chance)


def expected_gain(n_labels: Sequence[int], expected_accuracies: Sequence[float], *, batch: int) -> float:
    """Return how much the accuracy is expected to rise by the next batch, along a power law through some points.

    Parameters
    ----------
    n_labels : sequence of int
        Rising, at least two.
    expected_accuracies : sequence of float in [0, 1]
        As many.
    batch : int
        At least 1.

    Returns
    -------
    gain : float in [0, 1]

    Raises
    ------
    InputError
        If the points cannot be used.

    References
    ----------
    Cortes et al. (1994), "Learning curves: asymptotic values and rate of convergence", eq. 1 with no floor.

    Examples
    --------
    >>> round(expected_gain([10, 20, 40], [0.8, 0.9, 0.95], batch=40), 4)
    0.025
    """
    n, accuracy = np.asarray(n_labels, np.float64), np.asarray(expected_accuracies, np.float64)
    if n.ndim != 1 or n.shape != accuracy.shape or len(n) < 2 or n[0] < 1 or not (np.diff(n) > 0).all():
        raise InputError(
            f"n_labels is {list(n_labels)}: expected two or more, rising from 1, one for each accuracy"
        )
    if not ((accuracy >= 0) & (accuracy <= 1)).all():
        raise InputError(f"expected_accuracies is {list(expected_accuracies)}: expected numbers from 0 to 1")
    if batch < 1:
        raise InputError(f"batch is {batch}: expected 1 or more")
    errors = 1 - accuracy
    x, logs = np.log(n), np.log(np.maximum(errors, 1e-9))
    slope = float((x - x.mean()) @ logs / ((x - x.mean()) @ (x - x.mean())))
    return float(errors[-1] * (1 - ((n[-1] + batch) / n[-1]) ** min(slope, 0.0)))


def advice(checkpoints: Sequence[Checkpoint]) -> Advice:
    """Say whether another batch is worth it, from the checkpoints so far, oldest first.

    Stop: the last predictions hardly changed, and the next batch is expected to gain hardly anything. It is advice:
    both are the model's word, and what no answer has touched yet may still surprise.

    Raises
    ------
    InputError
        If the checkpoints do not rise in labels, or are not of one sample.

    References
    ----------
    Bloodgood & Vijay-Shanker (2009), "A method for stopping active learning based on stabilizing predictions":
    kappa of 0.99 over the last three windows.

    Examples
    --------
    >>> steady = [Checkpoint(n, np.array([0, 1]), 0.99) for n in (100, 110, 121, 133)]
    >>> advice(steady).stop, advice(steady[:2]).stop
    (True, False)
    """
    if len(checkpoints) <= WINDOWS:
        more = WINDOWS + 1 - len(checkpoints)
        return Advice(False, float("nan"), float("nan"), f"Too early to say: {more} more checkpoints are needed.")
    last = checkpoints[-WINDOWS - 1 :]
    stable = float(np.mean([kappa(a.predictions, b.predictions) for a, b in pairwise(last)]))
    n_labels = [checkpoint.n_labels for checkpoint in last]
    batch = next_batch(n_labels[-1])
    gain = expected_gain(n_labels, [checkpoint.expected_accuracy for checkpoint in last], batch=batch)
    stop = stable >= STABLE_KAPPA and gain < LEAST_GAIN
    return Advice(stop, stable, gain, _why(stable, gain, batch, stop))


def _why(stable: float, gain: float, batch: int, stop: bool) -> str:
    changes = (
        f"Predictions agree with a kappa of {stable:.3f} from checkpoint to checkpoint ({STABLE_KAPPA} is stable)"
    )
    gains = f"the next {batch} answers are expected to gain {100 * gain:.1f} points"
    return f"{changes}, and {gains}: {'more is hardly worth it' if stop else 'go on'}."
