"""The neighbour graph of a pool: which tasks are alike, and how much.

Neighbours are found by comparing everything with everything, tile by tile, and above EXACT_UP_TO tasks only
with what lies in reach: the members of those clusters whose centre is hardly farther from a task than that of
its own.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from exemplar.engine.checks import checked_pool
from exemplar.errors import InputError

NEW = -1
N_NEIGHBORS = 10

# Up to here comparing everything with everything takes about a second.
EXACT_UP_TO = 10_000
# The reach is set so that this share of the true neighbours of N_QUERIES nodes lies within; then the outcome is
# measured on N_QUERIES others, and below LEAST_RECALL all is compared after all.
AIMED_RECALL = 0.99
LEAST_RECALL = 0.95
N_QUERIES = 200
# When reach takes in more than this share of all pairs, or clusters are so many that looking at each costs more
# than its members, then comparing everything is no slower.
WORTHWHILE_SHARE = 0.25
MOST_CLUSTERS_PER_ROOT = 16

# 256 x 4096 distances stay in the cache while they are computed, compared and read.
QUERIES_AT_ONCE = 256
TILE = 4096
PAIRS_AT_ONCE = 512
# An approximate search holds the candidates of so many nodes at a time, and which of them reach which cluster.
NODES_AT_ONCE = 32_768
REACHED_AT_ONCE = 2**26
THREADS = 2

# Rounding errors add up like a random walk, with the root of the number of features (Higham & Mary 2019, "A new
# approach to probabilistic rounding error analysis"); so many roots are far beyond what is seen.
ROUNDING = 16 * float(np.finfo(np.float32).eps) / 2
# Beyond, squared distances may leave float32.
LARGEST_FEATURE = 1e16
# exp(-60) is nothing beside any near neighbour, yet far from float32's underflow: an outlier keeps its edges.
LARGEST_EXPONENT = np.float32(60)
# An outlier is so many times farther from its k-th neighbour than its neighbours are from theirs.
OUTLYING = np.float32(2)

Lists = tuple[NDArray[np.int32], NDArray[np.float32]]


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


# ── Graphs of whole pools ────────────────────────────────────────────────────────────────────────────────


def build_graph(
    X: NDArray[np.float32],
    cluster_ids: NDArray[np.int32],
    *,
    n_neighbors: int = N_NEIGHBORS,
    random_state: int = 0,
) -> NeighborGraph:
    """Link each distinct task of a pool with its nearest ones.

    Among equally near ones the lower row comes first. Small pools are searched exactly. In large ones a task is
    compared with the members of those clusters whose centres are at most so much farther from it than its own; how
    much is learnt from exact queries, and where it would take in a quarter of the pool, the search is exact after
    all.

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
    section IV) that visits as many cells as a task needs.

    Examples
    --------
    >>> graph = build_graph(np.float32([[0], [5], [1], [5], [9]]), np.int32([0, 0, 0, 0, 0]), n_neighbors=2)
    >>> graph.node_of
    array([0, 1, 2, 1, 3], dtype=int32)
    >>> graph.neighbors.tolist(), graph.distances.tolist()
    ([[2, 1], [2, 3], [0, 1], [1, 2]], [[1.0, 5.0], [4.0, 4.0], [1.0, 4.0], [4.0, 8.0]])
    """
    X, cluster_ids = _checked(X), np.asarray(cluster_ids)
    if cluster_ids.shape != (len(X),):
        raise InputError(f"cluster_ids has the shape {cluster_ids.shape}: expected ({len(X)},), one for each task")
    if n_neighbors < 1:
        raise InputError(f"n_neighbors={n_neighbors}: expected at least 1")
    node_of, rows = _distinct(X, cluster_ids)
    nodes = _Vectors(X, rows)
    k = min(n_neighbors, len(nodes) - 1)
    with threadpool_limits(1):
        found = _search_in_reach(nodes, cluster_ids[rows], k, random_state) if len(nodes) > EXACT_UP_TO else None
        lists, recall = found or (_search(nodes, nodes, np.arange(len(nodes), dtype=np.int32), k), 1.0)
    return NeighborGraph(node_of, rows, *lists, recall, n_neighbors)


def update_graph(graph: NeighborGraph, X: NDArray[np.float32], kept: NDArray[np.intp]) -> NeighborGraph:
    """Let tasks join and leave a graph without building it anew.

    Nodes that stay keep their order and, unless one of it left, their list, with the new nodes that belong there;
    new ones are appended. All lists that are new are exact. The cost grows with the number of nodes that are new or
    lost a neighbour: once these are a good part of the pool, building anew is faster. Up to ties, an exact graph
    becomes the one that would be built anew.

    Parameters
    ----------
    graph : NeighborGraph
    X : array of shape (n_tasks, n_features)
        The pool as it is now.
    kept : int array of shape (n_tasks,)
        Each task's row in the old pool, its vector being the same; NEW = -1 for those that were not in it.

    Raises
    ------
    InputError
        If X is no finite matrix with at least one row, or kept has another length, names a row that the old pool
        has not, or one twice.

    Examples
    --------
    >>> graph = build_graph(np.float32([[0], [1], [9]]), np.int32([0, 0, 0]), n_neighbors=1)
    >>> now = update_graph(graph, np.float32([[8], [0], [9]]), np.array([NEW, 0, 2]))
    >>> now.rows, now.neighbors.ravel()
    (array([1, 2, 0], dtype=int32), array([2, 2, 1], dtype=int32))
    """
    X, kept = _checked(X), np.asarray(kept)
    _check_kept(kept, len(X), len(graph.node_of))
    node_of, renumbered = _carried_over(graph, X, kept)
    n_old, n_nodes = int(renumbered.max()) + 1, int(node_of.max()) + 1
    rows = np.empty(n_nodes, np.int32)
    rows[node_of[::-1]] = np.arange(len(X), dtype=np.int32)[::-1]
    nodes, k = _Vectors(X, rows), min(graph.n_neighbors, n_nodes - 1)

    neighbors, distances = np.full((n_nodes, k), -1, np.int32), np.full((n_nodes, k), np.inf, np.float32)
    if k == graph.neighbors.shape[1]:
        neighbors[:n_old] = renumbered[graph.neighbors[renumbered >= 0]]
        distances[:n_old] = graph.distances[renumbered >= 0]
    anew = np.flatnonzero((neighbors < 0).any(axis=1)).astype(np.int32)
    whole = np.setdiff1d(np.arange(n_old, dtype=np.int32), anew)
    with threadpool_limits(1):
        if len(anew):
            neighbors[anew], distances[anew] = _search(nodes, nodes.at(anew), anew, k)
        if len(whole) and n_nodes > n_old:
            lists = neighbors[whole], distances[whole]
            neighbors[whole], distances[whole] = _with_newcomers(nodes, whole, *lists, n_old)
    return NeighborGraph(node_of, rows, neighbors, distances, graph.recall, graph.n_neighbors)


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
    X, X_new = _checked(X), _checked(X_new)
    if X_new.shape[1] != X.shape[1]:
        raise InputError(f"X_new has {X_new.shape[1]} features: expected {X.shape[1]}, as many as X")
    if n_neighbors < 1:
        raise InputError(f"n_neighbors={n_neighbors}: expected at least 1")
    queries = _Vectors(X_new, np.arange(len(X_new), dtype=np.int32))
    nowhere = np.full(len(X_new), -1, np.int32)
    with threadpool_limits(1):
        return _search(_Vectors(X, graph.rows), queries, nowhere, min(n_neighbors, len(graph.rows)))


def _checked(X: Any) -> NDArray[np.float32]:
    checked = checked_pool(X)
    largest = max(checked.max(), -checked.min())
    if largest > LARGEST_FEATURE:
        raise InputError(f"X holds {largest:g} in size: expected at most {LARGEST_FEATURE:g}")
    return checked


# ── Equal tasks ──────────────────────────────────────────────────────────────────────────────────────────


def _distinct(
    X: NDArray[np.float32], cluster_ids: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the node of each task and the first row of each node, numbered by cluster, then row."""
    first = _first_equal(X)
    rows = np.flatnonzero(first == np.arange(len(X))).astype(np.int32)
    rows = rows[np.argsort(cluster_ids[rows], kind="stable")]
    node_at = np.empty(len(X), np.int32)
    node_at[rows] = np.arange(len(rows), dtype=np.int32)
    return node_at[first], rows


