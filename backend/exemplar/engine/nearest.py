"""Nearest neighbours of vectors, searched tile by tile: all of them, or those in reach.

Own code, because pynndescent, the library to take, brings numba and was slower at no better recall
(benchmarks/speed_graph.py). Rounding never decides who is a neighbour, so that the outcome depends neither on
tiles nor on threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The reach is set so that this share of the true neighbours of N_QUERIES nodes lies within; then the outcome is
# measured on N_QUERIES others, and below LEAST_RECALL all is compared after all.
AIMED_RECALL = 0.99
LEAST_RECALL = 0.95
N_QUERIES = 100
# In which cells neighbours may be is asked along so many main directions of their centres.
N_DIRECTIONS = 48
# When reach takes in more than this share of all pairs, or clusters are so many that looking at each costs more
# than its members, then comparing everything is no slower.
WORTHWHILE_SHARE = 0.25
MOST_CLUSTERS_PER_ROOT = 16

# 512 x 2048 distances stay in the cache while they are computed, compared and read.
QUERIES_AT_ONCE = 512
TILE = 2048
PAIRS_AT_ONCE = 1024
# An approximate search holds the candidates of so many nodes at a time, and which of them reach which cluster.
NODES_AT_ONCE = 65_536
REACHED_AT_ONCE = 2**26
THREADS = 2

# Rounding errors add up like a random walk, with the root of the number of features (Higham & Mary 2019, "A new
# approach to probabilistic rounding error analysis"); so many roots are far beyond what is seen.
ROUNDING = 16 * float(np.finfo(np.float32).eps) / 2

Lists = tuple[NDArray[np.int32], NDArray[np.float32]]


# ── Searching ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Vectors:
    """Some rows of a matrix, in an order of their own and not copied."""

    X: NDArray[np.float32]
    rows: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, which: Any) -> "Vectors":
        return Vectors(self.X, self.rows[which])

    def take(self, which: Any, out: NDArray[np.float32]) -> NDArray[np.float32]:
        """Copy vectors into the first rows of ``out``, and return these: fresh memory costs more than the copy."""
        rows = self.rows[which]
        return np.take(self.X, rows, axis=0, out=out[: len(rows)], mode="clip")


class Candidates:
    """For some queries, the nodes that may be among their k nearest, as they turn up.

    Squared distances come from |q|^2 + |c|^2 - 2qc in float32, around an origin amid the queries. What is within
    that formula's rounding of the k-th best is a candidate too, and in the end distances without it decide: so the
    outcome depends neither on tiles nor on origins.

    Parameters
    ----------
    nodes, queries : Vectors
    itself : int32 array of shape (n_queries,)
        The node that each query is, which is no neighbour; -1 for none.
    k : int
    kth : float32 array of shape (n_queries,), optional
        Squared distances beyond which nothing is looked for.
    """

    def __init__(
        self,
        nodes: Vectors,
        queries: Vectors,
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
        for chunk in chunks(len(which), QUERIES_AT_ONCE):
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
            rows = D if fresh.all() else D[fresh]
            kth = np.partition(rows, self.k - 1, axis=1)[:, self.k - 1]
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
        for chunk in chunks(len(queries), PAIRS_AT_ONCE):
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


def chunks(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _equal_chunks(n: int, most: int) -> list[slice]:
    """Return chunks of equal size, as many for each thread: else one would wait for the other.

    >>> _equal_chunks(10, 4)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 9, None), slice(9, 10, None)]
    """
    rounds = -(-n // (most * THREADS))
    return chunks(n, -(-n // (rounds * THREADS)))


def in_parallel(search: Callable[[slice], Lists], n: int, most: int) -> Lists:
    """Return the lists of n queries, searched by as many threads as pay while BLAS keeps to one each."""
    with ThreadPoolExecutor(THREADS) as threads:
        neighbors, distances = zip(*threads.map(search, _equal_chunks(n, most)), strict=True)
    return np.concatenate(neighbors), np.concatenate(distances)


def search_all(nodes: Vectors, queries: Vectors, itself: NDArray[np.int32], k: int) -> Lists:
    """Find the k nearest nodes of each query by comparing it with all."""

    def search(chunk: slice) -> Lists:
        candidates = Candidates(nodes, queries.at(chunk), itself[chunk], k)
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
    return in_parallel(search, len(queries), QUERIES_AT_ONCE)


# ── Searching in reach ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Cells:
    """The nodes cut into clusters.

    Attributes
    ----------
    nodes : Vectors
    bounds : int array of shape (n_cells + 1,)
        Cell c has the nodes from bounds[c] to bounds[c + 1].
    cell_of : int32 array of shape (n_nodes,)
    directions : float32 array of shape (n_features, n_directions)
        The main ones of the centres.
    minus_twice_centers : float32 array of shape (n_cells, n_directions)
        The centres are means, around ``origin``; here along ``directions``.
    norms : float32 array of shape (n_cells,)
        Their squared lengths, along all directions.
    origin : float32 array of shape (n_features,)
    """

    nodes: Vectors
    bounds: NDArray[np.intp]
    cell_of: NDArray[np.int32]
    directions: NDArray[np.float32]
    minus_twice_centers: NDArray[np.float32]
    norms: NDArray[np.float32]
    origin: NDArray[np.float32]

    def detours(self, which: Any) -> NDArray[np.float32]:
        """Return how much farther from a node each centre is than its own cell's; (n_cells, n_which).

        What lies across the main directions is left out of the products, which are most of the work: where that
        matters, the reach is longer, for it is learnt from these very detours.
        """
        squared, own, norms = self._squared(which)
        return _roots(squared + norms) - _roots(own + norms)

    def in_reach(self, which: Any, reach: np.float32) -> NDArray[np.bool_]:
        """Return detours(which) <= reach, without the roots."""
        squared, own, norms = self._squared(which)
        near: NDArray[np.bool_] = squared <= (_roots(own + norms) + reach) ** 2 - norms
        return near

    def _squared(self, which: Any) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return squared distances from all centres and from the own, both less the squared norms; and these."""
        Q = self.nodes.X[self.nodes.rows[which]]
        Q -= self.origin
        squared: NDArray[np.float32] = self.minus_twice_centers @ (Q @ self.directions).T
        squared += self.norms[:, None]
        return squared, squared[self.cell_of[which], np.arange(len(Q))], np.einsum("ij,ij->i", Q, Q)


