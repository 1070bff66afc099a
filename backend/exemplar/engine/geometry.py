"""How the tasks of a pool lie to each other: all that depends on the data alone and not on any answer."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.checks import checked_pool
from exemplar.engine.clustering import Clustering, assign, cluster, default_n_clusters
from exemplar.engine.neighbors import NeighborGraph, build_graph, update_graph
from exemplar.engine.projection import Projection, fit_projection


@dataclass(frozen=True, eq=False)
class Geometry:
    """A pool's vectors, clusters and neighbour graph; one is equal to itself alone, so that others can keep by it.

    Attributes
    ----------
    X : float32 array of shape (n_tasks, n_features)
    Z : float32 array of shape (n_tasks, n_components)
        The same along the pool's main directions; X itself where it has few features. Clusters, graph and queue
        are made of these.
    projection : Projection or None
        From X to Z; None where they are the same.
    clustering : Clustering
    graph : NeighborGraph
    """

    X: NDArray[np.float32]
    Z: NDArray[np.float32]
    projection: Projection | None
    clustering: Clustering
    graph: NeighborGraph

    @property
    def n_tasks(self) -> int:
        """How many tasks the pool has."""
        return len(self.X)

    def project(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return other tasks in the coordinates of Z."""
        return self.projection.transform(X) if self.projection else X

    @cached_property
    def outliers(self) -> NDArray[np.bool_]:
        """Which tasks are far from all others; shape (n_tasks,)."""
        return self.graph.outliers()


def survey(X: NDArray[np.float32], *, n_clusters: int | None = None, random_state: int = 0) -> Geometry:
    """Find a pool's main directions, clusters and neighbours.

    Parameters
    ----------
    X : array of shape (n_tasks, n_features)
    n_clusters : int, optional
        By default ``default_n_clusters``.
    random_state : int

    Raises
    ------
    InputError
        If X is no finite matrix with at least one row.

    Examples
    --------
    >>> geometry = survey(np.float32([[0], [1], [10], [11]]), n_clusters=2)
    >>> geometry.clustering.cluster_ids[0] == geometry.clustering.cluster_ids[1]
    np.True_
    """
    X = checked_pool(X)
    projection = fit_projection(X, random_state=random_state)
    Z = projection.transform(X) if projection else X
    clustering = cluster(Z, n_clusters=n_clusters or default_n_clusters(len(Z)), random_state=random_state)
    return Geometry(X, Z, projection, clustering, build_graph(Z, clustering.cluster_ids))


def resurvey(before: Geometry, X: NDArray[np.float32], kept: NDArray[np.intp]) -> Geometry:
    """Let tasks join and leave a pool; directions and centres stay, the graph takes up and lets go.

    Parameters
    ----------
    before : Geometry
    X : array of shape (n_tasks, n_features)
        The tasks as they are now.
    kept : int array of shape (n_tasks,)
        The row of each task in ``before``, where its vector is the same; NEW = -1 for the others.

    Examples
    --------
    >>> before = survey(np.float32([[0], [1], [10], [11]]), n_clusters=2)
    >>> resurvey(before, np.float32([[0], [10], [11], [9]]), np.array([0, 2, 3, -1])).graph.rows
    array([1, 2, 0, 3], dtype=int32)
    """
    X = checked_pool(X)
    Z = before.projection.transform(X) if before.projection else X
    centers = before.clustering.centers
    clustering = Clustering(centers, *assign(Z, centers))
    return Geometry(X, Z, before.projection, clustering, update_graph(before.graph, Z, kept))
