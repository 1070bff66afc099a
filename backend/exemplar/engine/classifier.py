"""The classifier that learns from propagated labels: logistic regression, kept as plain arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from exemplar.engine.checks import checked_pool
from exemplar.errors import InputError


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
        with threadpool_limits(1):
            proba[:, self.classes] = softmax(X @ self.coef.T + self.intercept, axis=1)
        return proba


def fit_classifier(X: NDArray[np.float32], y: NDArray[np.intp]) -> LinearClassifier | None:
    """Fit a logistic regression, or return None while fewer than two classes are known.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    y : int array of shape (n_samples,)
        Class indices.

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
    # One scale for all features keeps their geometry (and constant features harmless) while the default
    # penalty C = 1 means the same for pixels in 0..1 and in 0..16.
    scale = float(X.std(axis=0).mean()) or 1.0
    with threadpool_limits(1):
        model = LogisticRegression(max_iter=1000).fit(X / scale, y)
    return LinearClassifier(*_as_multinomial(model, scale), model.classes_.astype(np.int32))


def _as_multinomial(model: LogisticRegression, scale: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return coef and intercept with one row a class; scikit-learn keeps a single one for two classes."""
    coef, intercept = model.coef_ / scale, model.intercept_
    if len(model.classes_) == 2:
        coef, intercept = np.vstack([np.zeros_like(coef), coef]), np.append(0.0, intercept)
    return coef.astype(np.float32), intercept.astype(np.float32)
