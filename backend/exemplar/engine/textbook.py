"""How good the textbook's method is: its ladder, over many seeds instead of one lucky draw."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.clustering import cluster
from exemplar.engine.propagation import cluster_shares, fit_classifier
from exemplar.engine.query import representatives


def textbook_ladder(
    X_pool: NDArray[np.float32],
    y_pool: NDArray[np.intp],
    X_test: NDArray[np.float32],
    y_test: NDArray[np.intp],
    *,
    n_clusters: int = 50,
    seeds: Iterable[int] = range(20),
) -> dict[str, NDArray[np.float64]]:
    """Return the test accuracies of the textbook's steps, each of shape (n_seeds,), in its order.

    References
    ----------
    Géron (2022), "Hands-On Machine Learning", ch. 9, "Using clustering for semi-supervised learning".

    Examples
    --------
    >>> X, y = np.float32([[0], [1], [10], [11]]), np.array([0, 0, 1, 1])
    >>> ladder = textbook_ladder(X, y, X, y, n_clusters=2, seeds=[0])
    >>> ladder["2 representatives"]
    array([1.])
    """
    n_classes = int(max(y_pool.max(), y_test.max())) + 1

    def accuracy(X: NDArray[np.float32], y: NDArray[np.intp]) -> float:
        classifier = fit_classifier(X, y)
        if classifier is None:
            return float(np.mean(y_test == y[0]))
        return float(np.mean(classifier.predict_proba(X_test, n_classes=n_classes).argmax(axis=1) == y_test))

    runs = [
        _ladder_of_one_seed(X_pool, y_pool, accuracy, n_clusters=n_clusters, n_classes=n_classes, seed=seed)
        for seed in seeds
    ]
    ladder = {step: np.array([run[step] for run in runs]) for step in runs[0]}
    ladder[f"all {len(X_pool)} labels"] = np.full(len(runs), accuracy(X_pool, y_pool))
    return ladder


def _ladder_of_one_seed(
    X: NDArray[np.float32],
    y: NDArray[np.intp],
    accuracy: Callable[[NDArray[np.float32], NDArray[np.intp]], float],
    *,
    n_clusters: int,
    n_classes: int,
    seed: int,
) -> dict[str, float]:
    random = np.random.default_rng(seed).choice(len(X), n_clusters, replace=False)
    pool = cluster(X, n_clusters=n_clusters, random_state=seed)
    nobody = np.zeros(len(X), bool)
    asked = representatives(pool, askable=~nobody, settled=nobody)
    answers = np.zeros((len(X), n_classes), np.float32)
    answers[asked, y[asked]] = 1

    def propagated(percent: float) -> float:
        spread = cluster_shares(pool, answers, percent=percent)
        known = spread.any(axis=1)
        return accuracy(X[known], spread[known].argmax(axis=1))

    return {
        f"{n_clusters} random": accuracy(X[random], y[random]),
        f"{n_clusters} representatives": accuracy(X[asked], y[asked]),
        "propagated to the whole cluster": propagated(100),
        "without the farthest 1 %": propagated(99),
    }
