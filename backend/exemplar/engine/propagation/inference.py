"""From answers to calibrated label distributions: they spread, classes are weighed, a temperature is fitted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.geometry import Geometry
from exemplar.engine.propagation.calibration import (
    USUAL_TEMPERATURE,
    calibrated,
    fit_temperature,
    typical_mass,
)
from exemplar.engine.propagation.columns import Columns, empty_columns, gp_leave_one_out, leave_one_out
from exemplar.engine.propagation.methods import NOISE, checked_shares, node_shares, propagate, resolved
from exemplar.engine.propagation.prepared import pusher
from exemplar.engine.propagation.weighing import Evidence, Weight, weigh
from exemplar.errors import InputError

# How much less an answer counts where its class has more of them. Found on random re-splits of digits, with and
# without a rare class, and on MNIST.
BALANCE = 0.7
# What scores are drawn to that come of priors alone: modest, for nothing has judged these yet. Measured on eight
# sets of texts: NUMBERS.
PRIOR_TEMPERATURE = 0.7


@dataclass(frozen=True)
class Inference:
    """What answers tell of a pool.

    Attributes
    ----------
    scores : float32 array of shape (n_tasks, n_classes)
        As ``propagate`` returns them, the classes weighed.
    distributions : float32 array of shape (n_tasks, n_classes)
        Calibrated probabilities; the shares of the votes where a task was answered, zeros where nothing is known.
    columns : Columns
        Those of the answered tasks' nodes.
    left_out : float32 array of shape (n_labeled, n_classes)
        What is said of each of these nodes without its own answer, in units of ``scores``.
    temperature : float
        What calibrates the scores.
    averaged_at : float
        The temperature for ``neighbor_proba``: that of a regression, 1 otherwise.
    by_graph : bool
        Whether ``scores``, and not only ``left_out``, are of the neighbour graph.
    weights : tuple of Weight
        What each prior counts.
    """

    scores: NDArray[np.float32]
    distributions: NDArray[np.float32]
    columns: Columns
    left_out: NDArray[np.float32]
    temperature: float
    averaged_at: float
    by_graph: bool
    weights: tuple[Weight, ...] = ()


def infer(
    geometry: Geometry,
    shares: NDArray[np.float32],
    *,
    method: str = "auto",
    percent: float = 100.0,
    columns: Columns | None = None,
    priors: Sequence[NDArray[np.float32]] = (),
) -> Inference:
    """Infer the pool's label distributions from a few answers, and from what was believed before.

    Parameters
    ----------
    geometry : Geometry
    shares : float array of shape (n_tasks, n_classes)
    method, percent
        As in ``propagate``.
    columns : Columns, optional
        Those of an earlier inference over the same graph: only new answers cost a push.
    priors : sequence of float32 arrays of shape (n_tasks, n_classes)
        As ``prior_of_names`` and ``prior_of_predictions`` make them. The answers decide what each counts; with
        other methods than those of the graph none does.

    Raises
    ------
    InputError
        As ``propagate``, or if a prior does not fit the pool.

    Examples
    --------
    >>> from exemplar.engine.geometry import survey
    >>> geometry = survey(np.float32([[0], [1], [2], [9], [10], [11]]), n_clusters=2)
    >>> shares = np.float32([[1, 0], [0, 0], [0, 0], [0, 0], [0, 1], [0, 0]])
    >>> infer(geometry, shares).distributions.argmax(axis=1)
    array([0, 0, 0, 1, 1, 1])
    """
    shares = checked_shares(geometry, shares)
    Y = node_shares(geometry, shares)
    nodes = np.flatnonzero(Y.any(axis=1)).astype(np.int32)
    Y = Y[nodes]
    columns = (columns or empty_columns()).updated(pusher(geometry), nodes)
    scores = propagate(geometry, shares, method=method, percent=percent, columns=columns)
    method = resolved(method, Y.shape[1])
    by_graph = method in ("graph", "gaussian-process")
    left_out = _left_out(columns, Y, method)
    weights: tuple[Weight, ...] = ()
    met = Y.sum(axis=0)
    if by_graph:
        evidence = Evidence(scores, left_out, Y, geometry.graph.rows[nodes], class_weights)
        priors = [_fitting(prior, evidence, method) for prior in priors]
        weights = weigh(evidence, priors)
        scores, left_out = evidence.mixed(priors, weights), evidence.left_out_mixed(priors, weights)
        for prior, weight in zip(priors, weights, strict=True):
            met += weight.answers * prior.any(axis=0)
    mass = typical_mass(scores)
    usual = _usual_temperature(Y, weights)
    temperature = fit_temperature(left_out, Y.argmax(axis=1), typical_mass=mass, usual=usual)
    if by_graph:
        distributions = with_classes_unseen(calibrated(scores, temperature, typical_mass=mass), met)
    else:
        distributions = calibrated(scores, 1.0)
    distributions[~scores.any(axis=1)] = 0
    answered = shares.any(axis=1)
    distributions[answered] = shares[answered]
    averaged_at = temperature if method == "gaussian-process" else 1.0
    return Inference(scores, distributions, columns, left_out, temperature, averaged_at, by_graph, weights)


def with_classes_unseen(p: NDArray[np.float32], met: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return distributions in which classes that nobody has met yet have their part, each the same.

    Leave-one-out cannot tell of them: after one answer, all of the pool would be of its class for certain.

    Parameters
    ----------
    p : float32 array of shape (n_tasks, n_classes)
    met : float array of shape (n_classes,)
        As how many answers each class was met.

    References
    ----------
    Laplace's rule of succession: after n answers a class that none of them named has 1 / (n + n_classes).

    Examples
    --------
    >>> with_classes_unseen(np.float32([[1, 0, 0]]), np.array([1, 0, 0])).round(2)
    array([[0.5 , 0.25, 0.25]], dtype=float32)
    """
    unseen = met == 0
    each = np.float32(1 / (met.sum() + len(met)))
    mixed: NDArray[np.float32] = p * (1 - np.float32(np.count_nonzero(unseen)) * each)
    mixed[:, unseen] += each
    return mixed


