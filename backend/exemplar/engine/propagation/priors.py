"""What is believed of a pool before anybody answers: its tasks lie near the classes' names, another model spoke.

A prior is made once, of the pool alone. ``weighing`` decides what it counts beside the answers.
"""

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.geometry import Geometry
from exemplar.engine.propagation.methods import checked_shares, propagate
from exemplar.errors import InputError

# Taken for answered are the clearest tasks of each name: so large a part of an equal share of the pool, at most so
# many. Found on Banking77, sayings, package descriptions and Python functions; half or twice as many: ± 1 point.
CLEAREST = 1 / 5
MOST_CLEAREST = 50
# The second choice goes by where the first one spread (shares, those of zero taken for so little), and by half of
# the standardised similarities: + 1 to 3 points over the first alone.
_LITTLE = 1e-3
_SIMILARITY_AGAIN = 0.5
Floats = NDArray[np.float32]


def similarities(X: Floats, names: Floats) -> Floats:
    """Return how near each task lies to each class's name, against the pool.

    Vectors are centred by the pool's mean, for what all tasks have in common tells no class apart; then each
    class's cosines are standardised over the pool, for some names are near to everything.

    Parameters
    ----------
    X : float array of shape (n_tasks, n_features)
        Rows of zeros tell nothing.
    names : float array of shape (n_classes, n_features)
        The classes' names by the same encoder; rows of zeros tell nothing.

    Returns
    -------
    similarities : float32 array of shape (n_tasks, n_classes)
        Of mean 0 and deviation 1 over the tasks that tell something; zeros where task or name tells nothing.

    Raises
    ------
    InputError
        If X and names do not fit together, or are not finite.

    Examples
    --------
    >>> pool = np.float32([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    >>> similarities(pool, np.float32([[2, 1], [1, 2], [0, 0]])).round(1) + 0
    array([[ 0.9, -1.1,  0. ],
           [ 1.1, -0.9,  0. ],
           [-1.1,  0.9,  0. ],
           [-0.9,  1.1,  0. ]], dtype=float32)
    """
    X, names = np.asarray(X, np.float32), np.asarray(names, np.float32)
    if X.ndim != 2 or names.ndim != 2 or X.shape[1] != names.shape[1]:
        raise InputError(
            f"X and names have the shapes {X.shape} and {names.shape}: expected (n_tasks, n_features) and "
            "(n_classes, n_features)"
        )
    if not (np.isfinite(X).all() and np.isfinite(names).all()):
        raise InputError("X or names hold a NaN or an infinity: expected finite numbers")
    told, named = X.any(axis=1), names.any(axis=1)
    found = np.zeros((len(X), len(names)), np.float32)
    if not told.any():
        return found
    mean = X[told].mean(axis=0)
    with one_blas_thread():
        cosines = _unit(X[told] - mean) @ _unit(names - mean).T
    deviation = cosines.std(axis=0)
    named &= deviation > 1e-6
    cosines -= cosines.mean(axis=0)
    found[np.ix_(told, named)] = cosines[:, named] / deviation[named]
    return found


