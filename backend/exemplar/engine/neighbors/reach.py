"""Most of the nearest neighbours of every node of a large pool, and which share of them that is.

A node is compared with the members of those cells, that is clusters, whose centre is hardly farther from it than
that of its own; and by sketches, 48 numbers instead of a whole vector. Then the best by sketch are compared in
full. How far is in reach, and how many are the best, is learnt from exact queries, and the outcome is measured on
others: where sketches or clusters say little it takes longer, but finds no less.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.neighbors.nearest import (
    NODES_AT_ONCE,
    QUERIES_AT_ONCE,
    TILE,
    Lists,
    Shortlists,
    Vectors,
    chunks,
    in_parallel,
    in_threads,
    nearest_of,
    search_all,
)
from exemplar.engine.projection import main_directions

# Reach, and the number of the best by sketch, are set so that either keeps this share of the true neighbours of
# N_QUERIES nodes; the outcome is measured on N_QUERIES others, and below LEAST_RECALL all is compared after all.
AIMED_RECALL = 0.995
LEAST_RECALL = 0.95
N_QUERIES = 100
# When reach takes in more than this share of all pairs, or clusters are so many that looking at each costs more
# than its members, then comparing everything is no slower.
WORTHWHILE_SHARE = 0.25
MOST_CLUSTERS_PER_ROOT = 16

# Sketches are along so many main directions of the pool; or along all, where those would leave more than so many
# to compare in full. Where all directions leave more than MOST_SHORTLISTED, float32 does not tell tasks apart.
N_DIRECTIONS = 48
MOST_IN_FULL, MOST_SHORTLISTED = 32, 256
N_FITTED = 2048
# A search holds which of its nodes reach which cell.
REACHED_AT_ONCE = 2**26


@dataclass(frozen=True)
class _Sketches:
    """The nodes along some directions, around a point amid them.

    The squared distance of two nodes is taken for |a|^2 + |b|^2 - 2ab with ab along these directions only: as if
    what is across them were at right angles.

    Attributes
    ----------
    along : float32 array of shape (n_nodes, n_directions)
    norms : float32 array of shape (n_nodes,)
        |a|^2, along all directions there are.
    """

    along: NDArray[np.float32]
    norms: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.norms)


def _sketches(nodes: Vectors, n_directions: int, random_state: int) -> _Sketches:
    """Sketch the nodes along their main directions, or along all."""
    rng = np.random.default_rng(random_state)
    some = nodes.X[nodes.rows[rng.choice(len(nodes), min(N_FITTED, len(nodes)), replace=False)]]
    origin = np.median(some, axis=0)
    directions = main_directions(some - origin, n_directions) if n_directions < nodes.X.shape[1] else None

    n_along = nodes.X.shape[1] if directions is None else n_directions
    sketches = _Sketches(np.empty((len(nodes), n_along), np.float32), np.empty(len(nodes), np.float32))

    def sketch(part: slice) -> None:
        Q = nodes.X[nodes.rows[part]]
        Q -= origin
        sketches.along[part] = Q if directions is None else Q @ directions
        np.einsum("ij,ij->i", Q, Q, out=sketches.norms[part])

    in_threads(sketch, chunks(len(nodes), TILE))
    return sketches


@dataclass(frozen=True)
class _Cells:
    """The nodes cut into clusters.

    Attributes
    ----------
    sketches : _Sketches
    bounds : int array of shape (n_cells + 1,)
        Cell c has the nodes from bounds[c] to bounds[c + 1].
    cell_of : int32 array of shape (n_nodes,)
    centers : float32 array of shape (n_cells, n_directions)
        Means of the members' sketches.
    norms : float32 array of shape (n_cells,)
        Their squared lengths.
    """

    sketches: _Sketches
    bounds: NDArray[np.intp]
    cell_of: NDArray[np.int32]
    centers: NDArray[np.float32]
    norms: NDArray[np.float32]

    def detours(self, which: Any) -> NDArray[np.float32]:
        """Return how much farther from a node each centre is than its own cell's; (n_cells, n_which)."""
        squared, own, norms = self._squared(which)
        return _roots(squared + norms) - _roots(own + norms)

    def in_reach(self, which: Any, reach: np.float32) -> NDArray[np.bool_]:
        """Return detours(which) <= reach, without the roots."""
        squared, own, norms = self._squared(which)
        near: NDArray[np.bool_] = squared <= (_roots(own + norms) + reach) ** 2 - norms
        return near

    def _squared(self, which: Any) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return squared distances from all centres and from the own, both less the squared norms; and these."""
        Q = self.sketches.along[which]
        squared: NDArray[np.float32] = self.centers @ (-2 * Q.T)
        squared += self.norms[:, None]
        return squared, squared[self.cell_of[which], np.arange(len(Q))], np.einsum("ij,ij->i", Q, Q)


def _cells(sketches: _Sketches, cluster_ids: NDArray[np.int32]) -> _Cells:
    """Cut nodes, which are sorted by cluster, into their clusters."""
    bounds = np.flatnonzero(np.concatenate([[True], cluster_ids[1:] != cluster_ids[:-1], [True]]))
    sizes = np.diff(bounds)
    centers = np.add.reduceat(sketches.along, bounds[:-1], axis=0)
    centers /= sizes[:, None]
    cell_of = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return _Cells(sketches, bounds, cell_of, centers, np.einsum("ij,ij->i", centers, centers))


def _roots(squared: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the roots of what rounding may have made negative."""
    roots: NDArray[np.float32] = np.sqrt(np.maximum(squared, 0))
    return roots


