"""Confidence that means what it says: a temperature for propagated scores, and how reliable it proves."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from exemplar.errors import InputError

# What few answers are drawn to: about the best temperature on digits, MNIST and Banking77 from 50 labels on, with
# and without wrong answers (0.15 to 0.6), and how far off its logarithm it is.
USUAL_TEMPERATURE = 0.35
SPREAD_OF_LOG = 0.4
_BOUNDS = 0.02, 20.0


def typical_mass(F: NDArray[np.float32]) -> float:
    """Return the median sum of the rows that anything is known of; 0 where there are none.

    >>> typical_mass(np.float32([[0, 0], [1, 1], [3, 1]]))
    3.0
    """
    mass = np.asarray(F).sum(axis=1)
    return float(np.median(mass[mass > 0])) if (mass > 0).any() else 0.0


def fit_temperature(
    q: NDArray[np.float32],
    y: NDArray[np.intp],
    *,
    typical_mass: float = 0.0,
    usual: float = USUAL_TEMPERATURE,
) -> float:
    """Fit the temperature of propagated scores to what labelled tasks are told by their fellows.

    Few answers are drawn to a usual temperature (a log-normal prior), and no answer counts as fully certain, so
    that a flawless leave-one-out does not lead to boundless confidence. Rows of zeros say nothing of it.

    Parameters
    ----------
    q : array of shape (n_labeled, n_classes)
        What ``leave_one_out`` returns.
    y : int array of shape (n_labeled,)
    typical_mass : float >= 0
        As in ``calibrated``.
    usual : float > 0
        What few answers are drawn to, and returned where there is none.

    Returns
    -------
    temperature : float > 0
        The larger, the more modest.

    Raises
    ------
    InputError
        If q and y do not fit together, or q is negative or not finite.

    References
    ----------
    Guo et al. (2017), "On calibration of modern neural networks", sec. 4.2. Platt (1999), "Probabilistic outputs
    for support vector machines", sec. 2.2 (answers that are not fully certain).

    Examples
    --------
    >>> sure = fit_temperature(np.float32([[9, 1]] * 50), np.zeros(50, int))
    >>> modest = fit_temperature(np.float32([[9, 1]] * 50), np.arange(50) % 2)
    >>> calibrated(np.float32([[9, 1]]), sure)[0].round(2), calibrated(np.float32([[9, 1]]), modest)[0].round(2)
    (array([0.99, 0.01], dtype=float32), array([0.73, 0.27], dtype=float32))
    """
    scores = _checked_scores(np.asarray(q, np.float64))
    y = np.asarray(y)
    if y.shape != scores.shape[:1]:
        raise InputError(f"y has the shape {y.shape}: expected ({len(scores)},), one for each row of q")
    if len(y) and not 0 <= y.min() <= y.max() < scores.shape[1]:
        raise InputError(f"y holds {y.min()} to {y.max()}: expected class indices below {scores.shape[1]}")
    told = scores.any(axis=1)
    if scores.shape[1] == 1 or not told.any():
        return usual
    logs, targets = log_shares(scores[told], typical_mass), _targets(y[told], scores.shape[1])

    def loss(log_temperature: float) -> float:
        fit = -float((targets * log_softmax(logs / np.exp(log_temperature), axis=1)).sum())
        off = (log_temperature - math.log(usual)) / SPREAD_OF_LOG
        return fit + off**2 / 2

    return float(np.exp(minimize_scalar(loss, bounds=np.log(_BOUNDS), method="bounded").x))


def calibrated(F: NDArray[np.float32], temperature: float, *, typical_mass: float = 0.0) -> NDArray[np.float32]:
    """Return probabilities from propagated scores: each row to the power of 1 / temperature, normalised.

    Parameters
    ----------
    F : array of shape (n_tasks, n_classes)
        Not negative.
    temperature : float > 0
    typical_mass : float >= 0
        So much is shared out over all classes first, which makes tasks that little is known of more modest. What
        ``typical_mass(F)`` of the whole pool returns is near the best; with 0 the mass does not count. Take classes
        from F, for the faintest rows of p tie then.

    Returns
    -------
    p : float32 array of shape (n_tasks, n_classes)
        Rows of zeros become uniform.

    Raises
    ------
    InputError
        If F is negative or not finite, or an option is out of range.

    References
    ----------
    Guo et al. (2017), "On calibration of modern neural networks", sec. 4.2.

    Examples
    --------
    >>> calibrated(np.float32([[3, 1], [0, 0]]), 0.5).round(3)
    array([[0.9, 0.1],
           [0.5, 0.5]], dtype=float32)
    """
    scores = _checked_scores(F)
    if not 0 < temperature < np.inf:
        raise InputError(f"temperature is {temperature}: expected a number above 0")
    # In the precision of F: a pool's rows are many, and the annotator waits for them.
    p = np.exp(log_shares(scores, typical_mass) / scores.dtype.type(temperature))
    p /= p.sum(axis=1, keepdims=True)
    return p.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Reliability:
    """How often predictions of like confidence were right, from the least confident on.

    Attributes
    ----------
    n : int array of shape (n_bins,)
    confidence : float array of shape (n_bins,)
        Its mean in each bin.
    accuracy : float array of shape (n_bins,)
    """

    n: NDArray[np.intp]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """The expected calibration error, from 0 to 1; NaN of nothing."""
        if not len(self.n):
            return float("nan")
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.n))


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_], *, n_bins: int = 5) -> Reliability:
    """Compare confidence with truth, in bins of as many audits each; honest on audits only.

    Parameters
    ----------
    confidence : float array of shape (n_audits,)
    right : bool array of shape (n_audits,)
    n_bins : int
        Of fewer audits than bins, each has its own.

    Raises
    ------
    InputError
        If the arrays do not fit together, a confidence is no probability, or n_bins is below 1.

    References
    ----------
    Naeini et al. (2015), "Obtaining well calibrated probabilities using Bayesian binning", eq. 6; bins of equal
    count: Nguyen & O'Connor (2015), "Posterior calibration and exploratory analysis for NLP models".

    Examples
    --------
    >>> table = reliability(np.array([0.5, 0.9, 0.5, 0.9]), np.array([True, True, False, True]), n_bins=2)
    >>> table.n, table.accuracy, round(table.error, 2)
    (array([2, 2]), array([0.5, 1. ]), 0.05)
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, bool)
    if confidence.ndim != 1 or confidence.shape != right.shape:
        raise InputError(f"arrays of the shapes {confidence.shape} and {right.shape}: expected two of (n_audits,)")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise InputError("confidence holds numbers outside 0 to 1: expected probabilities")
    if n_bins < 1:
        raise InputError(f"n_bins is {n_bins}: expected 1 or more")
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(n_bins, len(order))) if len(order) else []
    return Reliability(
        np.array([len(rows) for rows in bins], np.intp),
        np.array([confidence[rows].mean() for rows in bins], np.float64),
        np.array([right[rows].mean() for rows in bins], np.float64),
    )