def prior_of_names(geometry: Geometry, similarities: Floats) -> Floats:
    """Return what the names of the classes say of each task.

    The tasks that speak most clearly for one name against all others are taken for answered, and spread over the
    graph; where that leads is asked together with the similarities, and the tasks that are clearest then, twice as
    many, are spread in their place.

    Parameters
    ----------
    geometry : Geometry
    similarities : float32 array of shape (n_tasks, n_classes)
        As ``similarities`` returns them; a column of zeros is of a class whose name tells nothing.

    Returns
    -------
    prior : float32 array of shape (n_tasks, n_classes)
        In units of ``propagate``: each class's name counts as one answer in all. Zeros where nothing is said, and
        everywhere if fewer than two names tell anything.

    Raises
    ------
    InputError
        If the similarities do not fit the pool or are not finite.

    References
    ----------
    Stojnić, Kalantidis & Tolias (CVPR 2024), "Label Propagation for Zero-shot Classification with Vision-Language
    Models" (class vectors as seeds on the graph of the pool). Li et al. (ICLR 2025), "Efficient and Context-Aware
    Label Propagation for Zero-/Few-Shot Training-Free Adaptation of Vision-Language Model" (ECALP: names and
    answers on one graph).

    Examples
    --------
    >>> from exemplar.engine.geometry import survey
    >>> pool = np.float32([[1, 0], [1, 0.1], [1, 0.2], [0, 1], [0.1, 1], [0.2, 1]])
    >>> prior = prior_of_names(survey(pool, n_clusters=2), similarities(pool, np.float32([[2, 1], [1, 2]])))
    >>> prior.argmax(axis=1)
    array([0, 0, 0, 1, 1, 1])
    """
    S = np.asarray(similarities, np.float32)
    if S.ndim != 2 or len(S) != geometry.n_tasks or not np.isfinite(S).all():
        raise InputError(
            f"similarities of the shape {S.shape}: expected finite ones, ({geometry.n_tasks}, n_classes)"
        )
    named = np.flatnonzero(S.any(axis=0))
    prior = np.zeros_like(S)
    if len(named) < 2:
        return prior
    S = S[:, named]
    n_clearest = int(np.clip(round(CLEAREST * len(geometry.graph.rows) / len(named)), 1, MOST_CLEAREST))
    first = _spread_clearest(geometry, S, n_clearest)
    spread = np.log(first / np.maximum(first.sum(axis=1, keepdims=True), 1e-12) + _LITTLE)
    again = spread + _SIMILARITY_AGAIN * S
    again[~S.any(axis=1)] = again.mean(axis=0)  # what tells nothing is clear for nobody
    deviation = again.std(axis=0)
    again = (again - again.mean(axis=0)) / np.where(deviation > 1e-6, deviation, 1)
    prior[:, named] = _spread_clearest(geometry, again, 2 * n_clearest)
    return prior


def prior_of_predictions(geometry: Geometry, shares: Floats) -> Floats:
    """Return what another model's predictions say of each task: they are spread like answers.

    Parameters
    ----------
    geometry : Geometry
    shares : float array of shape (n_tasks, n_classes)
        Its distributions, or a 1 for the class that it chose; zeros where it said nothing.

    Returns
    -------
    prior : float32 array of shape (n_tasks, n_classes)
        In units of ``propagate``: its votes count as one answer a class in all.

    Raises
    ------
    InputError
        As ``propagate``.

    Examples
    --------
    >>> from exemplar.engine.geometry import survey
    >>> geometry = survey(np.float32([[0], [1], [2], [9], [10], [11]]), n_clusters=2)
    >>> said = np.float32([[1, 0], [1, 0], [0, 0], [0, 0], [0, 1], [0, 1]])
    >>> prior_of_predictions(geometry, said).argmax(axis=1)
    array([0, 0, 0, 1, 1, 1])
    """
    shares = checked_shares(geometry, shares)
    total = float(shares.sum())
    if total == 0 or shares.shape[1] < 2:
        return np.zeros_like(shares)
    prior: Floats = propagate(geometry, shares, method="graph") * np.float32(shares.shape[1] / total)
    return prior


def _spread_clearest(geometry: Geometry, S: Floats, n_clearest: int) -> Floats:
    """Take the clearest tasks of each class for answered, and spread them; each class has one vote in all."""
    rows = geometry.graph.rows  # of tasks that are the same, one speaks
    margins = _margins(S[rows])
    n = min(n_clearest, len(rows))
    shares = np.zeros_like(S)
    for class_index, margin in enumerate(margins.T):
        clearest = np.argsort(-margin, kind="stable")[:n]
        clearest = clearest[S[rows[clearest]].any(axis=1)]
        shares[rows[clearest], class_index] = 1
    # A tiny pool has fewer tasks than names want: one that several want speaks for each of them.
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
    spread: Floats = propagate(geometry, shares, method="graph") * np.float32(1 / n)
    return spread


def _margins(S: Floats) -> Floats:
    """Return how much nearer each task is to each class than to the nearest other one."""
    best_two = np.partition(S, -2, axis=1)[:, -2:]
    is_best = best_two[:, 1:] == S
    margins: Floats = S - np.where(is_best, best_two[:, :1], best_two[:, 1:])
    return margins


def _unit(X: Floats) -> Floats:
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.where(norms > 0, norms, 1), np.float32)
