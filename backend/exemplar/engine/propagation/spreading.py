"""Label spreading on the neighbour graph: all classes by a block solve.

G = (1-α)(I-αS)^-1 holds how much each node says about each other one, and F = G Y. ``spread`` computes F as a
whole; ``push`` computes single columns of G, and ``columns`` keeps those of the labelled nodes.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from exemplar.errors import InputError

# From 0.99 on, accuracy falls steeply where labels are few.
ALPHA = 0.9

# Keeps the working set at a few matrices of so many columns, whatever the number of classes.
BLOCK_OF_COLUMNS = 16
CHUNK_OF_ROWS = 50_000
# A Spreader keeps columns of so many bytes.
KEPT_BYTES = 2**26


def spread(
    S: sparse.csr_array, Y: NDArray[np.float32], *, alpha: float = ALPHA, tolerance: float = 1e-6
) -> NDArray[np.float32]:
    """Return F = G Y, the class scores of all nodes.

    Parameters
    ----------
    S : sparse float32 array of shape (n_nodes, n_nodes)
        D^-1/2 W D^-1/2 of symmetric weights W >= 0: symmetric, its spectrum within [-1, 1].
    Y : array of shape (n_nodes, n_classes)
        Vote shares of labelled nodes, zeros elsewhere; not negative.
    alpha : float in (0, 1)
    tolerance : float in [1e-6, 1)
        Bound on ||F - F_exact||_2 / ||F_exact||_2 of each class, up to float32 rounding (some 1e-7).

    Returns
    -------
    F : float32 array of shape (n_nodes, n_classes)
        Not negative; exactly zero where no label is connected.

    Raises
    ------
    InputError
        If S is no such affinity, Y does not fit it or is negative or not finite, or an option is out of range.

    References
    ----------
    Zhou et al. (2004), "Learning with local and global consistency", eq. 3. Golub & Varga (1961),
    "Chebyshev semi-iterative methods": after k steps the error is T_k(S) / T_k(1/α) times F_exact.

    Examples
    --------
    >>> pair = sparse.csr_array(np.float32([[0, 1], [1, 0]]))
    >>> spread(pair, np.float32([[3], [0]]), alpha=0.5).round(4)
    array([[2.],
           [1.]], dtype=float32)
    """
    S = checked_affinity(S)
    check_options(alpha, tolerance)
    Y = np.asarray(Y, np.float32)
    if Y.ndim != 2 or len(Y) != S.shape[0]:
        raise InputError(f"Y has the shape {Y.shape}: expected ({S.shape[0]}, n_classes), one row for each node")
    if Y.size and not 0 <= Y.min() <= Y.max() < np.inf:
        raise InputError(f"Y holds {Y.min()} to {Y.max()}: expected finite vote shares, none below 0")
    n_steps = math.ceil(math.acosh(1 / tolerance) / math.acosh(1 / alpha))
    F = np.zeros_like(Y)
    seen = np.flatnonzero(Y.any(axis=0))
    for start in range(0, len(seen), BLOCK_OF_COLUMNS):
        block = seen[start : start + BLOCK_OF_COLUMNS]
        F[:, block] = _chebyshev(S, Y[:, block], alpha, n_steps)
    return F


class Spreader:
    """Spreads answers over one graph again and again: a class whose answers are as before costs nothing.

    Classes do not mix in F = G Y, so each column is kept with what it was made from. The result is that of
    ``spread``, bit for bit, whatever was asked before.

    Parameters
    ----------
    S : sparse float32 array of shape (n_nodes, n_nodes)
        As in ``spread``.
    """

    def __init__(self, S: sparse.csr_array) -> None:
        self._S = S
        self._columns: dict[bytes, NDArray[np.float32]] = {}

    def spread(self, Y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return F = G Y as an array of shape (n_nodes, n_classes)."""
        seen = np.flatnonzero(Y.any(axis=0))
        keys = [_column_key(Y[:, column]) for column in seen]
        new = [i for i, key in enumerate(keys) if key not in self._columns]
        solved = spread(self._S, Y[:, seen[new]])
        F = np.zeros_like(Y)
        for i, column in enumerate(seen):
            known = self._columns.get(keys[i])
            F[:, column] = solved[:, new.index(i)] if known is None else known
        self._keep(dict(zip(keys, F.T[seen], strict=True)))
        return F

    def _keep(self, used: dict[bytes, NDArray[np.float32]]) -> None:
        """Keep as many columns as there is room for, those used last before all others."""
        columns = used | {key: column for key, column in self._columns.items() if key not in used}
        room = KEPT_BYTES // max(4 * self._S.shape[0], 1)
        self._columns = dict(list(columns.items())[:room])