def log_shares(F: NDArray[np.floating], mass: float) -> NDArray[np.floating]:
    """Return the logarithms of each row's shares, in units of its largest one; so much ``mass`` is shared out."""
    if not 0 <= mass < np.inf:
        raise InputError(f"typical_mass is {mass}: expected a number not below 0")
    extra = mass / F.shape[1]
    largest = F.max(axis=1, keepdims=True).astype(np.float64) + extra
    known = largest > 0
    # Divided before it is added to: the faintest rows keep their shares, and the largest do not overflow.
    shares = F / np.where(known, largest, 1).astype(F.dtype)
    shares += np.where(known, extra / np.where(known, largest, 1), 1).astype(F.dtype)
    np.maximum(shares, F.dtype.type(1e-12), out=shares)
    return np.log(shares, out=shares)


def _targets(y: NDArray[np.intp], n_classes: int) -> NDArray[np.float64]:
    doubt = 1 / (len(y) + 2)
    targets = np.full((len(y), n_classes), doubt / (n_classes - 1))
    targets[np.arange(len(y)), y] = 1 - doubt
    return targets


def _checked_scores(F: NDArray[np.floating]) -> NDArray[np.floating]:
    scores = np.asarray(F)
    scores = scores if scores.dtype == np.float32 else scores.astype(np.float64)
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise InputError(f"scores have the shape {scores.shape}: expected (n_tasks, n_classes)")
    if scores.size and not 0 <= scores.min() <= scores.max() < np.inf:
        raise InputError(f"scores hold {scores.min()} to {scores.max()}: expected finite numbers, none below 0")
    return scores
