"""A pool in groups of tasks that are alike: k-means, and to which centre a task belongs."""

from exemplar.engine.clustering.assignment import assign
from exemplar.engine.clustering.kmeans import Clustering, cluster, default_n_clusters

__all__ = ["Clustering", "assign", "cluster", "default_n_clusters"]
