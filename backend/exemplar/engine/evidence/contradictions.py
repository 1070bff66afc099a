"""Answers that differ from what all other answers say of the task, or from those of their own cluster.

They may well be right: where classes meet, some of a truthful annotator's do.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from exemplar.engine.propagation import UNLABELED, leave_one_out, typical_mass
from exemplar.errors import InputError


@dataclass(frozen=True)
class Suspect:
    """An answer that others contradict.

    Attributes
    ----------
    label : int
        Its index among the labelled tasks.
    score : float
        How much more the others speak for another class, as a logarithm of odds; above 0 for all suspects.
    share : float
        The same as a share of what they say for either class, from 0.5 to 1.
    suggestion : int
        That class.
    witnesses : int array of shape (at most n_witnesses,)
        The labelled tasks of other classes that weigh most here, the weightiest first.
    """

    label: int
    score: float
    share: float
    suggestion: int
    witnesses: NDArray[np.intp]


def suspicion(G_LL: NDArray[np.float32], Y: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how much the others contradict each answer: the log odds of the best other class against its own.

    A typical task's mass is shared out over all classes first, so that an answer far from all others, of which they
    know next to nothing, is not suspicious.

    Parameters
    ----------
    G_LL : array of shape (n_labeled, n_labeled)
        As ``Columns.among_labeled`` returns it.
    Y : array of shape (n_labeled, n_classes)
        Vote shares; a task's own class is the one with most.

    Returns
    -------
    scores : float array of shape (n_labeled,)
        Above 0 where the others speak for another class; 0 where they know nothing, or there is but one class.

    Raises
    ------
    InputError
        If G_LL and Y do not fit together.

    References
    ----------
    Northcutt et al. (2021), "Confident learning", rank by out-of-sample margins; exact leave-one-out gives these.

    Examples
    --------
    >>> G = np.float32([[5, 2, 2], [2, 5, 2], [2, 2, 5]])
    >>> suspicion(G, np.float32([[1, 0], [1, 0], [0, 1]])).round(2)
    array([0. , 0. , 1.1])
    """
    Y = np.asarray(Y, np.float32)
    q = leave_one_out(G_LL, Y)
    own, best_other, _ = _sides(q, Y)
    if Y.shape[1] < 2:
        return np.zeros(len(Y))
    share = typical_mass(q) / Y.shape[1] or 1.0
    scores: NDArray[np.float64] = np.log((best_other + share) / (own + share))
    return scores


def suspects(
    G_LL: NDArray[np.float32],
    Y: NDArray[np.float32],
    *,
    least_share: float = 0.5,
    least_fellows: int = 0,
    n_witnesses: int = 3,
) -> list[Suspect]:
    """Return the answers that others contradict, the most suspicious first; ties by index.

    Parameters
    ----------
    G_LL, Y
        As in ``suspicion``.
    least_share : float
        Those of which the others are less sure are left out.
    least_fellows : int
        Those whose class has fewer other answers are left out: nobody was there to speak for it.
    n_witnesses : int

    Raises
    ------
    InputError
        If G_LL and Y do not fit together, or n_witnesses is negative.

    Examples
    --------
    >>> G = np.float32([[5, 2, 1], [2, 5, 2], [1, 2, 5]])
    >>> [found] = suspects(G, np.eye(2)[[0, 0, 1]])
    >>> found.label, found.suggestion, found.witnesses.tolist(), round(found.share, 2)
    (2, 0, [1, 0], 0.75)
    """
    if n_witnesses < 0:
        raise InputError(f"n_witnesses is {n_witnesses}: expected 0 or more")
    scores = suspicion(G_LL, Y)
    Y = np.asarray(Y, np.float32)
    y = Y.argmax(axis=1)
    _, _, suggestions = _sides(leave_one_out(G_LL, Y), Y)
    shares = expit(scores)
    fellows = np.bincount(y, minlength=Y.shape[1])[y] - 1
    named = (scores > 0) & (shares >= least_share) & (fellows >= least_fellows)
    ranked = np.argsort(-scores, kind="stable")
    return [
        Suspect(
            int(i),
            float(scores[i]),
            float(shares[i]),
            int(suggestions[i]),
            _witnesses(G_LL[i], y != y[i], n_witnesses),
        )
        for i in ranked[named[ranked]]
    ]


def _sides(
    q: NDArray[np.float32], Y: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Return what the others say for a task's own class, and for the best other, and which that is."""
    every, own_class = np.arange(len(Y)), Y.argmax(axis=1)
    own = q[every, own_class].astype(np.float64)
    others = q.astype(np.float64)
    others[every, own_class] = -1
    return own, np.maximum(others.max(axis=1, initial=-1), 0), others.argmax(axis=1)


def _witnesses(weights: NDArray[np.float32], contradicts: NDArray[np.bool_], n: int) -> NDArray[np.intp]:
    found = np.flatnonzero(contradicts & (np.asarray(weights) > 0))
    return found[np.argsort(-np.asarray(weights)[found], kind="stable")][:n]


@dataclass(frozen=True)
class Conflict:
    """A cluster whose members were answered differently.

    Attributes
    ----------
    cluster_id : int
    rows : int array of shape (n_answered,)
        Its answered tasks.
    counts : int array of shape (n_classes,)
        How many gave each class.
    """

    cluster_id: int
    rows: NDArray[np.intp]
    counts: NDArray[np.intp]

    @property
    def n_minority(self) -> int:
        """How many answers differ from the most frequent one."""
        return int(self.counts.sum() - self.counts.max())


def conflicts(cluster_ids: NDArray[np.int32], y: NDArray[np.intp]) -> list[Conflict]:
    """Return the clusters that hold different answers, those with the most answers off the majority first.

    Parameters
    ----------
    cluster_ids : int array of shape (n_tasks,)
    y : int array of shape (n_tasks,)
        Class indices; UNLABELED = -1 where nobody answered.

    Raises
    ------
    InputError
        If the arrays do not fit together.

    Examples
    --------
    >>> found = conflicts(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))
    >>> [(conflict.cluster_id, conflict.rows.tolist(), conflict.n_minority) for conflict in found]
    [(1, [2, 3], 1)]
    """
    cluster_ids, y = np.asarray(cluster_ids), np.asarray(y)
    if y.ndim != 1 or cluster_ids.shape != y.shape:
        raise InputError(f"arrays of the shapes {cluster_ids.shape} and {y.shape}: expected two of (n_tasks,)")
    answered = np.flatnonzero(y != UNLABELED)
    if not len(answered):
        return []
    order = answered[np.argsort(cluster_ids[answered], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(cluster_ids[order])) + 1)
    n_classes = int(y.max()) + 1
    mixed = (rows for rows in groups if (y[rows] != y[rows[0]]).any())
    found = [Conflict(int(cluster_ids[rows[0]]), rows, np.bincount(y[rows], minlength=n_classes)) for rows in mixed]
    return sorted(found, key=lambda conflict: (-conflict.n_minority, len(conflict.rows), conflict.cluster_id))
