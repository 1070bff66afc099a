"""How open it is to which class a task belongs."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from exemplar.errors import InputError

# Margins are taken of so many tasks at a time, which stay in the cache.
ROWS = 4096


def margin_uncertainty(F: NDArray[np.floating], *, sharpness: float = 1.0) -> NDArray[np.float32]:
    """Return how open it is to which class each task belongs: 1 minus the margin of its two likeliest classes.

    A task that no answer reaches (its propagated mass is small beside that of others) counts as uncertain even if
    all of its little mass is of one class: with mass smoothing, p = (F + eps / C) / (sum F + eps).

    Parameters
    ----------
    F : array of shape (n_tasks, n_classes)
        Propagated scores, unnormalised and not negative.
    sharpness : float, greater than 0
        The power that p is raised to before its margin is taken: propagated scores are less sure than they are
        right, so that above 1 the margin says more of what is open.

    Returns
    -------
    uncertainty : float32 array of shape (n_tasks,), from 0 to 1
        With a single class, 1 minus its mass / (mass + eps).

    Raises
    ------
    InputError
        If F is no finite matrix of one class or more, or is negative somewhere.

    References
    ----------
    Bae et al. (2024), "Uncertainty Herding: One Active Learning Method for All Label Budgets", section 3.

    Examples
    --------
    >>> margin_uncertainty(np.float32([[10, 0], [5, 5], [0, 0]])).round(2)
    array([0.09, 1.  , 1.  ], dtype=float32)
    """
    F = np.asarray(F)
    F = F if F.dtype == np.float32 else F.astype(np.float64)
    if F.ndim != 2 or F.shape[1] == 0:
        raise InputError(f"F has the shape {F.shape}: expected (n_tasks, n_classes) with at least one class")
    if F.size and not (F.min() >= 0 and F.max() < np.inf):
        raise InputError(f"F holds {F.min()} to {F.max()}: expected finite scores of 0 or more")
    # eps = 0.1 of the median mass of those that have any: rows that no answer reaches are uncertain without it.
    mass = F.sum(axis=1, dtype=np.float64)
    reached = mass > 0
    eps = 0.1 * np.median(mass[reached]) if reached.any() else 1.0
    if sharpness == 1 or F.shape[1] == 1:
        # eps / C is the same in both classes, so that it leaves the margin of p alone.
        margins = _margins(F) / (mass + eps)
    else:
        margins = np.concatenate([_margins(p) for p in _sharpened(F, eps, sharpness)] or [mass])
    uncertainty: NDArray[np.float32] = (1 - margins).astype(np.float32)
    return uncertainty


def _sharpened(F: NDArray[np.floating], eps: float, sharpness: float) -> Iterator[NDArray[np.floating]]:
    """Yield the smoothed distributions to the power, chunk by chunk and in the precision of F."""
    least = np.finfo(F.dtype).tiny
    extra, power = F.dtype.type(max(eps / F.shape[1], least)), F.dtype.type(sharpness)
    for start in range(0, len(F), ROWS):
        p = F[start : start + ROWS] + extra
        p /= p.max(axis=1, keepdims=True)  # so that no power overflows
        np.log(np.maximum(p, least, out=p), out=p)
        np.exp(np.multiply(p, power, out=p), out=p)  # several times as fast as p ** power
        p /= p.sum(axis=1, keepdims=True)
        yield p


def _margins(F: NDArray[np.floating]) -> NDArray[np.floating]:
    if F.shape[1] == 1:
        return F[:, 0]
    margins = np.empty(len(F), F.dtype)
    for start in range(0, len(F), ROWS):
        two = np.partition(F[start : start + ROWS], -2, axis=1)[:, -2:]
        margins[start : start + ROWS] = two[:, 1] - two[:, 0]
    return margins
