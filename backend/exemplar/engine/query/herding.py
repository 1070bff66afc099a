"""Which tasks to ask next, so that each uncertain task has an answered one near it: herding."""

import heapq
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import euclidean_distances

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.checks import checked_pool
from exemplar.engine.query.strategies import checked_batch, checked_mask
from exemplar.errors import InputError

# Coverage is summed over at most so many tasks of the pool: see Herding.
N_WITNESSES = 20_000
# Kernel columns are made, and candidates renewed, so many at a time.
CHUNK = 64
# Margins are taken of so many tasks at a time, which stay in the cache.
ROWS = 4096
# For the bandwidth: the median of so many tasks, and their neighbours among so many.
N_QUERIES, N_REFERENCES = 1000, 20_000

# The similarity of one task to each witness, in 255ths: finer steps choose no better, and take four times the room.
Column = NDArray[np.uint8]


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


class Herding:
    """The pool of MaxHerding and of uncertainty herding, with what does not change from answer to answer.

    The next task is the one that adds most to the coverage, with K_ji = exp(-|z_j - z_i|^2 / sigma2)::

        argmax_i sum_j w_j u_j [K_ji - max_l K_jl]_+        l: answered or chosen before

    Uncertainty herding takes u_j from the propagated scores; for MaxHerding it is 1. Gains only fall as more is
    chosen, so an old gain is an upper bound, and few are computed again (lazy greedy).

    Two samples bound memory and time in big pools. The sum goes over at most 20 000 *witnesses*, one drawn out of
    each of as many equal stretches of the pool: one that is numbered cluster by cluster is represented evenly. And
    the choice is among the first ``n_candidates`` askable tasks of one random order; when one is answered, the next
    in the order comes in.

    What ``choose`` returns depends on its arguments only. Kernel columns are held between calls, but the same ones,
    bit for bit, come out when they are made anew. Not for several threads at once.

    Parameters
    ----------
    Z : array of shape (n_tasks, n_features)
        Features in which distances mean something; held, not copied.
    bandwidth : float, greater than 0
        sigma2, see :func:`bandwidth`.
    weights : array of shape (n_tasks,), optional
        How many tasks each row stands for; greater than 0. By default 1.
    n_candidates : int, at least 1
    random_state : int

    Raises
    ------
    InputError
        If Z is no finite matrix with at least one row, or another parameter is not as said.

    References
    ----------
    Bae, Noh & Sutherland (2024), "Generalized Coverage for More Robust Low-Budget Active Learning", algorithm 1
    (MaxHerding). Bae et al. (2024), "Uncertainty Herding: One Active Learning Method for All Label Budgets",
    algorithm 1. Minoux (1978), "Accelerated greedy algorithms for maximizing submodular set functions".

    Examples
    --------
    >>> herding = Herding(np.float32([[0], [1], [2], [9], [10]]), bandwidth=1.0)
    >>> nobody = np.zeros(5, bool)
    >>> herding.choose(None, nobody, ~nobody, 2)
    array([1, 3])
    >>> uncertainty = np.float32([0, 0, 0, 0.5, 1])
    >>> herding.choose(uncertainty, nobody, ~nobody, 2)
    array([4, 3])
    """

    def __init__(
        self,
        Z: NDArray[np.float32],
        *,
        bandwidth: float,
        weights: NDArray[Any] | None = None,
        n_candidates: int = 2000,
        random_state: int = 0,
    ) -> None:
        self._Z = checked_pool(Z)
        if not 0 < bandwidth < np.inf:
            raise InputError(f"bandwidth={bandwidth}: expected a number greater than 0")
        if n_candidates < 1:
            raise InputError(f"n_candidates={n_candidates}: expected at least 1")
        weights = _checked_weights(weights, len(self._Z))
        self._n_candidates = n_candidates
        rng = np.random.default_rng(random_state)
        self._witnesses, self._witness_weights = _stratified_sample(weights, rng)
        self._origin, self._sigma = self._Z[self._witnesses].mean(axis=0, dtype=np.float64), bandwidth**0.5
        points = self._in_sigmas(self._witnesses)
        # With two more columns, the product below is the whole squared distance.
        self._lifted = np.column_stack([points, _squared_norms(points), np.ones(len(points))])
        # Heavy rows come early: each is first with its share as the probability (Efraimidis & Spirakis 2006).
        self._order = np.argsort(rng.standard_exponential(len(weights)) / weights, kind="stable")
        self._columns: dict[int, Column] = {}
        self._answered = np.empty(0, np.intp)
        self._answered_coverage = np.zeros(len(points), np.uint8)

    def choose(
        self,
        uncertainty: NDArray[np.float32] | None,
        labeled: NDArray[np.bool_],
        askable: NDArray[np.bool_],
        n: int,
    ) -> NDArray[np.intp]:
        """Return rows of the pool in the order in which to ask them.

        Parameters
        ----------
        uncertainty : array of shape (n_tasks,), optional
            From 0 to 1, see :func:`margin_uncertainty`; None for MaxHerding.
        labeled : bool array of shape (n_tasks,)
            Tasks with an answer: what they cover needs no more.
        askable : bool array of shape (n_tasks,)
            Tasks that may be asked: neither answered nor skipped.
        n : int
            At most so many.

        Returns
        -------
        rows : int array of shape (min(n, number askable),), each row once
            A smaller n gives its beginning. Of equals, the lower row comes first.

        Raises
        ------
        InputError
            If an array does not fit the pool, an uncertainty is outside 0 to 1, or n is negative.
        """
        n_tasks = len(self._Z)
        importance = self._witness_weights
        if uncertainty is not None:
            importance = importance * _checked_uncertainty(uncertainty, n_tasks)[self._witnesses]
        labeled, askable = checked_mask("labeled", labeled, n_tasks), checked_mask("askable", askable, n_tasks)
        n = min(checked_batch(n), int(np.count_nonzero(askable)))
        with one_blas_thread():
            return self._greedy(importance.astype(np.float32), labeled, askable.copy(), n)

    def _greedy(
        self, importance: NDArray[np.float32], labeled: NDArray[np.bool_], askable: NDArray[np.bool_], n: int
    ) -> NDArray[np.intp]:
        greedy = _LazyGreedy(importance, self._coverage(labeled).copy())
        chosen: list[int] = []
        while len(chosen) < n:
            batch = greedy.choose(self._candidates(askable), min(CHUNK, n - len(chosen)))
            askable[batch] = False
            chosen += batch
        return np.array(chosen, np.intp)

    def _coverage(self, labeled: NDArray[np.bool_]) -> Column:
        """Return how near each witness has an answered task, max_l K_jl; only new answers cost anything."""
        if not labeled[self._answered].all():  # an answer was taken back
            self._answered, self._answered_coverage = np.empty(0, np.intp), np.zeros(len(self._lifted), np.uint8)
        answered = np.flatnonzero(labeled)
        coverage = self._answered_coverage.copy()
        for _, column in self._kernel(np.setdiff1d(answered, self._answered).tolist()):
            np.maximum(coverage, column, out=coverage)
        self._answered, self._answered_coverage = answered, coverage
        return coverage

    def _candidates(self, askable: NDArray[np.bool_]) -> dict[int, Column]:
        """Return the kernel columns of the first askable rows of the order, and forget those of all others."""
        rows = self._order[askable[self._order]][: self._n_candidates + CHUNK].tolist()
        candidates = rows[: self._n_candidates]
        if not self._columns.keys() >= set(candidates):
            # With a reserve for the answers to come, for one column costs as much as a chunk of them.
            self._columns = dict(self._kernel(rows))
        return {row: self._columns[row] for row in candidates}

    def _kernel(self, rows: list[int]) -> Iterator[tuple[int, Column]]:
        """Yield each row with its similarity to each witness; those that are held first."""
        yield from ((row, self._columns[row]) for row in rows if row in self._columns)
        missing = [row for row in rows if row not in self._columns]
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
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


