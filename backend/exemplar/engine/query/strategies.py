"""What every query strategy demands of its arguments, and the simplest of them: any order at all."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.errors import InputError


def random_order(askable: NDArray[np.bool_], n: int, *, random_state: int = 0) -> NDArray[np.intp]:
    """Return rows of the pool in random order: the strategy that every other one has to beat.

    Parameters
    ----------
    askable : bool array of shape (n_tasks,)
        Tasks that may be asked: neither answered nor skipped.
    n : int
        At most so many.
    random_state : int

    Returns
    -------
    rows : int array of shape (min(n, number askable),), each row once
        The order in which to ask; for one ``random_state``, a smaller n gives its beginning.

    Raises
    ------
    InputError
        If askable is no bool vector, or n is negative.

    Examples
    --------
    >>> random_order(np.array([True, False, True]), 5).tolist() in ([0, 2], [2, 0])
    True
    """
    askable = np.asarray(askable)
    askable = checked_mask("askable", askable, askable.size)
    order = np.random.default_rng(random_state).permutation(len(askable))
    return order[askable[order]][: checked_batch(n)]


def checked_mask(name: str, mask: Any, n_tasks: int) -> NDArray[np.bool_]:
    """Return a bool vector with one entry for each task.

    Raises
    ------
    InputError
        If it is none, with its name, dtype and shape.

    Examples
    --------
    >>> checked_mask("askable", [True, False], 2)
    array([ True, False])
    """
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != (n_tasks,):
        raise InputError(
            f"{name} is {mask.dtype} of the shape {mask.shape}: expected bool of the shape {(n_tasks,)}"
        )
    checked: NDArray[np.bool_] = mask
    return checked


def checked_batch(n: int) -> int:
    """Return the number of tasks to choose.

    Raises
    ------
    InputError
        If it is negative.

    Examples
    --------
    >>> checked_batch(50)
    50
    """
    if n < 0:
        raise InputError(f"n={n}: expected 0 or more tasks to choose")
    return int(n)
