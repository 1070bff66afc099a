"""How alike the tasks of a pool are to some of them: a Gaussian kernel, column by column, and its bandwidth."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import euclidean_distances

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.checks import checked_pool
from exemplar.errors import InputError

# Columns are made, and herding's candidates renewed, so many at a time.
CHUNK = 64
# For the bandwidth: the median of so many tasks, and their neighbours among so many.
N_QUERIES, N_REFERENCES = 1000, 20_000

# The similarity of one task to each witness, in 255ths: finer steps choose no better, and take four times the room.
Column = NDArray[np.uint8]


def bandwidth(Z: NDArray[np.float32], budget: int, *, random_state: int = 0) -> float:
    """Return the sigma2 at which each of ``budget`` answers speaks for its share of the pool.

    It is the median, over a sample of the tasks, of the squared distance to the (n_tasks / budget)-th neighbour.

    Parameters
    ----------
    Z : array of shape (n_tasks, n_features)
    budget : int, at least 1
        How many answers are expected in all.
    random_state : int

    Returns
    -------
    sigma2 : float, greater than 0
        If at least half of the squared distances are 0, the median of the others; 1 if all tasks are equal.

    Raises
    ------
    InputError
        If Z is no finite matrix with at least one row, or the budget is below 1.

    Examples
    --------
    >>> bandwidth(np.float32([[0], [1], [2], [3]]), 4)
    1.0
    >>> bandwidth(np.float32([[0], [1], [2], [3]]), 2)
    2.5
    """
    Z = checked_pool(Z)
    if budget < 1:
        raise InputError(f"budget={budget}: expected at least 1 answer")
    # In a big pool, the neighbours are sought among a sample of it, at their rank in there.
    rows = np.random.default_rng(random_state).permutation(len(Z))
    references = Z[rows[: max(N_REFERENCES, 8 * budget)]].astype(np.float64)
    references -= references.mean(axis=0)
    rank = min(max(len(references) // budget, 1), len(references) - 1)
    with one_blas_thread():
        squared = np.concatenate(
            [
                _to_neighbor(references[start : min(start + CHUNK, N_QUERIES)], references, rank)
                for start in range(0, min(N_QUERIES, len(Z)), CHUNK)
            ]
        )
    apart = squared[squared > 0]
    return float(np.median(squared) or np.median(apart)) if len(apart) else 1.0


def _to_neighbor(queries: NDArray[np.float64], references: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    """Return the squared distances to the neighbours of a rank; 0 where float64 cannot tell them from equal."""
    squared = np.partition(euclidean_distances(queries, references, squared=True), rank, axis=1)[:, rank]
    squared[squared < 1e-13 * _squared_norms(queries)] = 0
    return squared


def _squared_norms(points: NDArray[np.float64]) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.einsum("ij,ij->i", points, points)
    return norms


class Kernel:
    """K_ji = exp(-|z_j - z_i|^2 / sigma2) of the tasks of a pool to some of them, its witnesses.

    A column comes out the same, bit for bit, whichever are made together with it.

    Parameters
    ----------
    Z : array of shape (n_tasks, n_features)
        Held, not copied.
    witnesses : int array of shape (n_witnesses,)
        Rows of Z.
    bandwidth : float, greater than 0
        sigma2, see :func:`bandwidth`.

    Examples
    --------
    >>> kernel = Kernel(np.float32([[0], [1], [9]]), np.array([0, 1]), 1.0)
    >>> [(row, column.tolist()) for row, column in kernel.columns([1, 2])]
    [(1, [94, 255]), (2, [0, 0])]
    """

    def __init__(self, Z: NDArray[np.float32], witnesses: NDArray[np.intp], bandwidth: float) -> None:
        self._Z = Z
        self._origin, self._sigma = Z[witnesses].mean(axis=0, dtype=np.float64), bandwidth**0.5
        points = self._in_sigmas(witnesses)
        # With two more columns, the product below is the whole squared distance.
        self._lifted = np.column_stack([points, _squared_norms(points), np.ones(len(points))])

    def columns(self, rows: list[int]) -> Iterator[tuple[int, Column]]:
        """Yield each row with its similarity to each witness."""
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            # Always as many points: BLAS rounds by shape, and a column must not depend on its company.
            points = self._in_sigmas(np.resize(chunk, CHUNK))
            lifted = np.column_stack([-2 * points, np.ones(CHUNK), _squared_norms(points)])
            # Cut off while float32 can hold it; from 7 on, 255 exp(-x) is 0 anyway.
            exponents = np.clip(lifted @ self._lifted.T, 0, 20).astype(np.float32)
            similarities = np.rint(255 * np.exp(-exponents)).astype(np.uint8)
            for row, column in zip(chunk, similarities, strict=False):
                yield row, column.copy()  # on its own, for the chunk must not live as long as one of its columns

    def _in_sigmas(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return points in units of sigma; around the origin, |a|^2 + |b|^2 - 2ab tells near ones apart."""
        points: NDArray[np.float64] = (self._Z[rows].astype(np.float64) - self._origin) / self._sigma
        return points