def _first_equal(X: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return for each row the first row that equals it."""
    hashes = _hashes(X)
    first = np.empty(len(X), np.int32)
    pending = np.arange(len(X), dtype=np.int32)
    while len(pending):
        _, leaders, which = np.unique(hashes[pending], return_index=True, return_inverse=True)
        leader = pending[leaders][which]
        settled = _equal(X, pending, leader)
        first[pending[settled]] = leader[settled]
        # What has another's hash and yet differs goes round again; each round settles at least the leaders.
        pending = pending[~settled]
    return first


def _hashes(X: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Hash each row by a random sum of its bits, those of -0.0 taken as 0.0 (Carter & Wegman 1979)."""
    weights = np.random.default_rng(0).integers(2**64, size=X.shape[1], dtype=np.uint64)
    hashes = np.empty(len(X), np.uint64)
    for start in range(0, len(X), 1024):
        bits = (X[start : start + 1024] + np.float32(0)).view(np.uint32)
        np.einsum("ij,j->i", bits, weights, dtype=np.uint64, out=hashes[start : start + 1024])
    return hashes


def _equal(X: NDArray[np.float32], rows: NDArray[np.int32], others: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return where X[rows] equals X[others], row by row."""
    equal: NDArray[np.bool_] = rows == others
    unsure = np.flatnonzero(~equal)
    for at in range(0, len(unsure), PAIRS_AT_ONCE):
        some = unsure[at : at + PAIRS_AT_ONCE]
        equal[some] = (X[rows[some]] == X[others[some]]).all(axis=1)
    return equal


# ── Tasks that come and go ───────────────────────────────────────────────────────────────────────────────


def _check_kept(kept: NDArray[np.intp], n_tasks: int, n_before: int) -> None:
    if kept.shape != (n_tasks,) or kept.dtype.kind != "i":
        raise InputError(
            f"kept is {kept.dtype} of the shape {kept.shape}: expected an int for each of {n_tasks} tasks"
        )
    if kept.min() < NEW or kept.max() >= n_before:
        raise InputError(f"kept holds {kept.min()} to {kept.max()}: expected rows below {n_before}, or {NEW}")
    times = np.bincount(kept[kept != NEW])
    if (times > 1).any():
        raise InputError(f"kept names row {times.argmax()} {times.max()} times: expected each once")


def _carried_over(
    graph: NeighborGraph, X: NDArray[np.float32], kept: NDArray[np.intp]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the node of each task now, and the new number of each old node, -1 for those that are gone."""
    stayed = kept != NEW
    stays = np.zeros(len(graph.rows), bool)
    stays[graph.node_of[kept[stayed]]] = True
    renumbered = np.where(stays, np.cumsum(stays) - 1, -1).astype(np.int32)
    node_of = np.full(len(X), -1, np.int32)
    node_of[stayed] = renumbered[graph.node_of[kept[stayed]]]
    if not stayed.all():
        first = _first_equal(X)
        node_at = np.full(len(X), -1, np.int32)
        node_at[first[stayed]] = node_of[stayed]
        leaders = np.unique(first[node_at[first] < 0])
        node_at[leaders] = stays.sum() + np.arange(len(leaders))
        node_of[~stayed] = node_at[first[~stayed]]
    return node_of, renumbered


def _with_newcomers(
    nodes: "_Vectors",
    whole: NDArray[np.int32],
    neighbors: NDArray[np.int32],
    distances: NDArray[np.float32],
    n_old: int,
) -> Lists:
    """Return the lists of the nodes ``whole`` with those nodes from n_old on that belong there."""
    k = neighbors.shape[1]

    def search(chunk: slice) -> Lists:
        some = whole[chunk]
        candidates = _Candidates(nodes, nodes.at(some), some, k, kth=distances[chunk, -1] ** 2)
        candidates.meet(np.arange(len(some), dtype=np.int32), n_old, len(nodes))
        return candidates.nearest()

    newcomers, how_far = _in_parallel(search, _chunks(len(whole), NODES_AT_ONCE))
    both, far = np.hstack([neighbors, newcomers]), np.hstack([distances, how_far])
    order = np.lexsort((nodes.rows[both], far))[:, :k]
    return np.take_along_axis(both, order, axis=1), np.take_along_axis(far, order, axis=1)


# ── Searching ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Vectors:
    """Some rows of a matrix, in an order of their own and not copied."""

    X: NDArray[np.float32]
    rows: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, which: Any) -> "_Vectors":
        return _Vectors(self.X, self.rows[which])

    def take(self, which: Any, out: NDArray[np.float32]) -> NDArray[np.float32]:
        """Copy vectors into the first rows of ``out``, and return these: fresh memory costs more than the copy."""
        rows = self.rows[which]
        return np.take(self.X, rows, axis=0, out=out[: len(rows)], mode="clip")


class _Candidates:
    """For some queries, the nodes that may be among their k nearest, as they turn up.

    Squared distances come from |q|^2 + |c|^2 - 2qc in float32, around an origin amid the queries. What is within
    that formula's rounding of the k-th best is a candidate too, and in the end distances without it decide: so the
    outcome depends neither on tiles nor on origins.

    Parameters
    ----------
    nodes, queries : _Vectors
    itself : int32 array of shape (n_queries,)
        The node that each query is, which is no neighbour; -1 for none.
    k : int
    kth : float32 array of shape (n_queries,), optional
        Squared distances beyond which nothing is looked for.
    """

    def __init__(
        self,
        nodes: _Vectors,
        queries: _Vectors,
        itself: NDArray[np.int32],
        k: int,
        *,
        kth: NDArray[np.float32] | None = None,
    ) -> None:
        self.nodes, self.queries, self.itself, self.k = nodes, queries, itself, k
        self.kth = np.full(len(queries), np.inf, np.float32) if kth is None else kth
        # The largest squared distance from a query to an origin, on which the rounding depends.
        self.spread = np.zeros(len(queries), np.float32)
        n_features = nodes.X.shape[1]
        self.rounding = np.float32(ROUNDING * n_features**0.5)
        self.found = [(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))]
        self.size, self.limit = 0, 4 * k * len(queries)
        tile = min(TILE, len(nodes))
        self._Q = np.empty((QUERIES_AT_ONCE, n_features), np.float32)
        self._C = np.empty((tile, n_features), np.float32)
        self._D = np.empty(QUERIES_AT_ONCE * tile, np.float32)
        self._near = np.empty(QUERIES_AT_ONCE * tile, np.bool_)

    def meet(self, which: NDArray[np.int32], start: int, stop: int) -> None:
        """Compare the queries ``which`` with the nodes from start to stop."""
        for chunk in _chunks(len(which), QUERIES_AT_ONCE):
            some = which[chunk]
            Q = self.queries.take(some, self._Q)
            origin = _middle(Q)
            Q -= origin
            norms = np.einsum("ij,ij->i", Q, Q)
            self.spread[some] = np.maximum(self.spread[some], norms)
            Q *= -2
            for begin in range(start, stop, TILE):
                end = min(begin + TILE, stop)
                C = self.nodes.take(slice(begin, end), self._C)
                C -= origin
                D = np.matmul(Q, C.T, out=self._D[: len(Q) * len(C)].reshape(len(Q), len(C)))
                D += np.einsum("ij,ij->i", C, C)
                self._sift(some, D, norms, begin)

    def _sift(
        self, which: NDArray[np.int32], D: NDArray[np.float32], norms: NDArray[np.float32], begin: int
    ) -> None:
        """Take up what is near from a tile D of squared distances less the queries' norms."""
        n_nodes = D.shape[1]
        itself = self.itself[which] - begin
        inside = np.flatnonzero((itself >= 0) & (itself < n_nodes))
        D[inside, itself[inside]] = np.inf
        fresh = np.isinf(self.kth[which])
        if fresh.any() and n_nodes > self.k:
            kth = np.partition(D[fresh], self.k - 1, axis=1)[:, self.k - 1]
            self.kth[which[fresh]] = np.maximum(kth + norms[fresh], 0)
        # A finite bound, for a query is infinitely far from itself.
        bounds = np.minimum(self._bounds(which) - norms, np.finfo(np.float32).max)
        near = np.less_equal(D, bounds[:, None], out=self._near[: D.size].reshape(D.shape))
        hits = np.flatnonzero(near)
        queries, nodes = np.divmod(hits, n_nodes)
        squared = np.maximum(D.ravel()[hits] + norms[queries], 0)
        self.found.append((which[queries], (nodes + begin).astype(np.int32), squared))
        self.size += len(hits)
        if self.size > self.limit:
            self._shrink()
            self.limit = max(self.limit, 2 * self.size)

    def _bounds(self, which: Any) -> NDArray[np.float32]:
        """Return up to which squared distance a node may be among the k nearest, rounding included."""
        kth = self.kth[which]
        bounds: NDArray[np.float32] = kth + self.rounding * (2 * np.sqrt(self.spread[which]) + np.sqrt(kth)) ** 2
        return bounds

    def _shrink(self) -> None:
        """Sort the candidates by query and distance, and drop those that are none any more."""
        queries, nodes, squared = (np.concatenate(parts) for parts in zip(*self.found, strict=True))
        order = np.argsort(_sort_keys(queries, squared))
        queries, nodes, squared = queries[order], nodes[order], squared[order]
        kth = _ranks(queries) == self.k - 1
        self.kth[queries[kth]] = np.minimum(self.kth[queries[kth]], squared[kth])
        keep = squared <= self._bounds(slice(None))[queries]
        self.found = [(queries[keep], nodes[keep], squared[keep])]
        self.size = len(self.found[0][0])

    def nearest(self) -> Lists:
        """Return the k nearest of the nodes met and the distances to them; -1 and infinity where there are none."""
        self._shrink()
        queries, nodes, _ = self.found[0]
        exact = self._distances(queries, nodes)
        order = _sorted_by(_sort_keys(queries, exact), self.nodes.rows[nodes])
        ranks = _ranks(queries)
        best = ranks < self.k
        place, order = (queries[best], ranks[best]), order[best]
        neighbors = np.full((len(self.queries), self.k), -1, np.int32)
        distances = np.full((len(self.queries), self.k), np.inf, np.float32)
        neighbors[place], distances[place] = nodes[order], exact[order]
        return neighbors, distances

    def _distances(self, queries: NDArray[np.int32], nodes: NDArray[np.int32]) -> NDArray[np.float32]:
        distances = np.empty(len(queries), np.float32)
        A, B = np.empty((2, PAIRS_AT_ONCE, self.nodes.X.shape[1]), np.float32)
        for chunk in _chunks(len(queries), PAIRS_AT_ONCE):
            differences = self.queries.take(queries[chunk], A)
            differences -= self.nodes.take(nodes[chunk], B)
            np.einsum("ij,ij->i", differences, differences, out=distances[chunk])
        return np.sqrt(distances, out=distances)