def _usual_temperature(Y: NDArray[np.float32], weights: tuple[Weight, ...]) -> float:
    """Return the temperature of scores that few answers judge, between that of answers and that of priors."""
    by_prior = sum(weight.answers for weight in weights)
    if not by_prior:
        return USUAL_TEMPERATURE
    of_prior = by_prior / (by_prior + float(Y.sum(axis=0).mean()))
    return float(USUAL_TEMPERATURE ** (1 - of_prior) * PRIOR_TEMPERATURE**of_prior)


def _fitting(prior: NDArray[np.float32], evidence: Evidence, method: str) -> NDArray[np.float32]:
    """Return a prior in the units of the scores: those of a regression do not grow with the answers."""
    prior = np.asarray(prior, np.float32)
    if prior.shape != evidence.F.shape or not 0 <= prior.min() <= prior.max() < np.inf:
        raise InputError(
            f"a prior has the shape {prior.shape}: expected {evidence.F.shape}, finite numbers, none below 0"
        )
    if method != "gaussian-process" or not len(evidence.Y) or not prior.any():
        return prior
    n_answers = float(evidence.Y.sum()) / prior.shape[1]
    return prior * np.float32(typical_mass(evidence.F) / (n_answers * typical_mass(prior)))


def class_weights(n_answers: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return how much an answer of each class counts: the less, the more of them there are.

    Where the queue asks most, next to borders, a class has many answers without being common, and would outvote
    its neighbours. The weights go by each count and the mean together, so that a rare class stays rare.

    Parameters
    ----------
    n_answers : array of shape (..., n_classes)

    Returns
    -------
    weights : float32 array of shape (..., n_classes)
        1 for a class with as many answers as the average; 0 for one without.

    References
    ----------
    King & Zeng (2001), "Logistic regression in rare events data", sec. 4: weights where a sample's shares of the
    classes are not those of the population.

    Examples
    --------
    >>> class_weights(np.array([2, 2])), class_weights(np.array([9, 3, 0])).round(2)
    (array([1., 1.], dtype=float32), array([0.71, 1.1 , 0.  ], dtype=float32))
    """
    n_answers = np.asarray(n_answers, np.float64)
    mean = n_answers.mean(axis=-1, keepdims=True)
    total = np.where(mean > 0, n_answers + mean, 1)
    weights: NDArray[np.float32] = np.where(n_answers > 0, (2 * mean / total) ** BALANCE, 0).astype(np.float32)
    return weights


def _left_out(columns: Columns, Y: NDArray[np.float32], method: str) -> NDArray[np.float32]:
    if method == "gaussian-process":
        return np.maximum(gp_leave_one_out(columns.among_labeled(), Y, noise=NOISE), 0)
    return leave_one_out(columns.among_labeled(), Y)
