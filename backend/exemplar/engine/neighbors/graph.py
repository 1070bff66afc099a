"""The neighbour graph of a pool: which tasks are alike, and how much.

Neighbours are found by comparing everything with everything, tile by tile, and above EXACT_UP_TO tasks by
comparing only what is in reach: the members of those clusters whose centre is hardly farther from a task than that
of its own.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.checks import checked_pool
from exemplar.engine.neighbors.duplicates import distinct
from exemplar.engine.neighbors.nearest import Lists, Vectors, search_all
from exemplar.engine.neighbors.reach import search_in_reach
from exemplar.errors import InputError

N_NEIGHBORS = 10

# Up to here comparing everything with everything takes about a second.
EXACT_UP_TO = 10_000
# Beyond, squared distances may leave float32.
LARGEST_FEATURE = 1e16
# exp(-60) is nothing beside any near neighbour, yet far from float32's underflow: an outlier keeps its edges.
LARGEST_EXPONENT = np.float32(60)
# An outlier is so many times farther from its k-th neighbour than its neighbours are from theirs.
OUTLYING = np.float32(2)


@dataclass(frozen=True)
class NeighborGraph:
    """The k nearest neighbours among the distinct tasks of a pool, numbered cluster by cluster.

    Attributes
    ----------
    node_of : int32 array of shape (n_tasks,)
        The node of each task; exact duplicates share one.
    rows : int32 array of shape (n_nodes,)
        The task that stands for each node: the first of its duplicates.
    neighbors : int32 array of shape (n_nodes, k)
        The nearest other nodes, nearest first.
    distances : float32 array of shape (n_nodes, k)
        Euclidean distances to them.
    recall : float
        Which share of the true neighbours was found, measured on exact queries; 1.0 for an exact graph.
    n_neighbors : int
        How many neighbours were asked for; k is less where a pool has not as many.
    """

    node_of: NDArray[np.int32]
    rows: NDArray[np.int32]
    neighbors: NDArray[np.int32]
    distances: NDArray[np.float32]
    recall: float
    n_neighbors: int = N_NEIGHBORS

    @cached_property
    def multiplicity(self) -> NDArray[np.int32]:
        """How many tasks each node stands for; int32 of shape (n_nodes,)."""
        return np.bincount(self.node_of, minlength=len(self.rows)).astype(np.int32)

    @property
    def duplicates(self) -> NDArray[np.bool_]:
        """Which tasks equal an earlier one; bool of shape (n_tasks,)."""
        duplicates: NDArray[np.bool_] = self.rows[self.node_of] != np.arange(len(self.node_of))
        return duplicates

    @cached_property
    def scales(self) -> NDArray[np.float32]:
        """Each node's sigma, the distance to its k-th neighbour, never 0; float32 of shape (n_nodes,)."""
        if self.distances.shape[1] == 0:
            return np.ones(len(self.rows), np.float32)
        return np.maximum(self.distances[:, -1], np.finfo(np.float32).tiny)

    @cached_property
    def affinity(self) -> sparse.csr_array:
        """S = D^-1/2 W D^-1/2, float32 of shape (n_nodes, n_nodes), symmetric, with a zero diagonal.

        W = max(V, V^T), v_ij = exp(-d_ij^2 / (sigma_i sigma_j)) for the k nearest j of each i.

        References
        ----------
        Zelnik-Manor & Perona (2004), "Self-tuning spectral clustering", eq. 1; S as in Zhou et al. (2004),
        "Learning with local and global consistency".
        """
        n_nodes, k = self.neighbors.shape
        # Two quotients: a product of scales, or a squared distance, may leave float32.
        with np.errstate(over="ignore"):
            exponents = self.distances / self.scales[:, None]
            exponents *= self.distances / self.scales[self.neighbors]
        V = np.exp(-np.minimum(exponents, LARGEST_EXPONENT))
        starts = k * np.arange(n_nodes + 1, dtype=np.int32)
        W = sparse.csr_array((V.ravel(), self.neighbors.ravel().copy(), starts), shape=(n_nodes, n_nodes))
        W.sort_indices()
        W = W.maximum(W.T.tocsr())
        degrees = W.sum(axis=1)
        roots = np.divide(1, np.sqrt(degrees), where=degrees > 0, out=np.zeros(n_nodes, np.float32))
        W.data *= np.repeat(roots, np.diff(W.indptr)) * roots[W.indices]
        return W

    def outliers(self) -> NDArray[np.bool_]:
        """Return which tasks are far from everything; bool of shape (n_tasks,).

        Their k-th neighbour is more than twice as far from them as most of their neighbours' is from these. More
        than half of k tasks that are equal, or about that many close together, stand for each other and are none.

        References
        ----------
        Ramaswamy et al. (2000), "Efficient algorithms for mining outliers from large data sets", take the distance
        to the k-th neighbour; to compare it with that of the neighbours is Breunig et al. (2000), "LOF: identifying
        density-based local outliers", as simplified by Schubert et al. (2014), "Local outlier detection
        reconsidered".
        """
        if self.neighbors.shape[1] == 0:
            return np.zeros(len(self.node_of), bool)
        far = self.scales > OUTLYING * np.median(self.scales[self.neighbors], axis=1)
        outliers: NDArray[np.bool_] = (far & (2 * self.multiplicity <= self.n_neighbors))[self.node_of]
        return outliers


