"""Which centre is nearest to each task: by one matrix product, or by bounds along a few directions.

Own code, because one BLAS thread for each of two chunks, and bounds, halve the time of scikit-learn and faiss where
tasks differ in some directions more than in others (benchmarks/speed_clusters.py); dozens of such passes make the
clusters.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.projection import main_directions
from exemplar.errors import InputError

Result = TypeVar("Result")

# Two threads over chunks leave a busy machine some room; scores of a chunk stay in the cache.
N_THREADS = min(2, os.cpu_count() or 1)
CHUNK = 2048

# Bounds may be along so many directions; how many, some rows tell. Besides products, a row takes the time of so
# many multiplications to sift a centre, and for each feature of a centre that is left: these wait for memory.
N_DIRECTIONS, N_TRIED = (32, 64), 256
TO_SIFT, TO_COMPARE = 20, 40
# Of fewer rows a product takes no longer than to find directions.
LEAST_BOUNDED = 30_000
# float32 sums of some hundred products are right to this share of their terms' size.
ROUNDING = np.float32(1e-5)

Assigned = tuple[NDArray[np.int32], NDArray[np.float32]]


def assign(X: NDArray[np.float32], centers: NDArray[np.float32]) -> Assigned:
    """Return each task's nearest centre and the Euclidean distance to it, chunk by chunk.

    Parameters
    ----------
    X : array of shape (n_tasks, n_features)
    centers : array of shape (n_clusters, n_features)

    Returns
    -------
    cluster_ids : int32 array of shape (n_tasks,)
    distances : float32 array of shape (n_tasks,)

    Raises
    ------
    InputError
        If there is no centre, or if it has another number of features than the tasks.

    Examples
    --------
    >>> assign(np.float32([[0], [9]]), np.float32([[1], [9]]))
    (array([0, 1], dtype=int32), array([1., 0.], dtype=float32))
    """
    X, centers = np.asarray(X), np.asarray(centers, np.float32)
    if centers.ndim != 2 or 0 in centers.shape or X.shape[1:] != centers.shape[1:]:
        raise InputError(f"X has the shape {X.shape}, centers {centers.shape}: expected a row each, equally long")
    with one_blas_thread():
        cluster_ids, squared = assign_squared(X, centers)
    return cluster_ids, np.sqrt(squared)


def assign_squared(X: NDArray[np.float32], centers: NDArray[np.float32]) -> Assigned:
    """Return each row's nearest centre and the squared distance to it."""
    scorer = Scorer.of(centers, bounding_directions(centers, X))
    cluster_ids, squared = np.empty(len(X), np.int32), np.empty(len(X), np.float32)

    def of_chunk(chunk: slice) -> Assigned:
        return scorer.nearest(X[chunk])[1:]

    for chunk, found in in_chunks(len(X), of_chunk):
        cluster_ids[chunk], squared[chunk] = found
    return cluster_ids, squared


