"""Nearest neighbours of vectors: all compared with all, tile by tile.

Own code, because pynndescent, the library to take, brings numba and was slower at no better recall
(benchmarks/speed_graph.py). Rounding never decides who is a neighbour, so that the outcome depends neither on
tiles nor on threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

# 512 x 2048 distances stay in the cache while they are computed, compared and read.
QUERIES_AT_ONCE = 512
TILE = 2048
PAIRS_AT_ONCE = 1024
# A search holds the candidates of at most so many nodes at a time.
NODES_AT_ONCE = 65_536
THREADS = 2

# Rounding errors add up like a random walk, with the root of the number of features (Higham & Mary 2019, "A new
# approach to probabilistic rounding error analysis"); so many roots are far beyond what is seen.
ROUNDING = 16 * float(np.finfo(np.float32).eps) / 2

Result = TypeVar("Result")
Lists = tuple[NDArray[np.int32], NDArray[np.float32]]


@dataclass(frozen=True)
class Vectors:
    """Some rows of a matrix, in an order of their own and not copied."""

    X: NDArray[np.float32]
    rows: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, which: Any) -> "Vectors":
        """Return some of these, still not copied."""
        return Vectors(self.X, self.rows[which])

    def take(self, which: Any, out: NDArray[np.float32]) -> NDArray[np.float32]:
        """Copy vectors into the first rows of ``out``, and return these: fresh memory costs more than the copy."""
        rows = self.rows[which]
        return np.take(self.X, rows, axis=0, out=out[: len(rows)], mode="clip")


class Shortlists:
    """For some queries, the nodes that may be among their k nearest, as tile after tile of distances turns up.

    Parameters
    ----------
    itself : int32 array of shape (n_queries,)
        The node that each query is, which is no neighbour; -1 for none.
    k : int
    kth : float32 array of shape (n_queries,), optional
        Squared distances beyond which nothing is looked for.
    """

    def __init__(self, itself: NDArray[np.int32], k: int, kth: NDArray[np.float32] | None = None) -> None:
        self.itself, self.k = itself, k
        self.kth = np.full(len(itself), np.inf, np.float32) if kth is None else kth
        self._found = [(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))]
        self._size, self._limit = 0, 4 * k * len(itself)
        self._near = np.empty(QUERIES_AT_ONCE * TILE, np.bool_)

    def sift(
        self, which: NDArray[np.int32], D: NDArray[np.float32], norms: NDArray[np.float32], begin: int
    ) -> None:
        """Take up what is near from a tile D: squared distances of queries, less ``norms``, from some nodes."""
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
        bounds = np.minimum(self.bounds(which) - norms, np.finfo(np.float32).max)
        near = np.less_equal(D, bounds[:, None], out=self._near[: D.size].reshape(D.shape))
        hits = np.flatnonzero(near)
        queries, nodes = np.divmod(hits, n_nodes)
        squared = np.maximum(D.ravel()[hits] + norms[queries], 0)
        self._found.append((which[queries], (nodes + begin).astype(np.int32), squared))
        self._size += len(hits)
        if self._size > self._limit:
            self.shortened()
            self._limit = max(self._limit, 2 * self._size)

    def bounds(self, which: Any) -> NDArray[np.float32]:
        """Return up to which squared distance a node may be among the k nearest."""
        kth: NDArray[np.float32] = self.kth[which]
        return kth

    def shortened(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Drop the nodes that are none of the k nearest any more; return queries and nodes, nearest first."""
        queries, nodes, squared = (np.concatenate(parts) for parts in zip(*self._found, strict=True))
        order = np.argsort(_sort_keys(queries, squared))
        queries, nodes, squared = queries[order], nodes[order], squared[order]
        kth = _ranks(queries) == self.k - 1
        self.kth[queries[kth]] = np.minimum(self.kth[queries[kth]], squared[kth])
        keep = squared <= self.bounds(slice(None))[queries]
        self._found = [(queries[keep], nodes[keep], squared[keep])]
        self._size = len(self._found[0][0])
        return self._found[0][:2]