def _middle(Q: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the medians of some rows: one wild row would drag a mean far off, and rounding would grow."""
    some = Q[:: max(len(Q) // 9, 1)]
    middle: NDArray[np.float32] = np.partition(some, len(some) // 2, axis=0)[len(some) // 2]
    return middle


def _ranks(groups: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return the place of each element in its group; the groups are sorted.

    >>> _ranks(np.int32([2, 2, 5]))
    array([0, 1, 0])
    """
    at = np.arange(len(groups))
    first = np.append(True, groups[1:] != groups[:-1])[: len(groups)]
    return at - np.maximum.accumulate(np.where(first, at, 0))


def _sort_keys(groups: NDArray[np.int32], distances: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return integers in the order of group, then distance: from 0 up, floats are in the order of their bits."""
    keys: NDArray[np.uint64] = groups.astype(np.uint64) << np.uint64(32) | distances.view(np.uint32)
    return keys


def _sorted_by(keys: NDArray[np.uint64], tie_breakers: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return np.lexsort((tie_breakers, keys)), several times as fast where ties are few."""
    order = np.argsort(keys)
    equal = keys[order[1:]] == keys[order[:-1]]
    ties = np.flatnonzero(np.append(equal, False) | np.append(False, equal)) if len(keys) else order
    tied = order[ties]
    order[ties] = tied[np.lexsort((tie_breakers[tied], keys[tied]))]
    return order


def _chunks(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _in_parallel(search: Callable[[slice], Lists], chunks: Iterable[slice]) -> Lists:
    """Return the lists of all chunks, searched by as many threads as pay while BLAS keeps to one each."""
    with ThreadPoolExecutor(THREADS) as threads:
        neighbors, distances = zip(*threads.map(search, chunks), strict=True)
    return np.concatenate(neighbors), np.concatenate(distances)


def _search(nodes: _Vectors, queries: _Vectors, itself: NDArray[np.int32], k: int) -> Lists:
    """Find the k nearest nodes of each query by comparing it with all."""

    def search(chunk: slice) -> Lists:
        candidates = _Candidates(nodes, queries.at(chunk), itself[chunk], k)
        everyone = np.arange(chunk.stop - chunk.start, dtype=np.int32)
        # Neighbouring numbers are of one cluster: the queries' own range is near, and leaves few of the rest.
        start, stop = int(itself[chunk].min()), int(itself[chunk].max()) + 1
        if start < 0 or stop - start > TILE:
            start = stop = 0
        for begin, end in ((start, stop), (0, start), (stop, len(nodes))):
            candidates.meet(everyone, begin, end)
        return candidates.nearest()

    if k == 0:
        return np.empty((len(queries), 0), np.int32), np.empty((len(queries), 0), np.float32)
    return _in_parallel(search, _chunks(len(queries), QUERIES_AT_ONCE))


# ── Searching in reach ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Cells:
    """The nodes cut into clusters.

    Attributes
    ----------
    nodes : _Vectors
    bounds : int array of shape (n_cells + 1,)
        Cell c has the nodes from bounds[c] to bounds[c + 1].
    cell_of : int32 array of shape (n_nodes,)
    centers : float32 array of shape (n_cells, n_features)
        Means, around ``origin``.
    origin : float32 array of shape (n_features,)
    """

    nodes: _Vectors
    bounds: NDArray[np.intp]
    cell_of: NDArray[np.int32]
    centers: NDArray[np.float32]
    origin: NDArray[np.float32]

    def detours(self, which: Any) -> NDArray[np.float32]:
        """Return how much farther than its own cell's centre each centre is from a node; (n_which, n_cells)."""
        Q = self.nodes.X[self.nodes.rows[which]]
        Q -= self.origin
        D: NDArray[np.float32] = Q @ self.centers.T
        D *= -2
        D += np.einsum("ij,ij->i", self.centers, self.centers)
        D += np.einsum("ij,ij->i", Q, Q)[:, None]
        np.sqrt(np.maximum(D, 0, out=D), out=D)
        D -= np.take_along_axis(D, self.cell_of[which][:, None], axis=1)
        return D


def _cells(nodes: _Vectors, cluster_ids: NDArray[np.int32]) -> _Cells:
    """Cut nodes, which are sorted by cluster, into their clusters."""
    bounds = np.flatnonzero(np.concatenate([[True], cluster_ids[1:] != cluster_ids[:-1], [True]]))
    centers = np.stack([nodes.X[nodes.rows[a:b]].mean(axis=0) for a, b in pairwise(bounds)])
    origin = np.median(centers, axis=0)
    cell_of = np.repeat(np.arange(len(centers), dtype=np.int32), np.diff(bounds))
    return _Cells(nodes, bounds, cell_of, centers - origin, origin)


def _search_in_reach(
    nodes: _Vectors, cluster_ids: NDArray[np.int32], k: int, random_state: int
) -> tuple[Lists, float] | None:
    """Find most of the k nearest nodes of each node, and which share; None if that takes as long as finding all."""
    cells = _cells(nodes, cluster_ids)
    if len(cells.centers) > MOST_CLUSTERS_PER_ROOT * len(nodes) ** 0.5:
        return None
    drawn = np.random.default_rng(random_state).choice(len(nodes), 2 * N_QUERIES, replace=False).astype(np.int32)
    true, _ = _search(nodes, nodes.at(drawn), drawn, k)
    reach, share = _reach(cells, drawn[:N_QUERIES], true[:N_QUERIES])
    if share > WORTHWHILE_SHARE:
        return None
    size = min(NODES_AT_ONCE, -(-len(nodes) // THREADS), max(REACHED_AT_ONCE // len(cells.centers), 1))
    lists = _in_parallel(lambda chunk: _nearest_in_reach(cells, chunk, k, reach), _chunks(len(nodes), size))
    _complete(nodes, *lists)
    recall = float((lists[0][drawn[N_QUERIES:], :, None] == true[N_QUERIES:, None]).any(axis=1).mean())
    return (lists, recall) if recall >= LEAST_RECALL else None


def _reach(cells: _Cells, queries: NDArray[np.int32], true: NDArray[np.int32]) -> tuple[np.float32, float]:
    """Return which detours lead to AIMED_RECALL of the true neighbours, and what share of the nodes lies within."""
    detours = cells.detours(queries)
    needed = np.take_along_axis(detours, cells.cell_of[true], axis=1)
    reach = np.quantile(needed, AIMED_RECALL, method="higher")
    return reach, float(((detours <= reach) @ np.diff(cells.bounds)).mean() / len(cells.nodes))


def _nearest_in_reach(cells: _Cells, chunk: slice, k: int, reach: np.float32) -> Lists:
    """Find the nearest nodes of a chunk of nodes among the members of their own cells, then of those in reach."""
    queries = np.arange(chunk.start, chunk.stop, dtype=np.int32)
    candidates = _Candidates(cells.nodes, cells.nodes.at(chunk), queries, k)
    for cell in np.unique(cells.cell_of[chunk]):
        start, stop = cells.bounds[cell : cell + 2]
        members = np.arange(max(start, chunk.start), min(stop, chunk.stop), dtype=np.int32)
        candidates.meet(members - chunk.start, start, stop)
    in_reach = np.empty((len(cells.centers), len(queries)), np.bool_)
    for part in _chunks(len(queries), QUERIES_AT_ONCE):
        in_reach[:, part] = (cells.detours(queries[part]) <= reach).T
    in_reach[cells.cell_of[chunk], queries - chunk.start] = False
    for cell, reaching in enumerate(in_reach):
        candidates.meet(np.flatnonzero(reaching).astype(np.int32), *cells.bounds[cell : cell + 2])
    return candidates.nearest()


def _complete(nodes: _Vectors, neighbors: NDArray[np.int32], distances: NDArray[np.float32]) -> None:
    """Search exactly, in place, for the nodes that have fewer than k others in reach."""
    short = np.flatnonzero((neighbors < 0).any(axis=1)).astype(np.int32)
    if len(short):
        neighbors[short], distances[short] = _search(nodes, nodes.at(short), short, neighbors.shape[1])
