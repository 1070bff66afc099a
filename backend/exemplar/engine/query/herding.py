"""Which tasks to ask next, so that each uncertain task has an answered one near it: herding."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.checks import checked_pool
from exemplar.engine.query.greedy import LazyGreedy
from exemplar.engine.query.kernel import CHUNK, Column, Kernel
from exemplar.engine.query.strategies import checked_batch, checked_mask
from exemplar.errors import InputError

# Coverage is summed over at most so many tasks of the pool: see Herding.
N_WITNESSES = 20_000


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
        self._kernel = Kernel(self._Z, self._witnesses, bandwidth)
        # Heavy rows come early: each is first with its share as the probability (Efraimidis & Spirakis 2006).
        self._order = np.argsort(rng.standard_exponential(len(weights)) / weights, kind="stable")
        self._columns: dict[int, Column] = {}
        self._answered = np.empty(0, np.intp)
        self._answered_coverage = np.zeros(len(self._witnesses), np.uint8)

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
        greedy = LazyGreedy(importance, self._coverage(labeled).copy())
        chosen: list[int] = []
        while len(chosen) < n:
            batch = greedy.choose(self._candidates(askable), min(CHUNK, n - len(chosen)))
            askable[batch] = False
            chosen += batch
        return np.array(chosen, np.intp)

    def _coverage(self, labeled: NDArray[np.bool_]) -> Column:
        """Return how near each witness has an answered task, max_l K_jl; only new answers cost anything."""
        if not labeled[self._answered].all():  # an answer was taken back
            self._answered, self._answered_coverage = np.empty(0, np.intp), np.zeros(len(self._witnesses), np.uint8)
        answered = np.flatnonzero(labeled)
        coverage = self._answered_coverage.copy()
        for _, column in self._columns_of(np.setdiff1d(answered, self._answered).tolist()):
            np.maximum(coverage, column, out=coverage)
        self._answered, self._answered_coverage = answered, coverage
        return coverage

    def _candidates(self, askable: NDArray[np.bool_]) -> dict[int, Column]:
        """Return the kernel columns of the first askable rows of the order, and forget those of all others."""
        rows = self._order[askable[self._order]][: self._n_candidates + CHUNK].tolist()
        candidates = rows[: self._n_candidates]
        if not self._columns.keys() >= set(candidates):
            # With a reserve for the answers to come, for one column costs as much as a chunk of them.
            self._columns = dict(self._columns_of(rows))
        return {row: self._columns[row] for row in candidates}

    def _columns_of(self, rows: list[int]) -> Iterator[tuple[int, Column]]:
        """Yield each row with its similarity to each witness; those that are held first."""
        yield from ((row, self._columns[row]) for row in rows if row in self._columns)
        yield from self._kernel.columns([row for row in rows if row not in self._columns])


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