def build_graph(
    X: NDArray[np.float32],
    cluster_ids: NDArray[np.int32],
    *,
    n_neighbors: int = N_NEIGHBORS,
    random_state: int = 0,
) -> NeighborGraph:
    """Link each distinct task of a pool with its nearest ones.

    Among equally near ones the lower row comes first. Small pools are searched exactly. In large ones a task is
    compared with the members of those clusters whose centres are at most so much farther from it than its own, by
    sketches, and with the best of these in full; how much farther, and how many best, is learnt from exact queries,
    and where it would take in a quarter of the pool, the search is exact after all.

    Parameters
    ----------
    X : array of shape (n_tasks, n_features)
    cluster_ids : int array of shape (n_tasks,)
        Any clustering: nodes are numbered by it, and the search is as fast as it is good.
    n_neighbors : int
        k is this, or one less than there are distinct tasks.
    random_state : int
        For the queries that the reach is learnt from.

    Raises
    ------
    InputError
        If X is no finite matrix with at least one row, or holds numbers above 1e16; if cluster_ids has another
        length; if n_neighbors is not positive.

    References
    ----------
    The search is that of an inverted file (Jégou et al. 2011, "Product quantization for nearest neighbor search",
    section IV) that visits as many cells as a task needs; to shortlist by sketch and then to compare in full is
    Jégou et al. (2011), "Searching in one billion vectors: re-rank with source coding".

    Examples
    --------
    >>> graph = build_graph(np.float32([[0], [5], [1], [5], [9]]), np.int32([0, 0, 0, 0, 0]), n_neighbors=2)
    >>> graph.node_of
    array([0, 1, 2, 1, 3], dtype=int32)
    >>> graph.neighbors.tolist(), graph.distances.tolist()
    ([[2, 1], [2, 3], [0, 1], [1, 2]], [[1.0, 5.0], [4.0, 4.0], [1.0, 4.0], [4.0, 8.0]])
    """
    X, cluster_ids = checked_features(X), np.asarray(cluster_ids)
    if cluster_ids.shape != (len(X),):
        raise InputError(f"cluster_ids has the shape {cluster_ids.shape}: expected ({len(X)},), one for each task")
    if n_neighbors < 1:
        raise InputError(f"n_neighbors={n_neighbors}: expected at least 1")
    node_of, rows = distinct(X, cluster_ids)
    nodes = Vectors(X, rows)
    k = min(n_neighbors, len(nodes) - 1)
    with one_blas_thread():
        found = search_in_reach(nodes, cluster_ids[rows], k, random_state) if len(nodes) > EXACT_UP_TO else None
        lists, recall = found or (search_all(nodes, nodes, np.arange(len(nodes), dtype=np.int32), k), 1.0)
    return NeighborGraph(node_of, rows, *lists, recall, n_neighbors)


def neighbors_outside(
    graph: NeighborGraph, X: NDArray[np.float32], X_new: NDArray[np.float32], *, n_neighbors: int = N_NEIGHBORS
) -> Lists:
    """Find the nodes nearest to tasks outside the pool, exactly.

    Parameters
    ----------
    graph : NeighborGraph
    X : array of shape (n_tasks, n_features)
        The graph's pool.
    X_new : array of shape (n_new, n_features)
    n_neighbors : int
        k is this, or the number of nodes.

    Returns
    -------
    neighbors : int32 array of shape (n_new, k)
        Nodes, nearest first; among equally near ones the one of the lower row.
    distances : float32 array of shape (n_new, k)
        Euclidean; 0 where a task of the pool is the same.

    Raises
    ------
    InputError
        If X or X_new is no finite matrix with at least one row, or they differ in their number of features.

    Examples
    --------
    >>> graph = build_graph(np.float32([[0], [1], [9]]), np.int32([0, 0, 0]))
    >>> neighbors_outside(graph, np.float32([[0], [1], [9]]), np.float32([[7]]), n_neighbors=2)
    (array([[2, 1]], dtype=int32), array([[2., 6.]], dtype=float32))
    """
    X, X_new = checked_features(X), checked_features(X_new)
    if X_new.shape[1] != X.shape[1]:
        raise InputError(f"X_new has {X_new.shape[1]} features: expected {X.shape[1]}, as many as X")
    if n_neighbors < 1:
        raise InputError(f"n_neighbors={n_neighbors}: expected at least 1")
    queries = Vectors(X_new, np.arange(len(X_new), dtype=np.int32))
    nowhere = np.full(len(X_new), -1, np.int32)
    with one_blas_thread():
        return search_all(Vectors(X, graph.rows), queries, nowhere, min(n_neighbors, len(graph.rows)))


def checked_features(X: Any) -> NDArray[np.float32]:
    """Return X as a pool whose squared distances float32 can hold, or raise an InputError.

    >>> checked_features([[1e16, 0]]).dtype
    dtype('float32')
    """
    checked = checked_pool(X)
    largest = max(checked.max(), -checked.min())
    if largest > LARGEST_FEATURE:
        raise InputError(f"X holds {largest:g} in size: expected at most {LARGEST_FEATURE:g}")
    return checked
