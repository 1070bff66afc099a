"""Clusters of a pool: k-means, which tasks stand in the middle, and where new tasks belong."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from threadpoolctl import threadpool_limits

from exemplar.engine.checks import checked_pool

# Above this many tasks full k-means takes minutes; mini-batches cost little accuracy there (Sculley 2010).
FULL_KMEANS_UP_TO = 20_000


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

    Parameters
    ----------
    X : array of shape (n_tasks, n_features)
    n_clusters : int
        More clusters than distinct tasks are cut down to the number of these.
    random_state : int

    Raises
    ------
    InputError
        If X is no finite matrix with at least one row.

    References
    ----------
    Lloyd (1982), "Least squares quantization in PCM"; start by Arthur & Vassilvitskii (2007), "k-means++".

    Examples
    --------
    >>> found = cluster(np.float32([[0], [1], [10], [11]]), n_clusters=2)
    >>> bool(found.cluster_ids[0] == found.cluster_ids[1] != found.cluster_ids[2])
    True
    """
    X = checked_pool(X)
    n_clusters = min(n_clusters, len(np.unique(X, axis=0)))
    kind = KMeans if len(X) <= FULL_KMEANS_UP_TO else MiniBatchKMeans
    # One BLAS thread: with several, k-means collapses on a busy machine and sums in another order each time.
    with threadpool_limits(1):
        kmeans = kind(n_clusters, n_init=3, random_state=random_state).fit(X)
        centers = kmeans.cluster_centers_.astype(np.float32)
    return Clustering(centers, *assign(X, centers))


def assign(X: NDArray[np.float32], centers: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return each task's nearest centre and the Euclidean distance to it, chunk by chunk.

    Parameters
    ----------
    X : array of shape (n_tasks, n_features)
    centers : array of shape (n_clusters, n_features)

    Returns
    -------
    cluster_ids : int32 array of shape (n_tasks,)
    distances : float32 array of shape (n_tasks,)

    Examples
    --------
    >>> assign(np.float32([[0], [9]]), np.float32([[1], [9]]))
    (array([0, 1], dtype=int32), array([1., 0.], dtype=float32))
    """
    cluster_ids = np.empty(len(X), np.int32)
    distances = np.empty(len(X), np.float32)
    # Around the origin the norms are small, and float32 tells near centres apart.
    origin = centers.mean(axis=0)
    X, centers = X - origin, centers - origin
    norms = np.einsum("ij,ij->i", centers, centers)
    with threadpool_limits(1):
        for start in range(0, len(X), 4096):
            chunk = slice(start, start + 4096)
            cluster_ids[chunk] = np.argmin(norms - 2 * (X[chunk] @ centers.T), axis=1)
            distances[chunk] = np.linalg.norm(X[chunk] - centers[cluster_ids[chunk]], axis=1)
    return cluster_ids, distances