def bounding_directions(centers: NDArray[np.float32], X: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return those main directions of centres along which bounds save most; None where a product is faster."""
    n_centers, n_features = centers.shape
    if min(n_centers, n_features) <= max(N_DIRECTIONS) or len(X) < LEAST_BOUNDED:
        return None
    main = main_directions(centers - centers.mean(axis=0), max(N_DIRECTIONS))
    some = X[:: len(X) // N_TRIED]
    best, least = None, float(n_centers * n_features)
    for directions in (np.ascontiguousarray(main[:, :n]) for n in N_DIRECTIONS):
        n_left = 1 + Scorer.of(centers, directions).share_left(some) * n_centers
        products = directions.shape[1] * (n_centers + n_features)
        cost = products + TO_SIFT * n_centers + TO_COMPARE * n_features * n_left
        if cost < least:
            best, least = directions, cost
    return best


@dataclass(frozen=True)
class _Bounds:
    """From below, how far centres are from rows: by Cauchy and Schwarz, |a-b|² >= |Va-Vb|² + (r_a-r_b)².

    V are a few orthogonal directions, and r is the length of what is across them. With a row's (Va, r_a, 1),
    its product with ``matrix`` is that bound less |a|².
    """

    directions: NDArray[np.float32]
    matrix: NDArray[np.float32]
    largest_norm: np.float32

    @classmethod
    def of(
        cls, centred: NDArray[np.float32], norms: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> "_Bounds":
        along = centred @ directions
        return cls(directions, np.vstack([-2 * along.T, -2 * _across(along, norms), norms]), norms.max())

    def beyond(self, x: NDArray[np.float32], norms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the bounds on squared distances, less ``norms``; of shape (n_rows, n_centers)."""
        along = x @ self.directions
        rows = np.column_stack([along, _across(along, norms), np.ones(len(x), np.float32)])
        return rows @ self.matrix

    def rounding(self, norms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return by how much the bounds may be too high."""
        return ROUNDING * (norms + self.largest_norm)


def _across(along: NDArray[np.float32], norms: NDArray[np.float32]) -> NDArray[np.float32]:
    across: NDArray[np.float32] = np.sqrt(np.maximum(norms - np.einsum("ij,ij->i", along, along), 0))
    return across


@dataclass(frozen=True)
class Scorer:
    """Centres, made ready to be compared with many rows by one matrix product each.

    With x a row less ``origin`` and a 1 behind it, ``x @ matrix`` is |c|² - 2 x·c for every centre c: the
    squared distance but for |x|², which is the same for all centres. The last row of ``matrix`` holds |c|².
    Where ``bounds`` leave few centres, only these are compared.
    """

    centers: NDArray[np.float32]
    origin: NDArray[np.float32]
    matrix: NDArray[np.float32]
    bounds: _Bounds | None

    @classmethod
    def of(cls, centers: NDArray[np.float32], directions: NDArray[np.float32] | None) -> "Scorer":
        """Make centres ready; with bounds along directions, if there are any."""
        # Around the origin the norms are small, and float32 tells near centres apart.
        origin = centers.mean(axis=0)
        centred = centers - origin
        norms = np.einsum("ij,ij->i", centred, centred)
        bounds = None if directions is None else _Bounds.of(centred, norms, directions)
        return cls(centers, origin, np.vstack([-2 * centred.T, norms]), bounds)

    def share_left(self, X: NDArray[np.float32]) -> float:
        """Return which share of all distances bounds leave to be computed, besides one for each row."""
        rows, *_ = self._left(X, *self._centred(X))
        return len(rows) / (len(X) * len(self.centers))

    def nearest(self, X: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
        """Return the rows as x, the nearest centre of each, and the squared distance to it."""
        x, norms = self._centred(X)
        ids, squared = self._by_product(X, x, norms) if self.bounds is None else self._by_bounds(X, x, norms)
        return x, ids, squared

    def _centred(self, X: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        x = np.empty((len(X), X.shape[1] + 1), np.float32)
        np.subtract(X, self.origin, out=x[:, :-1])
        x[:, -1] = 1
        return x, np.einsum("ij,ij->i", x[:, :-1], x[:, :-1])

    def _by_product(self, X: NDArray[np.float32], x: NDArray[np.float32], norms: NDArray[np.float32]) -> Assigned:
        scores = x @ self.matrix
        ids = scores.argmin(axis=1).astype(np.int32)
        squared = np.maximum(norms + scores[np.arange(len(x)), ids], 0)
        self._set_right(X, norms, ids, squared)
        return ids, squared

    def _by_bounds(self, X: NDArray[np.float32], x: NDArray[np.float32], norms: NDArray[np.float32]) -> Assigned:
        rows, others, ids, squared = self._left(X, x, norms)
        if TO_COMPARE * len(rows) > len(X) * len(self.centers):  # unlike the rows that were tried
            return self._by_product(X, x, norms)
        far = self._squared(X[rows], others)
        nearer = far < squared[rows]
        rows, others, far = rows[nearer], others[nearer], far[nearer]
        # Of what is assigned to a row twice the last remains: the nearest.
        order = np.argsort(-far, kind="stable")
        ids[rows[order]], squared[rows[order]] = others[order], far[order]
        return ids, squared

    def _left(
        self, X: NDArray[np.float32], x: NDArray[np.float32], norms: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32], NDArray[np.float32]]:
        """Return rows and centres that may be nearest, besides one centre for each row and its squared distance."""
        assert self.bounds is not None
        beyond = self.bounds.beyond(x[:, :-1], norms)
        first = beyond.argmin(axis=1).astype(np.int32)
        squared = self._squared(X, first)
        beyond[np.arange(len(x)), first] = np.inf
        at_most = squared - norms + self.bounds.rounding(norms)
        open_rows = np.flatnonzero(beyond.min(axis=1) <= at_most)
        rows, others = np.nonzero(beyond[open_rows] <= at_most[open_rows, None])
        return open_rows[rows], others, first, squared

    def _squared(self, X: NDArray[np.float32], ids: NDArray[Any]) -> NDArray[np.float32]:
        """Return the squared distance of each row from the centre of that number."""
        differences = self.centers[ids]
        differences -= X
        squared: NDArray[np.float32] = np.einsum("ij,ij->i", differences, differences)
        return squared

    def _set_right(
        self,
        X: NDArray[np.float32],
        norms: NDArray[np.float32],
        ids: NDArray[np.int32],
        squared: NDArray[np.float32],
    ) -> None:
        """Compute anew, in place, what a small difference of large numbers has left few digits of."""
        # After hundreds of products float32 holds |x|² to 1e-6: below a thousandth even the choice is open.
        tight = np.flatnonzero(squared < norms / 1024)
        if len(tight):
            origin = self.origin.astype(np.float64)
            centred = self.centers - origin
            half_norms = np.einsum("ij,ij->i", centred, centred) / 2
            ids[tight] = np.argmin(half_norms - (X[tight] - origin) @ centred.T, axis=1)
        close = np.flatnonzero(squared < norms / 16)
        squared[close] = self._squared(X[close], ids[close])


def in_chunks(n_rows: int, compute: Callable[[slice], Result]) -> Iterator[tuple[slice, Result]]:
    """Yield each chunk of rows with what ``compute`` makes of it, in order whatever the number of threads."""
    chunks = [slice(start, min(start + CHUNK, n_rows)) for start in range(0, n_rows, CHUNK)]
    if len(chunks) <= 1:
        yield from ((chunk, compute(chunk)) for chunk in chunks)
        return
    with ThreadPoolExecutor(N_THREADS) as threads:
        yield from zip(chunks, threads.map(compute, chunks), strict=True)
