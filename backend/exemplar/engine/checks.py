"""What the engine's public functions demand of their arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.errors import InputError


def checked_pool(X: Any) -> NDArray[np.float32]:
    """Return X as a finite float32 matrix of at least one row and one column.

    Raises
    ------
    InputError
        If it is none, with the shape, or with the first row that holds a NaN or an infinity.

    Examples
    --------
    >>> checked_pool([[1, 2]])
    array([[1., 2.]], dtype=float32)
    """
    X = np.asarray(X, np.float32)
    if X.ndim != 2 or 0 in X.shape:
        raise InputError(f"X has the shape {X.shape}: expected (n_tasks, n_features) with at least one of each")
    if not np.isfinite(X).all():
        row = int(np.argmax(~np.isfinite(X).all(axis=1)))
        raise InputError(f"X holds a NaN or an infinity in row {row}: expected finite numbers")
    checked: NDArray[np.float32] = X
    return checked
