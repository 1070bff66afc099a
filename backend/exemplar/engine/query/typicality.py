"""Which tasks to ask next: the most typical one of each cluster that has no label yet."""

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import euclidean_distances

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.checks import checked_pool
from exemplar.engine.clustering import cluster
from exemplar.engine.query.strategies import checked_batch, checked_mask
from exemplar.errors import InputError

# As in the paper: typicality looks at so many neighbours.
N_NEIGHBORS = 20
# Of a cluster of more askable tasks, so many are compared; their neighbours are sought in all of it.
N_CANDIDATES = 2000
# Distances are held so many at a time.
BLOCK = 4_000_000


def typiclust(
    Z: NDArray[np.float32],
    labeled: NDArray[np.bool_],
    askable: NDArray[np.bool_],
    n: int,
    *,
    n_clusters: int | None = None,
    random_state: int = 0,
) -> NDArray[np.intp]:
    """Return rows of the pool in the order in which to ask them: the most typical of the biggest open clusters.

    The pool is cut into as many clusters as there will be answers. The next task is always of the cluster with the
    fewest answers (chosen tasks count as answered), and of these the biggest. Typicality is the inverse of the mean
    distance to the 20 nearest neighbours within the cluster.

    Parameters
    ----------
    Z : array of shape (n_tasks, n_features)
        Features in which distances mean something.
    labeled : bool array of shape (n_tasks,)
        Tasks with an answer.
    askable : bool array of shape (n_tasks,)
        Tasks that may be asked: neither answered nor skipped.
    n : int
        At most so many.
    n_clusters : int, optional
        By default as many as there are answers, plus n.
    random_state : int

    Returns
    -------
    rows : int array of shape (min(n, number askable),), each row once
        The clusters depend on n, so that a smaller n gives not the same beginning.

    Raises
    ------
    InputError
        If Z is no finite matrix with at least one row, a mask does not fit it, n is negative or n_clusters below 1.

    References
    ----------
    Hacohen, Dekel & Weinshall (2022), "Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets",
    equation 4 and algorithm 1.

    Examples
    --------
    >>> Z, nobody = np.float32([[0], [1], [3], [20], [21]]), np.zeros(5, bool)
    >>> typiclust(Z, nobody, ~nobody, 2)
    array([1, 3])
    """
    Z = checked_pool(Z)
    labeled, askable = checked_mask("labeled", labeled, len(Z)), checked_mask("askable", askable, len(Z))
    n = min(checked_batch(n), int(np.count_nonzero(askable)))
    if n_clusters is None:
        n_clusters = max(int(np.count_nonzero(labeled)) + n, 1)
    if n_clusters < 1:
        raise InputError(f"n_clusters={n_clusters}: expected at least 1")
    if n == 0:
        return np.empty(0, np.intp)
    cluster_ids = cluster(Z, n_clusters=n_clusters, random_state=random_state).cluster_ids
    return _typical(Z, cluster_ids, labeled, askable, n, np.random.default_rng(random_state))


def _typical(
    Z: NDArray[np.float32],
    cluster_ids: NDArray[np.int32],
    labeled: NDArray[np.bool_],
    askable: NDArray[np.bool_],
    n: int,
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    sizes, answers = np.bincount(cluster_ids), np.bincount(cluster_ids[labeled], minlength=cluster_ids.max() + 1)
    turns = [(int(answers[c]), -int(sizes[c]), int(c)) for c in np.unique(cluster_ids[askable])]
    heapq.heapify(turns)
    waiting: dict[int, Iterator[int]] = {}
    chosen: list[int] = []
    while len(chosen) < n:
        n_answers, size, c = turns[0]
        if c not in waiting:
            members = np.flatnonzero(cluster_ids == c)
            waiting[c] = iter(_by_typicality(Z, members, askable[members], rng).tolist())
        row = next(waiting[c], None)
        if row is None:
            heapq.heappop(turns)
        else:
            heapq.heapreplace(turns, (n_answers + 1, size, c))
            chosen.append(row)
    return np.array(chosen, np.intp)


def _by_typicality(
    Z: NDArray[np.float32], members: NDArray[np.intp], askable: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return the askable members of a cluster, the most typical first; those that are not compared, last."""
    positions = np.flatnonzero(askable)
    if len(positions) > N_CANDIDATES:
        positions = rng.permutation(positions)
    compared = positions[:N_CANDIDATES]
    points = Z[members] - Z[members].mean(axis=0)  # around the origin, near points are told apart best
    far = _mean_distances(points[compared], points, k=min(N_NEIGHBORS, len(members) - 1))
    order = np.concatenate([compared[np.lexsort((compared, far))], positions[N_CANDIDATES:]])
    rows: NDArray[np.intp] = members[order]
    return rows


def _mean_distances(queries: NDArray[np.float32], points: NDArray[np.float32], *, k: int) -> NDArray[np.float32]:
    """Return each query's mean distance to its k nearest others; the query is one of the points."""
    if k == 0:
        return np.zeros(len(queries), np.float32)
    means = np.empty(len(queries), np.float32)
    step = max(BLOCK // len(points), 1)
    with one_blas_thread():
        for start in range(0, len(queries), step):
            distances = euclidean_distances(queries[start : start + step], points)
            # The nearest is the query itself, at 0.
            means[start : start + step] = np.partition(distances, k, axis=1)[:, : k + 1].sum(axis=1) / k
    return means
