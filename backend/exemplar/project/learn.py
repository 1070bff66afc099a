"""From answers to rows: propagation, classifier, queue. A pure function of its arguments."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exemplar.engine import (
    UNLABELED,
    Clustering,
    LinearClassifier,
    fit_classifier,
    propagate,
    representatives,
)


@dataclass(frozen=True)
class Learned:
    """What is known of each task of the pool; see ``Snapshot`` for the arrays."""

    classifier: LinearClassifier | None
    choices: NDArray[np.int32]
    scores: NDArray[np.float64]


def learn(
    X: NDArray[np.float32],
    clustering: Clustering,
    y: NDArray[np.intp],
    passed_over: NDArray[np.bool_],
    *,
    n_classes: int,
    percent: float,
    batch_size: int,
) -> Learned:
    """Spread the answers, learn from what they reach, and order what to ask next.

    Parameters
    ----------
    X : float32 array of shape (n_tasks, n_features)
    clustering : Clustering
    y : int array of shape (n_tasks,)
        The answers, UNLABELED where there is none.
    passed_over : bool array of shape (n_tasks,)
        Tasks that were annotated without an answer (skipped): they are not asked first again.
    n_classes : int
    percent : float
        How much of a cluster gets its label.
    batch_size : int
        The queue's length at most.
    """
    answered = y != UNLABELED
    spread = propagate(clustering, y, n_classes=n_classes, percent=percent)
    reached = spread.any(axis=1)
    propagated = np.where(reached, spread.argmax(axis=1), UNLABELED)
    classifier = fit_classifier(X[reached], propagated[reached])
    choices, confidence = propagated, spread.max(axis=1)
    if classifier is not None:
        proba = classifier.predict_proba(X, n_classes=n_classes)
        choices = np.where(reached, propagated, proba.argmax(axis=1))
        # The share of the cluster's answers says nothing while it has one; the classifier's word does.
        confidence = proba[np.arange(len(X)), choices]
    scores = np.where((choices == UNLABELED) & ~passed_over, np.nan, confidence).astype(np.float64)
    scores[answered] = 1.0
    scores = np.round(scores, 6)
    queue = representatives(
        clustering,
        askable=~answered & ~passed_over,
        settled=answered,
        n=batch_size,
        # Once all tasks have a prediction, the least certain of them follow the representatives by their
        # confidence; before that, a short queue would leave annotators without a task.
        one_each=classifier is not None,
    )
    scores[queue] = _queue_scores(clustering, queue)
    return Learned(classifier, choices.astype(np.int32), scores)


def _queue_scores(clustering: Clustering, queue: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return scores below zero that rise along the queue and stay as clusters before a task get their label.

    A score depends on the cluster's rank by size and on the task's turn in it, not on who else is queued,
    so that an annotation changes as few rows in Label Studio as possible.
    """
    n_clusters = len(clustering.centers)
    cluster_ids = clustering.cluster_ids[queue]
    sizes = np.bincount(clustering.cluster_ids, minlength=n_clusters)
    ranks = np.empty(n_clusters, np.intp)
    ranks[np.lexsort((np.arange(n_clusters), -sizes))] = np.arange(n_clusters)
    turns = np.array([np.count_nonzero(cluster_ids[:i] == c) for i, c in enumerate(cluster_ids)], np.intp)
    return -1.0 / (1 + turns * n_clusters + ranks[cluster_ids])
