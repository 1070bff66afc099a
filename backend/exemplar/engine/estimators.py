"""The engine's methods as ordinary scikit-learn estimators, for notebooks and pipelines."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, ClusterMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from exemplar.engine.clustering import assign, cluster, default_n_clusters
from exemplar.engine.geometry import survey
from exemplar.engine.propagation import UNLABELED, infer, neighbor_proba


class PropagationClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A few labels spread over a pool; the pool's nearest tasks answer for other ones.

    Parameters
    ----------
    method : str
        ``auto`` or one of ``PROPAGATIONS``, see ``propagate``.
    n_clusters : int, optional
        By default ``default_n_clusters``.
    random_state : int

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    label_distributions_ : float32 array of shape (n_samples, n_classes)
        Of the training data; calibrated where the method is of the neighbour graph.
    transduction_ : array of shape (n_samples,)
        The classes of the training data.
    temperature_ : float
        What calibrated them.

    References
    ----------
    Zhou et al. (2004), "Learning with local and global consistency". Guo et al. (2017), "On calibration of
    modern neural networks" (the temperature).

    Examples
    --------
    >>> X = [[0], [1], [2], [9], [10], [11]]
    >>> model = PropagationClassifier().fit(X, [0, -1, -1, 1, -1, -1])
    >>> model.transduction_
    array([0, 0, 0, 1, 1, 1])
    >>> model.predict([[3], [8]])
    array([0, 1])
    """

    def __init__(self, method: str = "auto", *, n_clusters: int | None = None, random_state: int = 0) -> None:
        self.method = method
        self.n_clusters = n_clusters
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Spread labels over X; ``y`` holds -1 where there is none."""
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        labeled = y != UNLABELED if np.issubdtype(np.asarray(y).dtype, np.number) else np.ones(len(y), bool)
        self.classes_, classes = np.unique(y[labeled], return_inverse=True)
        if len(self.classes_) == 0:
            raise ValueError("y holds -1 only: expected a class for one sample at least")
        self.geometry_ = survey(X, n_clusters=self.n_clusters, random_state=self.random_state)
        shares = np.zeros((len(y), len(self.classes_)), np.float32)
        shares[np.flatnonzero(labeled), classes] = 1
        found = infer(self.geometry_, shares, method=self.method)
        self.temperature_ = found.temperature if found.by_graph else 1.0
        self._averaged_at = found.averaged_at
        known = found.distributions.any(axis=1, keepdims=True)
        self.label_distributions_ = np.where(known, found.distributions, np.float32(1 / len(self.classes_)))
        self.transduction_ = self.classes_[self.label_distributions_.argmax(axis=1)]
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return the probabilities of the classes, of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        return neighbor_proba(self.geometry_, self.label_distributions_, X, temperature=self._averaged_at)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the likeliest class of each sample."""
        proba = self.predict_proba(X)
        classes: NDArray[Any] = self.classes_[proba.argmax(axis=1)]
        return classes


class BigKMeans(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """k-means that stays fast on a hundred thousand samples and hundreds of clusters.

    Parameters
    ----------
    n_clusters : int, optional
        By default ``default_n_clusters``; more than distinct samples are cut down to these.
    random_state : int

    Attributes
    ----------
    cluster_centers_ : float32 array of shape (n_clusters, n_features)
    labels_ : int32 array of shape (n_samples,)
        The cluster of each sample.
    inertia_ : float
        Sum of squared distances to the centres.

    References
    ----------
    Lloyd (1982), "Least squares quantization in PCM".

    Examples
    --------
    >>> BigKMeans(2).fit([[0], [1], [10], [11]]).inertia_
    1.0
    """

    def __init__(self, n_clusters: int | None = None, *, random_state: int = 0) -> None:
        self.n_clusters = n_clusters
        self.random_state = random_state

    def fit(self, X: Any, y: None = None) -> Self:
        """Find the clusters of X."""
        X = validate_data(self, X, dtype=np.float32)
        n_clusters = default_n_clusters(len(X)) if self.n_clusters is None else self.n_clusters
        found = cluster(X, n_clusters=n_clusters, random_state=self.random_state)
        self.cluster_centers_, self.labels_ = found.centers, found.cluster_ids
        self.inertia_ = float(np.sum(found.distances.astype(np.float64) ** 2))
        return self

    def predict(self, X: Any) -> NDArray[np.int32]:
        """Return the cluster of each sample."""
        check_is_fitted(self)
        return assign(validate_data(self, X, dtype=np.float32, reset=False), self.cluster_centers_)[0]