class _LazyGreedy:
    """Chooses the column that adds most to the coverage, again and again."""

    def __init__(self, importance: NDArray[np.float32], coverage: Column) -> None:
        self._importance, self._coverage = importance, coverage
        self._bounds: dict[int, float] = {}
        self._added, self._weighed = np.empty_like(coverage), np.empty_like(importance)

    def choose(self, columns: dict[int, Column], n: int) -> list[int]:
        """Return the best at most n rows; what was chosen before must not be among the columns."""
        heap = [(-self._bounds.get(row, np.inf), row) for row in columns]
        heapq.heapify(heap)
        chosen = []
        for _ in range(min(n, len(heap))):
            row = self._pop(heap, columns)
            np.maximum(self._coverage, columns[row], out=self._coverage)
            chosen.append(row)
        self._bounds = {row: -negative for negative, row in heap}
        return chosen

    def _pop(self, heap: list[tuple[float, int]], columns: dict[int, Column]) -> int:
        """Take the row of the largest gain out of a heap of (-upper bound, row)."""
        is_exact: set[int] = set()
        while (row := heap[0][1]) not in is_exact:
            heapq.heapreplace(heap, (-self._gain(columns[row]), row))
            is_exact.add(row)
        return heapq.heappop(heap)[1]

    def _gain(self, column: Column) -> float:
        np.maximum(column, self._coverage, out=self._added)
        np.subtract(self._added, self._coverage, out=self._added)
        np.copyto(self._weighed, self._added)
        return float(self._weighed @ self._importance)


def _stratified_sample(
    weights: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return at most N_WITNESSES rows and how much each stands for: one out of each of as many equal stretches."""
    if len(weights) <= N_WITNESSES:
        return np.arange(len(weights)), weights
    ends = np.cumsum(weights)
    points = (np.arange(N_WITNESSES) + rng.random(N_WITNESSES)) * (ends[-1] / N_WITNESSES)
    rows, counts = np.unique(np.searchsorted(ends[:-1], points, side="right"), return_counts=True)
    return rows, counts.astype(np.float64)


def _checked_weights(weights: Any, n_tasks: int) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(n_tasks)
    weights = np.asarray(weights, np.float64)
    if weights.shape != (n_tasks,):
        raise InputError(f"weights has the shape {weights.shape}: expected {(n_tasks,)}, one for each task")
    if not (weights.min() > 0 and weights.max() < np.inf):
        raise InputError(f"weights holds {weights.min()} to {weights.max()}: expected finite numbers above 0")
    relative: NDArray[np.float64] = weights / weights.max()
    return relative


def _checked_uncertainty(uncertainty: Any, n_tasks: int) -> NDArray[np.floating]:
    uncertainty = np.asarray(uncertainty)
    if uncertainty.shape != (n_tasks,):
        raise InputError(f"uncertainty has the shape {uncertainty.shape}: expected {(n_tasks,)}, one for each task")
    if not (uncertainty.min() >= 0 and uncertainty.max() <= 1):
        raise InputError(
            f"uncertainty holds {uncertainty.min()} to {uncertainty.max()}: expected numbers from 0 to 1"
        )
    checked: NDArray[np.floating] = uncertainty
    return checked
