"""Clusters of a pool: k-means, which tasks stand in the middle, and where new tasks belong."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.cluster import KMeans

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.checks import checked_pool
from exemplar.engine.clustering.assignment import (
    CHUNK,
    Scorer,
    assign,
    assign_squared,
    bounding_directions,
    in_chunks,
)
from exemplar.errors import InputError

# Up to here the best of three runs of scikit-learn takes seconds; it is .3 % tighter than one run of our own.
FULL_KMEANS_UP_TO = 10_000
# More tasks per cluster hardly move its centre, .15 % less tight than with 256; the last passes see all tasks. With
# few clusters the minimum costs little, and rare groups are in it.
SAMPLE_PER_CLUSTER, MIN_SAMPLE = 64, 32_000
# Seeds of fewer tasks fit these tasks instead of the pool: clusters that overlap end .2 % less tight.
SEEDING_PER_CLUSTER, MIN_SEEDING = 32, 16_000
SEEDING_ROUNDS, SEEDING_OVERSAMPLING = 4, 2
# A pass that gains less than this is the last: what 20 more would gain is below .1 %.
TOLERANCE = 2e-4
SAMPLE_PASSES, POOL_PASSES = 25, 3


@dataclass(frozen=True)
class Clustering:
    """A pool cut into clusters.

    Attributes
    ----------
    centers : float32 array of shape (n_clusters, n_features)
    cluster_ids : int32 array of shape (n_tasks,)
        The nearest centre of each task.
    distances : float32 array of shape (n_tasks,)
        Euclidean distance of each task to its centre.
    """

    centers: NDArray[np.float32]
    cluster_ids: NDArray[np.int32]
    distances: NDArray[np.float32]


def default_n_clusters(n_tasks: int) -> int:
    """Return the number of clusters for a pool: 50 for 1 400 tasks, growing with the square root.

    >>> default_n_clusters(1400), default_n_clusters(100_000), default_n_clusters(3)
    (50, 423, 2)
    """
    return int(min(n_tasks, max(2, round(50 * (n_tasks / 1400) ** 0.5))))


def cluster(X: NDArray[np.float32], *, n_clusters: int, random_state: int = 0) -> Clustering:
    """Cut a pool into clusters by k-means.

    Large pools are cut by passes over a sample, then over all tasks; the start is k-means||.

    Parameters
    ----------
    X : array of shape (n_tasks, n_features)
    n_clusters : int
        At least 1. More clusters than distinct tasks are cut down to the number of these.
    random_state : int

    Raises
    ------
    InputError
        If X is no finite matrix with at least one row, or n_clusters is below 1.

    References
    ----------
    Lloyd (1982), "Least squares quantization in PCM"; start by Arthur & Vassilvitskii (2007), "k-means++", in
    large pools by Bahmani et al. (2012), "Scalable k-means++", algorithm 2.

    Examples
    --------
    >>> found = cluster(np.float32([[0], [1], [10], [11]]), n_clusters=2)
    >>> bool(found.cluster_ids[0] == found.cluster_ids[1] != found.cluster_ids[2])
    True
    """
    X = checked_pool(X)
    if n_clusters < 1:
        raise InputError(f"n_clusters is {n_clusters}: expected at least 1")
    n_clusters = _n_distinct(X, up_to=n_clusters)
    # One BLAS thread: with several, k-means collapses on a busy machine and sums in another order each time.
    with one_blas_thread():
        if len(X) <= FULL_KMEANS_UP_TO:
            kmeans = KMeans(n_clusters, n_init=3, random_state=random_state).fit(X)
            centers = kmeans.cluster_centers_.astype(np.float32)
        else:
            centers = _kmeans(X, n_clusters, np.random.default_rng(random_state))
    return Clustering(centers, *assign(X, centers))


def _n_distinct(X: NDArray[np.float32], *, up_to: int) -> int:
    """Return the number of distinct rows, counted no further than ``up_to``."""
    seen: set[bytes] = set()
    for start in range(0, len(X), CHUNK):
        for row in X[start : start + CHUNK] + np.float32(0):  # -0 and 0 differ in their bytes only
            seen.add(row.tobytes())
            if len(seen) == up_to:
                return up_to
    return len(seen)


def _kmeans(X: NDArray[np.float32], n_clusters: int, rng: np.random.Generator) -> NDArray[np.float32]:
    sample = _sample(X, max(MIN_SAMPLE, SAMPLE_PER_CLUSTER * n_clusters), rng)
    seeding = _sample(sample, max(MIN_SEEDING, SEEDING_PER_CLUSTER * n_clusters), rng)
    centers = _lloyd(sample, _seeds(seeding, n_clusters, rng), max_passes=SAMPLE_PASSES)
    return centers if len(sample) == len(X) else _lloyd(X, centers, max_passes=POOL_PASSES)


def _sample(X: NDArray[np.float32], n_rows: int, rng: np.random.Generator) -> NDArray[np.float32]:
    return X if len(X) <= n_rows else X[np.sort(rng.choice(len(X), n_rows, replace=False))]


def _seeds(X: NDArray[np.float32], n_clusters: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a start: k-means|| draws candidates in rounds, k-means++ picks among them by the rows they have."""
    candidates = X[rng.integers(len(X), size=1)]
    nearest, squared = assign_squared(X, candidates)
    for _ in range(SEEDING_ROUNDS):
        total = squared.sum(dtype=np.float64)
        chance = SEEDING_OVERSAMPLING * n_clusters * squared / total if total else squared
        drawn = X[rng.random(len(X)) < chance]
        if len(drawn):
            of_drawn, squared_of_drawn = assign_squared(X, drawn)
            nearest = np.where(squared_of_drawn < squared, of_drawn + np.int32(len(candidates)), nearest)
            squared = np.minimum(squared, squared_of_drawn)
            candidates = np.concatenate([candidates, drawn])
    weights = np.bincount(nearest, minlength=len(candidates))
    return candidates[_kmeans_plus_plus(candidates, weights, n_clusters, rng)]


