"""The queue: in which order tasks are worth asking, by the strategy of choice."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.clustering import Clustering, cluster
from exemplar.engine.geometry import Geometry
from exemplar.engine.kept import kept_with_it
from exemplar.engine.query.herding import Herding
from exemplar.engine.query.kernel import bandwidth
from exemplar.engine.query.selection import representatives
from exemplar.engine.query.strategies import random_order
from exemplar.engine.query.typicality import typiclust
from exemplar.engine.query.uncertainty import margin_uncertainty
from exemplar.errors import InputError

# The queue is planned for about so many answers: a screenful of an afternoon, whatever the pool's size.
BUDGET = 50
# Found on random re-splits of digits and on MNIST; from 1 to 2 little changes.
SHARPNESS = 1 / 0.7

Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]


def plan_queue(
    geometry: Geometry,
    scores: NDArray[np.float32],
    *,
    labeled: Mask,
    askable: Mask,
    n: int,
    strategy: str = "herding",
    random_state: int = 0,
) -> Rows:
    """Return rows of the pool in the order in which to ask them; greedy, so that any prefix is a good budget.

    Parameters
    ----------
    geometry : Geometry
    scores : float32 array of shape (n_tasks, n_classes)
        What ``propagate`` made of the answers so far.
    labeled : bool array of shape (n_tasks,)
        Tasks with an answer.
    askable : bool array of shape (n_tasks,)
        Tasks that may be asked.
    n : int
        At most so many.
    strategy : str
        One of STRATEGIES. ``herding``: representatives of a few big clusters, then uncertainty herding.
        ``representatives``: of each cluster that has no answer, biggest first; then none.
        ``max-herding``, ``typiclust``, ``random``: as they are called.
    random_state : int

    Returns
    -------
    rows : int array of shape (min(n, number askable),), each row once
        Fewer with ``representatives``.

    Raises
    ------
    InputError
        If there is no such strategy, or an array does not fit the pool.

    References
    ----------
    Bae et al. (2024), "Uncertainty Herding: One Active Learning Method for All Label Budgets". Hacohen et al.
    (2022), "Active Learning on a Budget" (typiclust). Géron (2022), "Hands-On Machine Learning", ch. 9.

    Examples
    --------
    >>> from exemplar.engine.geometry import survey
    >>> geometry = survey(np.float32([[0], [1], [2], [9], [10]]), n_clusters=2)
    >>> nobody = np.zeros(5, bool)
    >>> plan_queue(geometry, np.zeros((5, 2), np.float32), labeled=nobody, askable=~nobody, n=2)
    array([1, 3])
    """
    if strategy not in STRATEGIES:
        raise InputError(f"strategy={strategy!r}: expected one of {', '.join(STRATEGIES)}")
    for name, mask in (("labeled", labeled), ("askable", askable)):
        if mask.shape != (geometry.n_tasks,):
            raise InputError(f"{name} has the shape {mask.shape}: expected ({geometry.n_tasks},)")
    return STRATEGIES[strategy](geometry, scores, labeled, askable, n, random_state)


def n_starters(n_classes: int) -> int:
    """Return with how many representatives herding starts: one a class, between a quarter and half of a budget.

    >>> n_starters(2), n_starters(20), n_starters(77)
    (12, 20, 77)
    """
    budget = max(BUDGET, 2 * n_classes)
    return max(min(n_classes, budget // 2), budget // 4)


def prepare_queue(geometry: Geometry, *, n_classes: int) -> None:
    """Derive now what the first queue would wait for; kept for as long as the geometry lives.

    Examples
    --------
    >>> from exemplar.engine.geometry import survey
    >>> prepare_queue(survey([[0], [1], [9]]), n_classes=2)
    """
    _ = geometry.outliers, _coarse(geometry, _n_first(geometry, n_classes)), _prepared(geometry)


@kept_with_it
def _coarse(geometry: Geometry, n_clusters: int) -> Clustering:
    """Return the pool in a few clusters, each of which has a starter."""
    return cluster(geometry.Z, n_clusters=n_clusters)


@kept_with_it
def _prepared(geometry: Geometry) -> Herding:
    """Return the pool as herding sees it, kept because its kernel outlives an answer."""
    return Herding(geometry.Z, bandwidth=bandwidth(geometry.Z, BUDGET))


def _n_first(geometry: Geometry, n_classes: int) -> int:
    """Return with how many representatives this pool starts: of a tiny one, a few tasks speak for all."""
    return min(n_starters(n_classes), max(2, geometry.n_tasks // 4))


def _herding(
    geometry: Geometry, scores: NDArray[np.float32], labeled: Mask, askable: Mask, n: int, random_state: int
) -> Rows:
    n_first = _n_first(geometry, scores.shape[1])
    missing = n_first - int(np.count_nonzero(labeled))
    starters = np.empty(0, np.intp)
    if missing > 0:
        # A task that is far from all others speaks for none of them.
        open_to = askable & ~geometry.outliers
        starters = representatives(_coarse(geometry, n_first), askable=open_to, settled=labeled, n=min(n, missing))
    # Uncertainty says nothing while one class is all that has been seen.
    seen = np.count_nonzero(scores[labeled].any(axis=0))
    uncertainty = margin_uncertainty(scores, sharpness=SHARPNESS) if seen >= 2 else None
    started, left = labeled.copy(), askable.copy()
    started[starters], left[starters] = True, False
    rows = _prepared(geometry).choose(uncertainty, started, left, n - len(starters))
    return np.concatenate([starters, rows])


def _representatives(
    geometry: Geometry, scores: NDArray[np.float32], labeled: Mask, askable: Mask, n: int, random_state: int
) -> Rows:
    # While one class is all that has been seen, a second task of each cluster follows, then a third: the queue
    # must not end while nothing else orders the tasks.
    one_each = bool(np.count_nonzero(scores[labeled].any(axis=0)) >= 2)
    return representatives(geometry.clustering, askable=askable, settled=labeled, n=n, one_each=one_each)


STRATEGIES: dict[str, Callable[[Geometry, NDArray[np.float32], Mask, Mask, int, int], Rows]] = {
    "herding": _herding,
    "representatives": _representatives,
    "max-herding": lambda geometry, scores, labeled, askable, n, random_state: _prepared(geometry).choose(
        None, labeled, askable, n
    ),
    "typiclust": lambda geometry, scores, labeled, askable, n, random_state: typiclust(
        geometry.Z, labeled, askable, n, random_state=random_state
    ),
    "random": lambda geometry, scores, labeled, askable, n, random_state: random_order(
        askable, n, random_state=random_state
    ),
}