def _cells(nodes: Vectors, cluster_ids: NDArray[np.int32]) -> _Cells:
    """Cut nodes, which are sorted by cluster, into their clusters."""
    bounds = np.flatnonzero(np.concatenate([[True], cluster_ids[1:] != cluster_ids[:-1], [True]]))
    centers = np.stack([nodes.X[nodes.rows[a:b]].mean(axis=0) for a, b in pairwise(bounds)])
    origin = np.median(centers, axis=0)
    cell_of = np.repeat(np.arange(len(centers), dtype=np.int32), np.diff(bounds))
    centers -= origin
    directions = np.linalg.eigh(centers.T @ centers)[1][:, -N_DIRECTIONS:]
    norms = np.einsum("ij,ij->i", centers, centers)
    return _Cells(nodes, bounds, cell_of, directions, -2 * centers @ directions, norms, origin)


def _roots(squared: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the roots of what rounding may have made negative."""
    roots: NDArray[np.float32] = np.sqrt(np.maximum(squared, 0))
    return roots


def search_in_reach(
    nodes: Vectors, cluster_ids: NDArray[np.int32], k: int, random_state: int
) -> tuple[Lists, float] | None:
    """Find most of the k nearest nodes of each node, and which share; None if that takes as long as finding all."""
    cells = _cells(nodes, cluster_ids)
    if len(cells.norms) > MOST_CLUSTERS_PER_ROOT * len(nodes) ** 0.5:
        return None
    drawn = np.random.default_rng(random_state).choice(len(nodes), 2 * N_QUERIES, replace=False).astype(np.int32)
    true, _ = search_all(nodes, nodes.at(drawn), drawn, k)
    reach, share = _reach(cells, drawn[:N_QUERIES], true[:N_QUERIES])
    if share > WORTHWHILE_SHARE:
        return None
    size = min(NODES_AT_ONCE, max(REACHED_AT_ONCE // len(cells.norms), 1))
    lists = in_parallel(lambda chunk: _nearest_in_reach(cells, chunk, k, reach), len(nodes), size)
    _complete(nodes, *lists)
    recall = float((lists[0][drawn[N_QUERIES:], :, None] == true[N_QUERIES:, None]).any(axis=1).mean())
    return (lists, recall) if recall >= LEAST_RECALL else None


def _reach(cells: _Cells, queries: NDArray[np.int32], true: NDArray[np.int32]) -> tuple[np.float32, float]:
    """Return which detours lead to AIMED_RECALL of the true neighbours, and what share of the nodes lies within."""
    detours = cells.detours(queries)
    needed = np.take_along_axis(detours, cells.cell_of[true].T, axis=0)
    reach = np.quantile(needed, AIMED_RECALL, method="higher")
    return reach, float((np.diff(cells.bounds) @ (detours <= reach)).mean() / len(cells.nodes))


def _nearest_in_reach(cells: _Cells, chunk: slice, k: int, reach: np.float32) -> Lists:
    """Find the nearest nodes of a chunk of nodes among the members of their own cells, then of those in reach."""
    queries = np.arange(chunk.start, chunk.stop, dtype=np.int32)
    candidates = Candidates(cells.nodes, cells.nodes.at(chunk), queries, k)
    for cell in np.unique(cells.cell_of[chunk]):
        start, stop = cells.bounds[cell : cell + 2]
        members = np.arange(max(start, chunk.start), min(stop, chunk.stop), dtype=np.int32)
        candidates.meet(members - chunk.start, start, stop)
    in_reach = np.empty((len(cells.norms), len(queries)), np.bool_)
    for part in chunks(len(queries), QUERIES_AT_ONCE):
        in_reach[:, part] = cells.in_reach(queries[part], reach)
    in_reach[cells.cell_of[chunk], queries - chunk.start] = False
    for cell, reaching in enumerate(in_reach):
        candidates.meet(np.flatnonzero(reaching).astype(np.int32), *cells.bounds[cell : cell + 2])
    return candidates.nearest()


def _complete(nodes: Vectors, neighbors: NDArray[np.int32], distances: NDArray[np.float32]) -> None:
    """Search exactly, in place, for the nodes that have fewer than k others in reach."""
    short = np.flatnonzero((neighbors < 0).any(axis=1)).astype(np.int32)
    if len(short):
        neighbors[short], distances[short] = search_all(nodes, nodes.at(short), short, neighbors.shape[1])