class _BySketch(Shortlists):
    """Shortlists of some nodes, by sketch.

    Parameters
    ----------
    sketches : _Sketches
    queries : slice
        The nodes.
    size : int
        How many are to be the best.
    """

    def __init__(self, sketches: _Sketches, queries: slice, size: int) -> None:
        super().__init__(np.arange(queries.start, queries.stop, dtype=np.int32), size)
        self._sketches = sketches
        self._minus_twice, self._norms = -2 * sketches.along[queries], sketches.norms[queries]

    def meet(self, which: NDArray[np.int32], start: int, stop: int) -> None:
        """Compare the queries ``which`` with the nodes from start to stop."""
        for chunk in chunks(len(which), QUERIES_AT_ONCE):
            some = which[chunk]
            Q, norms = self._minus_twice[some], self._norms[some]
            for begin in range(start, stop, TILE):
                tile = slice(begin, min(begin + TILE, stop))
                D = Q @ self._sketches.along[tile].T
                D += self._sketches.norms[tile]
                self.sift(some, D, norms, begin)


def search_in_reach(
    nodes: Vectors, cluster_ids: NDArray[np.int32], k: int, random_state: int
) -> tuple[Lists, float] | None:
    """Find most of the k nearest nodes of each node, and which share; None if that takes as long as finding all.

    The nodes are sorted by cluster.

    >>> around = np.random.default_rng(0).standard_normal((100, 2), np.float32)
    >>> X = np.concatenate([around + [9 * group, 0] for group in range(8)], dtype=np.float32)
    >>> nodes = Vectors(X, np.arange(800, dtype=np.int32))
    >>> cluster_ids = np.repeat(np.arange(8, dtype=np.int32), 100)
    >>> (neighbors, distances), recall = search_in_reach(nodes, cluster_ids, k=3, random_state=0)
    >>> neighbors.shape, distances.shape, recall
    ((800, 3), (800, 3), 1.0)
    """
    n_clusters = 1 + np.count_nonzero(np.diff(cluster_ids))
    if n_clusters > MOST_CLUSTERS_PER_ROOT * len(nodes) ** 0.5:
        return None
    drawn = np.random.default_rng(random_state).choice(len(nodes), 2 * N_QUERIES, replace=False).astype(np.int32)
    true, _ = search_all(nodes, nodes.at(drawn), drawn, k)
    learnt, measured = slice(N_QUERIES), slice(N_QUERIES, None)
    for n_directions in (N_DIRECTIONS, nodes.X.shape[1]):
        sketches = _sketches(nodes, n_directions, random_state)
        n_best = _n_best(sketches, drawn[learnt], true[learnt])
        if n_best <= MOST_IN_FULL:
            break
    cells = _cells(sketches, cluster_ids)
    reach, share = _reach(cells, drawn[learnt], true[learnt])
    if share > WORTHWHILE_SHARE or n_best > MOST_SHORTLISTED:
        return None
    size = min(NODES_AT_ONCE, max(REACHED_AT_ONCE // len(cells.norms), 1))
    lists = in_parallel(lambda chunk: _nearest(nodes, cells, chunk, k, reach, n_best), len(nodes), size)
    _complete(nodes, *lists)
    recall = float((lists[0][drawn[measured], :, None] == true[measured, None]).any(axis=1).mean())
    return (lists, recall) if recall >= LEAST_RECALL else None


def _n_best(sketches: _Sketches, queries: NDArray[np.int32], true: NDArray[np.int32]) -> int:
    """Return how many of the best by sketch hold AIMED_RECALL of the true neighbours: as many as these, or more."""
    before = np.empty(true.shape, np.intp)
    for chunk in chunks(len(queries), 10):
        D = -2 * sketches.along[queries[chunk]] @ sketches.along.T
        D += sketches.norms
        D[np.arange(len(D)), queries[chunk]] = np.inf
        for place, row, neighbors in zip(range(chunk.start, chunk.stop), D, true[chunk], strict=True):
            near = np.sort(row[row <= row[neighbors].max()])
            before[place] = np.searchsorted(near, row[neighbors])
    n_before = int(np.quantile(before, AIMED_RECALL, method="higher"))
    return max(1 + n_before, int(true.shape[1]))


def _reach(cells: _Cells, queries: NDArray[np.int32], true: NDArray[np.int32]) -> tuple[np.float32, float]:
    """Return which detours lead to AIMED_RECALL of the true neighbours, and what share of the nodes lies within."""
    detours = cells.detours(queries)
    needed = np.take_along_axis(detours, cells.cell_of[true].T, axis=0)
    reach = np.quantile(needed, AIMED_RECALL, method="higher")
    return reach, float((np.diff(cells.bounds) @ (detours <= reach)).mean() / len(cells.sketches))


def _nearest(nodes: Vectors, cells: _Cells, chunk: slice, k: int, reach: np.float32, n_best: int) -> Lists:
    """Find the nearest nodes of a chunk of nodes: shortlisted in their own cells, then in those in reach."""
    shortlists = _BySketch(cells.sketches, chunk, n_best)
    for cell in range(cells.cell_of[chunk.start], cells.cell_of[chunk.stop - 1] + 1):
        start, stop = cells.bounds[cell : cell + 2]
        members = np.arange(max(start, chunk.start), min(stop, chunk.stop), dtype=np.int32)
        shortlists.meet(members - chunk.start, start, stop)
    queries = np.arange(chunk.start, chunk.stop, dtype=np.int32)
    in_reach = np.empty((len(cells.norms), len(queries)), np.bool_)
    for part in chunks(len(queries), TILE):
        in_reach[:, part] = cells.in_reach(queries[part], reach)
    in_reach[cells.cell_of[chunk], queries - chunk.start] = False
    for cell, reaching in enumerate(in_reach):
        shortlists.meet(np.flatnonzero(reaching).astype(np.int32), *cells.bounds[cell : cell + 2])
    return nearest_of(nodes, nodes.at(chunk), *shortlists.shortened(), k)


def _complete(nodes: Vectors, neighbors: NDArray[np.int32], distances: NDArray[np.float32]) -> None:
    """Search exactly, in place, for the nodes that have fewer than k others in reach."""
    short = np.flatnonzero((neighbors < 0).any(axis=1)).astype(np.int32)
    if len(short):
        neighbors[short], distances[short] = search_all(nodes, nodes.at(short), short, neighbors.shape[1])
