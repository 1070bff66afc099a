"""Which tasks to ask next: the ones nearest to the centres of clusters that have no label yet."""

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.clustering import Clustering


def representatives(
    clustering: Clustering,
    *,
    askable: NDArray[np.bool_],
    settled: NDArray[np.bool_],
    n: int | None = None,
    one_each: bool = True,
) -> NDArray[np.intp]:
    """Return rows of the pool in the order in which to ask them: one of each open cluster, biggest first.

    Parameters
    ----------
    clustering : Clustering
    askable : bool array of shape (n_tasks,)
        Tasks that may be asked: neither answered nor skipped.
    settled : bool array of shape (n_tasks,)
        Tasks with an answer; a cluster that holds one is not open any more.
    n : int, optional
        At most so many.
    one_each : bool
        Stop after one task of each open cluster; otherwise the second nearest of each follows, then the
        third.

    Returns
    -------
    rows : int array, each row once

    References
    ----------
    Géron (2022), "Hands-On Machine Learning", ch. 9, "Using clustering for semi-supervised learning".

    Examples
    --------
    >>> from exemplar.engine.clustering import Clustering
    >>> pool = Clustering(np.zeros((2, 1)), np.int32([0, 1, 1]), np.float32([0, 2, 1]))
    >>> none = np.zeros(3, bool)
    >>> representatives(pool, askable=~none, settled=none)
    array([2, 0])
    >>> representatives(pool, askable=~none, settled=none, one_each=False)
    array([2, 0, 1])
    """
    n_clusters = len(clustering.centers)
    sizes = np.bincount(clustering.cluster_ids, minlength=n_clusters)
    is_open = np.ones(n_clusters, bool)
    is_open[clustering.cluster_ids[settled]] = False
    rows = np.flatnonzero(askable & is_open[clustering.cluster_ids])
    cluster_ids = clustering.cluster_ids[rows]
    # Nearest first within each cluster; its position there is its turn. Ties go to the lower row.
    by_distance = np.lexsort((rows, clustering.distances[rows], cluster_ids))
    starts = np.searchsorted(cluster_ids[by_distance], np.arange(n_clusters))
    turns = np.empty(len(rows), np.intp)
    turns[by_distance] = np.arange(len(rows)) - starts[cluster_ids[by_distance]]
    order = np.lexsort((cluster_ids, -sizes[cluster_ids], turns))
    if one_each:
        order = order[: np.count_nonzero(turns == 0)]
    return rows[order][:n]
