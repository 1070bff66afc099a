"""Classifiers for tasks outside the pool: the pool's nearest tasks, or logistic regression kept as plain arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.semi_supervised import SelfTrainingClassifier

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.checks import checked_pool
from exemplar.engine.geometry import Geometry
from exemplar.engine.neighbors import neighbors_outside
from exemplar.errors import InputError

# A task outside the pool asks fewer neighbours than the graph links: they need not hold it together.
N_NEIGHBORS = 5
# C is chosen among these, on at most so many tasks.
CHOICES_OF_C = (0.001, 0.01, 0.1, 1.0, 10.0)
N_TUNED = 2000


@dataclass(frozen=True)
class LinearClassifier:
    """A fitted multinomial logistic regression.

    Attributes
    ----------
    coef : float32 array of shape (n_classes_seen, n_features)
    intercept : float32 array of shape (n_classes_seen,)
    classes : int32 array of shape (n_classes_seen,)
        The class indices that were in the training labels.
    """

    coef: NDArray[np.float32]
    intercept: NDArray[np.float32]
    classes: NDArray[np.int32]

    def predict_proba(self, X: NDArray[np.float32], *, n_classes: int) -> NDArray[np.float32]:
        """Return probabilities of shape (n_samples, n_classes); zero for classes never seen."""
        proba = np.zeros((len(X), n_classes), np.float32)
        with one_blas_thread():
            proba[:, self.classes] = softmax(X @ self.coef.T + self.intercept, axis=1)
        return proba


def neighbor_proba(
    geometry: Geometry,
    distributions: NDArray[np.float32],
    X: NDArray[np.float32],
    *,
    n_neighbors: int = N_NEIGHBORS,
    temperature: float = 1.0,
) -> NDArray[np.float32]:
    """Return what the pool's tasks nearest to new ones say, weighted by the graph's self-tuned kernel.

    Parameters
    ----------
    geometry : Geometry
    distributions : float32 array of shape (n_tasks, n_classes)
        The pool's label distributions, calibrated or not: the outcome is as calibrated as they are.
    X : float32 array of shape (n_new, n_features)
    n_neighbors : int
    temperature : float > 0
        The mean is taken of the distributions to this power, and sharpened again: with the temperature that
        calibrated them, of what they were before. A regression's values add up, so that this is its extension.

    Returns
    -------
    proba : float32 array of shape (n_new, n_classes)
        Each row adds up to 1, or to less where neighbours know nothing.

    References
    ----------
    Zelnik-Manor & Perona (2004), "Self-tuning spectral clustering", eq. 3 (the kernel). Delalleau, Bengio & Le
    Roux (2005), "Efficient non-parametric function induction in semi-supervised learning", eq. 7.

    Examples
    --------
    >>> from exemplar.engine.geometry import survey
    >>> geometry = survey(np.float32([[0], [1], [9], [10]]), n_clusters=2)
    >>> known = np.float32([[1, 0], [1, 0], [0, 1], [0, 1]])
    >>> neighbor_proba(geometry, known, np.float32([[8]]), n_neighbors=2)
    array([[0., 1.]], dtype=float32)
    """
    graph = geometry.graph
    neighbors, distances = neighbors_outside(graph, geometry.Z, geometry.project(X), n_neighbors=n_neighbors)
    scale = np.maximum(distances[:, -1:], np.finfo(np.float32).tiny)
    exponent = (distances / scale) * (distances / graph.scales[neighbors])
    # Relative to the nearest, so that far from the whole pool not all weights vanish.
    weights = np.exp(exponent[:, :1] - exponent)
    weights /= weights.sum(axis=1, keepdims=True)
    said = _to_power(distributions[graph.rows[neighbors]], temperature)
    proba: NDArray[np.float32] = np.einsum("ij,ijc->ic", weights, said)
    return _to_power(proba, 1 / temperature)


def _to_power(p: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """Return distributions to a power, each with the sum that it had."""
    if power == 1:
        return p
    raised, total = p ** np.float32(power), p.sum(axis=-1, keepdims=True)
    raised *= total / np.where(total > 0, raised.sum(axis=-1, keepdims=True), 1)
    return raised


def fit_classifier(
    X: NDArray[np.float32], y: NDArray[np.intp], *, C: float | None = 1.0
) -> LinearClassifier | None:
    """Fit a logistic regression, or return None while fewer than two classes are known.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    y : int array of shape (n_samples,)
        Class indices.
    C : float or None
        Inverse strength of the penalty on features of unit scale; None: the best of CHOICES_OF_C by 3-fold
        cross-validation.

    Raises
    ------
    InputError
        If X is no finite matrix, or y is not as long.

    Examples
    --------
    >>> classifier = fit_classifier(np.float32([[-1], [1]]), np.array([0, 2]))
    >>> classifier.predict_proba(np.float32([[5]]), n_classes=3).argmax()
    np.int64(2)
    >>> fit_classifier(np.float32([[-1], [1]]), np.array([2, 2])) is None
    True
    """
    if len(X) != len(y):
        raise InputError(f"X has {len(X)} rows and y {len(y)}: expected as many")
    if len(y) == 0:
        return None
    X = checked_pool(X)
    if len(np.unique(y)) < 2:
        return None
    scale = _scale(X)
    with one_blas_thread():
        C = _tuned(X / scale, y) if C is None else C
        return _linear(LogisticRegression(C=C, max_iter=1000).fit(X / scale, y), scale)


def fit_self_training(X: NDArray[np.float32], y: NDArray[np.intp]) -> LinearClassifier | None:
    """Fit a logistic regression that labels the unlabelled tasks itself, the surest first.

    Parameters
    ----------
    X : array of shape (n_tasks, n_features)
    y : int array of shape (n_tasks,)
        Class indices, UNLABELED = -1 where nobody answered.

    References
    ----------
    Yarowsky (1995), "Unsupervised word sense disambiguation rivaling supervised methods".

    Examples
    --------
    >>> classifier = fit_self_training(np.float32([[-2], [-1], [1], [2]]), np.array([0, -1, -1, 1]))
    >>> classifier.predict_proba(np.float32([[3]]), n_classes=2).argmax()
    np.int64(1)
    """
    X = checked_pool(X)
    if len(np.unique(y[y >= 0])) < 2:
        return None
    scale = _scale(X)
    with one_blas_thread():
        model = SelfTrainingClassifier(LogisticRegression(max_iter=1000)).fit(X / scale, y)
    return _linear(model.estimator_, scale)


def _scale(X: NDArray[np.float32]) -> float:
    # One scale for all features keeps their geometry (and constant features harmless) while a penalty means the
    # same for pixels in 0..1 and in 0..16.
    return float(X.std(axis=0).mean()) or 1.0


def _tuned(X: NDArray[np.float32], y: NDArray[np.intp]) -> float:
    rows = np.random.default_rng(0).permutation(len(y))[:N_TUNED]
    if len(rows) < 3:
        return 1.0
    folds = [(train, test) for train, test in KFold(3).split(rows) if len(np.unique(y[rows[train]])) > 1]
    if not folds:
        return 1.0

    def accuracy(C: float) -> float:
        model = LogisticRegression(C=C, max_iter=2000, tol=1e-2)  # near enough to compare
        return float(cross_val_score(model, X[rows], y[rows], cv=folds).mean())

    return max(CHOICES_OF_C, key=accuracy)


def _linear(model: LogisticRegression, scale: float) -> LinearClassifier:
    """Return the model with one row a class (scikit-learn keeps a single one for two) for unscaled features."""
    coef, intercept = model.coef_ / scale, model.intercept_
    if len(model.classes_) == 2:
        coef, intercept = np.vstack([np.zeros_like(coef), coef]), np.append(0.0, intercept)
    return LinearClassifier(coef.astype(np.float32), intercept.astype(np.float32), model.classes_.astype(np.int32))
