"""What a row's score says: that its task is asked next, and when; or else how sure its pre-annotation is.

Label Studio serves the lowest score first, and people read scores: as per cent with two decimals on a prediction's
tab, with three in the Data Manager. Its bulk import takes those from 0 to 1 alone. So the queue's scores are so
small that they read "0.00%" and "0.000", in their order, and every confidence lies above them, zero included::

    1e-12, 2e-12, …            drawn to test a set of predictions, in the order of the draw
    1e-5, 1e-5 + 1e-12, …      asked next, in the order of the queue
    4e-5                       a row of a task of which nothing is known
    … 1                        the calibrated confidence

There is room for ten million tasks in each order, neighbours 1e-12 apart, and a double tells numbers of that size
apart down to 1e-21. Before, a queue's scores were negative: such a row is still one that is asked.
"""

from typing import overload

import numpy as np
from numpy.typing import NDArray

NOTHING_KNOWN = 4e-5
# Two scores of the queue that differ by less are one.
SAME = 1e-13
_DRAWN, _QUEUED, _STEP = 1e-12, 1e-5, 1e-12
_ASKED_BELOW = 3e-5
# The next so many tasks of the queue are asked soon.
_SOON = 5
# Scores are round, so that noise of the last bits does not reach Label Studio.
_DECIMALS = 6
Floats = NDArray[np.float64]


def queue_scores(positions: NDArray[np.intp]) -> Floats:
    """Return the scores of tasks by their position in the queue, the first of which is 0.

    >>> queue_scores(np.array([0, 3])).tolist()
    [1e-05, 1.0000003e-05]
    """
    return _QUEUED + _STEP * positions.astype(np.float64)


def draw_scores(positions: NDArray[np.intp]) -> Floats:
    """Return scores that come before all of the queue, by position in their own order.

    >>> bool(draw_scores(np.array([9_999_998])) < queue_scores(np.array([0])))
    True
    """
    return _DRAWN + _STEP * positions.astype(np.float64)


def confidence_scores(confidence: NDArray[np.floating]) -> Floats:
    """Return the scores of tasks that are not in the queue, by their confidence from 0 to 1.

    >>> confidence_scores(np.array([0, 0.25, 1])).tolist()
    [4e-05, 0.25, 1.0]
    """
    return np.maximum(np.round(confidence.astype(np.float64), _DECIMALS), NOTHING_KNOWN)


@overload
def is_asked(score: float) -> bool: ...
@overload
def is_asked(score: Floats) -> NDArray[np.bool_]: ...
def is_asked(score: float | Floats) -> bool | NDArray[np.bool_]:
    """Return whether a score is a place in the queue; NaN, for no row, is none.

    >>> is_asked(1e-5), is_asked(0.0), is_asked(-0.5), is_asked(NOTHING_KNOWN), is_asked(float("nan"))
    (True, True, True, False, False)
    """
    return score < _ASKED_BELOW


def is_asked_soon(score: float) -> bool:
    """Return whether the task is among the next few of the queue, or goes before all of it.

    >>> [is_asked_soon(score) for score in queue_scores(np.array([4, 5])).tolist()]
    [True, False]
    """
    return score < _QUEUED + _STEP * (_SOON - 0.5)