def _kmeans_plus_plus(
    X: NDArray[np.float32], weights: NDArray[np.intp], n_clusters: int, rng: np.random.Generator
) -> list[int]:
    """Return rows drawn by their weighted squared distance to those drawn before; each the best of a few draws."""
    n_trials = 2 + int(np.log(n_clusters))
    X = X - X.mean(axis=0)
    norms, mass = np.einsum("ij,ij->i", X, X), weights.astype(np.float32)
    columns = np.ascontiguousarray(X.T)
    squared, picked, potential = np.full(len(X), np.inf, np.float32), [], mass
    for _ in range(n_clusters):
        cumulated = np.cumsum(potential, dtype=np.float64)
        drawn = np.searchsorted(cumulated, rng.random(n_trials) * cumulated[-1], side="right")
        trials = drawn.clip(max=len(X) - 1)
        distances = np.maximum(norms + norms[trials, None] - 2 * X[trials] @ columns, 0)
        closest = np.minimum(distances, squared)
        best = int(np.argmin(closest @ mass))
        squared, potential = closest[best], closest[best] * mass
        picked.append(int(trials[best]))
    return picked


def _lloyd(X: NDArray[np.float32], centers: NDArray[np.float32], *, max_passes: int) -> NDArray[np.float32]:
    """Return the centres after passes over X; a cluster that lost all its rows starts anew at a far one."""
    inertia, directions = np.inf, bounding_directions(centers, X)
    for _ in range(max_passes):
        before = inertia
        means, sizes, squared = _pass(X, centers, directions)
        inertia = squared.sum(dtype=np.float64)
        empty = np.flatnonzero(sizes == 0)
        centers = means
        if len(empty):
            far = _farthest(X, squared, len(empty))
            centers[empty[: len(far)]] = X[far]
        elif before - inertia <= TOLERANCE * inertia:
            break
    return centers


def _pass(
    X: NDArray[np.float32], centers: NDArray[np.float32], directions: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]]:
    """Return each cluster's mean (its centre if it is empty) and size, and each row's squared distance."""
    scorer = Scorer.of(centers, directions)
    squared = np.empty(len(X), np.float32)

    def of_chunk(chunk: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        x, ids, squared_of_chunk = scorer.nearest(X[chunk])
        ones, ends = np.ones(len(x), np.float32), np.arange(len(x) + 1, dtype=np.int32)
        # The column of ones adds up to the sizes.
        return squared_of_chunk, sparse.csc_array((ones, ids, ends), shape=(len(centers), len(x))) @ x

    # float32 within a chunk, float64 over chunks: a million rows add up without loss.
    sums = np.zeros((len(centers), X.shape[1] + 1))
    for chunk, (squared_of_chunk, sums_of_chunk) in in_chunks(len(X), of_chunk):
        squared[chunk] = squared_of_chunk
        sums += sums_of_chunk
    sizes = sums[:, -1]
    means = (sums[:, :-1] / np.maximum(sizes, 1)[:, None] + scorer.origin).astype(np.float32)
    return np.where(sizes[:, None] > 0, means, centers), sizes, squared


def _farthest(X: NDArray[np.float32], squared: NDArray[np.float32], n_rows: int) -> list[int]:
    """Return the farthest rows, of equal ones only the first."""
    found: dict[bytes, int] = {}
    for row in np.argsort(-squared, kind="stable"):
        found.setdefault((X[row] + np.float32(0)).tobytes(), int(row))
        if len(found) == n_rows:
            break
    return list(found.values())