def _column_key(y: NDArray[np.float32]) -> bytes:
    nodes = np.flatnonzero(y)
    return nodes.tobytes() + y[nodes].tobytes()


def _chebyshev(S: sparse.csr_array, Y: NDArray[np.float32], alpha: float, n_steps: int) -> NDArray[np.float32]:
    chunks = _row_chunks(S)
    F, before = np.float32(1 - alpha) * Y, np.zeros_like(Y)
    omega = 2.0
    with ThreadPoolExecutor(2) as pool:
        for _ in range(n_steps - 1):
            omega = 1 / (1 - alpha**2 * omega / 4)
            step = partial(_chebyshev_step, F=F, before=before, Y=Y, alpha=alpha, omega=omega)
            for _ in pool.map(step, chunks):
                pass  # it raises what a thread raised
            F, before = before, F
    # The exact scores are not negative, so this only brings them nearer.
    np.maximum(F, 0, out=F)
    return F


def _chebyshev_step(
    chunk: tuple[slice, sparse.csr_array],
    *,
    F: NDArray[np.float32],
    before: NDArray[np.float32],
    Y: NDArray[np.float32],
    alpha: float,
    omega: float,
) -> None:
    """Overwrite the chunk's rows of the step before with ω(αSF + (1-α)Y) + (1-ω)·before."""
    rows, S_rows = chunk
    update = S_rows @ F
    update *= np.float32(omega * alpha)
    update += np.float32(omega * (1 - alpha)) * Y[rows]
    before[rows] *= np.float32(1 - omega)
    before[rows] += update


def _row_chunks(S: sparse.csr_array) -> list[tuple[slice, sparse.csr_array]]:
    """Cut S into rows that share its memory."""
    chunks = []
    for start in range(0, S.shape[0], CHUNK_OF_ROWS):
        stop = min(start + CHUNK_OF_ROWS, S.shape[0])
        stored = slice(S.indptr[start], S.indptr[stop])
        parts = S.data[stored], S.indices[stored], S.indptr[start : stop + 1] - S.indptr[start]
        chunks.append((slice(start, stop), sparse.csr_array(parts, shape=(stop - start, S.shape[1]))))
    return chunks


def checked_affinity(S: sparse.csr_array) -> sparse.csr_array:
    """Return S in float32, or raise an InputError if it is no normalised affinity of nodes."""
    S = sparse.csr_array(S, dtype=np.float32)
    if S.shape[0] != S.shape[1]:
        raise InputError(f"S has the shape {S.shape}: expected (n_nodes, n_nodes)")
    # Rounding may lift the only edge of two nodes a little above 1.
    if S.nnz and not 0 <= S.data.min() <= S.data.max() <= 1 + 1e-5:
        raise InputError(f"S holds {S.data.min()} to {S.data.max()}: expected normalised weights from 0 to 1")
    return S


def check_options(alpha: float, tolerance: float) -> None:
    """Raise an InputError if an option of spreading is out of range."""
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}: expected between 0 and 1")
    if not 1e-6 <= tolerance < 1:
        raise InputError(f"tolerance is {tolerance}: expected 1e-6 to 1")
