"""From a few answers to many: a cluster's label goes to its members."""

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.clusters import Clustering
from exemplar.errors import InputError

UNLABELED = -1


def propagate(
    clustering: Clustering, y: NDArray[np.intp], *, n_classes: int, percent: float = 100.0
) -> NDArray[np.float32]:
    """Spread the answers in each cluster over its members.

    Parameters
    ----------
    clustering : Clustering
    y : int array of shape (n_tasks,)
        Class indices; UNLABELED = -1 where nobody answered.
    n_classes : int
    percent : float in (0, 100]
        Only the closest so many per cent of a cluster's members get its label: those whose distance to
        the centre is at most that percentile of the cluster's distances.

    Returns
    -------
    label_distributions : float32 array of shape (n_tasks, n_classes)
        The shares of the cluster's answers for a member, the answer itself for an answered task, zeros
        where nothing is known.

    Raises
    ------
    InputError
        If y does not fit the pool or holds a class index outside the classes.

    References
    ----------
    Géron (2022), "Hands-On Machine Learning", ch. 9, "Using clustering for semi-supervised learning".

    Examples
    --------
    >>> pool = Clustering(np.zeros((2, 1)), np.int32([0, 0, 0, 1]), np.float32([1, 0, 9, 0]))
    >>> propagate(pool, np.array([-1, 1, -1, -1]), n_classes=2).tolist()
    [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]]
    >>> propagate(pool, np.array([-1, 1, -1, -1]), n_classes=2, percent=60).tolist()
    [[0.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """
    if y.shape != clustering.cluster_ids.shape:
        raise InputError(f"y has the shape {y.shape}: expected {clustering.cluster_ids.shape}, one for each task")
    if y.size and not (y.min() >= UNLABELED and y.max() < n_classes):
        raise InputError(f"y holds {y.min()} to {y.max()}: expected class indices below {n_classes}, or -1")
    labeled = y != UNLABELED
    votes = np.zeros((len(clustering.centers), n_classes), np.float32)
    np.add.at(votes, (clustering.cluster_ids[labeled], y[labeled]), 1)
    shares = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)
    label_distributions: NDArray[np.float32] = shares[clustering.cluster_ids]
    label_distributions[~closest(clustering, percent)] = 0
    label_distributions[labeled] = np.eye(n_classes, dtype=np.float32)[y[labeled]]
    return label_distributions


def closest(clustering: Clustering, percent: float) -> NDArray[np.bool_]:
    """Return which tasks are among the closest ``percent`` of their cluster; shape (n_tasks,)."""
    if percent >= 100:
        return np.ones(len(clustering.cluster_ids), bool)
    near = np.zeros(len(clustering.cluster_ids), bool)
    for cluster_id in np.unique(clustering.cluster_ids):
        members = np.flatnonzero(clustering.cluster_ids == cluster_id)
        distances = clustering.distances[members]
        near[members] = distances <= np.percentile(distances, percent)
    return near