class Candidates(Shortlists):
    """Shortlists on which no rounding has told.

    Squared distances come from |q|^2 + |c|^2 - 2qc in float32, around an origin amid the queries. What is within
    that formula's rounding of the k-th best is a candidate too, and in the end distances without it decide: so the
    outcome depends neither on tiles nor on origins.

    Parameters
    ----------
    nodes, queries : Vectors
    itself, k, kth : as for Shortlists
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
        super().__init__(itself, k, kth)
        self.nodes, self.queries = nodes, queries
        # The largest squared distance from a query to an origin, on which the rounding depends.
        self.spread = np.zeros(len(queries), np.float32)
        n_features = nodes.X.shape[1]
        self.rounding = np.float32(ROUNDING * n_features**0.5)
        tile = min(TILE, len(nodes))
        self._Q = np.empty((QUERIES_AT_ONCE, n_features), np.float32)
        self._C = np.empty((tile, n_features), np.float32)
        self._D = np.empty(QUERIES_AT_ONCE * tile, np.float32)

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
                self.sift(some, D, norms, begin)

    def bounds(self, which: Any) -> NDArray[np.float32]:
        """Return up to which squared distance a node may be among the k nearest, rounding included."""
        kth = self.kth[which]
        bounds: NDArray[np.float32] = kth + self.rounding * (2 * np.sqrt(self.spread[which]) + np.sqrt(kth)) ** 2
        return bounds

    def nearest(self) -> Lists:
        """Return the k nearest of the nodes met and the distances to them; -1 and infinity where there are none."""
        queries, nodes = self.shortened()
        return nearest_of(self.nodes, self.queries, queries, nodes, self.k)


def nearest_of(
    nodes: Vectors, queries: Vectors, of: NDArray[np.int32], candidates: NDArray[np.int32], k: int
) -> Lists:
    """Return the k nearest of each query's candidates, and how far they are; -1 and infinity where there are none.

    ``of`` has the query of each candidate; among equally near ones the one of the lower row comes first.
    """
    far = _distances(nodes, queries, of, candidates)
    keys = _sort_keys(of, far)
    order = _sorted_by(keys, nodes.rows[candidates])
    places = _ranks(of[order])
    best = places < k
    order, place = order[best], (of[order[best]], places[best])
    neighbors = np.full((len(queries), k), -1, np.int32)
    distances = np.full((len(queries), k), np.inf, np.float32)
    neighbors[place], distances[place] = candidates[order], far[order]
    return neighbors, distances


def _distances(
    nodes: Vectors, queries: Vectors, of: NDArray[np.int32], candidates: NDArray[np.int32]
) -> NDArray[np.float32]:
    distances = np.empty(len(of), np.float32)
    A, B = np.empty((2, PAIRS_AT_ONCE, nodes.X.shape[1]), np.float32)
    for chunk in chunks(len(of), PAIRS_AT_ONCE):
        differences = queries.take(of[chunk], A)
        differences -= nodes.take(candidates[chunk], B)
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
    """Return n rows in slices of so many.

    >>> chunks(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
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
    neighbors, distances = zip(*in_threads(search, _equal_chunks(n, most)), strict=True)
    return np.concatenate(neighbors), np.concatenate(distances)


def in_threads(work: Callable[[slice], Result], parts: list[slice]) -> list[Result]:
    """Return what ``work`` makes of each part, in order."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(work, parts))


def search_all(nodes: Vectors, queries: Vectors, itself: NDArray[np.int32], k: int) -> Lists:
    """Find the k nearest nodes of each query by comparing it with all."""
    everyone = np.arange(len(queries), dtype=np.int32)

    def search(chunk: slice) -> Lists:
        candidates = Candidates(nodes, queries.at(chunk), itself[chunk], k)
        some = everyone[: chunk.stop - chunk.start]
        # Neighbouring numbers are of one cluster: the queries' own range is near, and leaves few of the rest.
        start, stop = int(itself[chunk].min()), int(itself[chunk].max()) + 1
        if start < 0 or stop - start > TILE:
            start = stop = 0
        for begin, end in ((start, stop), (0, start), (stop, len(nodes))):
            candidates.meet(some, begin, end)
        return candidates.nearest()

    def search_part(part: slice) -> Lists:
        candidates = Candidates(nodes, queries, itself, k)
        candidates.meet(everyone, part.start, part.stop)
        return candidates.nearest()

    if k == 0:
        return np.empty((len(queries), 0), np.int32), np.empty((len(queries), 0), np.float32)
    if len(queries) <= QUERIES_AT_ONCE:
        # To fetch the nodes takes as long as to compare so few with them: each thread has its own.
        return merged(nodes, in_threads(search_part, _equal_chunks(len(nodes), len(nodes))), k)
    return in_parallel(search, len(queries), QUERIES_AT_ONCE)


def merged(nodes: Vectors, lists: list[Lists], k: int) -> Lists:
    """Return the k nearest of several lists for the same queries."""
    neighbors, distances = (np.hstack(parts) for parts in zip(*lists, strict=True))
    order = np.lexsort((nodes.rows[neighbors], distances))[:, :k]
    return np.take_along_axis(neighbors, order, axis=1), np.take_along_axis(distances, order, axis=1)
