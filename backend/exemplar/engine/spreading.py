"""Label spreading on the neighbour graph: all classes by a block solve, one new answer by a local push.

G = (1-α)(I-αS)^-1 holds how much each node says about each other one, and F = G Y. ``spread`` computes F
as a whole. The columns of G that belong to labelled nodes are few and local, so they are kept as they are:
an answer that is new, changed or taken back costs its own column, not a solve.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from threadpoolctl import threadpool_limits

from exemplar.errors import InputError

# From 0.99 on, accuracy falls steeply where labels are few.
ALPHA = 0.9

# Keeps the working set at a few matrices of so many columns, whatever the number of classes.
BLOCK_OF_COLUMNS = 16
CHUNK_OF_ROWS = 50_000
# A Spreader keeps columns of so many bytes.
KEPT_BYTES = 2**26

_UNSEEN = -1


# ── All classes at once ─────────────────────────────────────────────────────────────────────────────────────


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
    S = _checked_affinity(S)
    _check_options(alpha, tolerance)
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


# ── One answer: a push ──────────────────────────────────────────────────────────────────────────────────────


def column(
    S: sparse.csr_array, node: int, *, alpha: float = ALPHA, tolerance: float = 1e-3
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return one column of G, as ``Pusher.column`` does; for several, keep a Pusher.

    Examples
    --------
    >>> pair = sparse.csr_array(np.float32([[0, 1], [1, 0]]))
    >>> nodes, values = column(pair, 1, alpha=0.5)
    >>> nodes, values.round(2)
    (array([0, 1], dtype=int32), array([0.33, 0.67], dtype=float32))
    """
    return Pusher(S, alpha=alpha, tolerance=tolerance).column(node)


class Pusher:
    """Computes columns of G one by one, at a cost that does not grow with the graph.

    Making one costs a few products of S with a vector, and 4 bytes a node. Not for two threads at once.

    Parameters
    ----------
    S : sparse float32 array of shape (n_nodes, n_nodes)
        As in ``spread``.
    alpha : float in (0, 1)
    tolerance : float in [1e-6, 1)
        Bound on max |g_exact - g| / max g of every column.

    Raises
    ------
    InputError
        If S is no affinity, or an option is out of range.

    References
    ----------
    Andersen, Chung & Lang (2006), "Local graph partitioning using PageRank vectors": push where the
    residual is large. Here all nodes whose residual is large join a ball at once, and what is on the ball is
    solved by conjugate gradients rather than pushed around in it.
    """

    def __init__(self, S: sparse.csr_array, *, alpha: float = ALPHA, tolerance: float = 1e-3) -> None:
        self._S = _checked_affinity(S)
        _check_options(alpha, tolerance)
        self._alpha, self._tolerance = alpha, tolerance
        self._amplification = _inverse_norm(self._S, alpha)
        self._position = np.full(self.n_nodes, _UNSEEN, np.int32)

    @property
    def n_nodes(self) -> int:
        """The number of nodes of the graph."""
        return int(self._S.shape[0])

    def column(self, node: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the column of G that belongs to a node, without what is too small to matter.

        The residual r = (1-α)e - (I-αS)g, taken over all nodes of the graph, bounds the error:
        |g_exact - g| <= ||(I-αS)^-1||_∞ ||r||_∞, and the push ends when that is at most tolerance · max(g).

        Returns
        -------
        nodes : int32 array of shape (n_reached,)
            Ascending.
        values : float32 array of shape (n_reached,)
            Not negative; all other nodes are taken as zero.

        Raises
        ------
        InputError
            If the graph has no such node.
        """
        if not 0 <= node < self.n_nodes:
            raise InputError(f"node is {node}: expected one of the graph's, 0 to {self.n_nodes - 1}")
        ball = _Ball(self._S, self._alpha, node, self._position)
        try:
            self._settle(ball)
        finally:
            self._position[ball.nodes] = _UNSEEN
        order = np.argsort(ball.nodes[ball.inside])
        values = np.maximum(ball.g[ball.inside][order], 0).astype(np.float32)
        return ball.nodes[ball.inside][order], values

    def _settle(self, ball: "_Ball") -> None:
        while True:
            residual = ball.residual()
            # No column's maximum is below 1-α, the diagonal's least.
            allowed = self._tolerance * max(ball.g.max(), 1 - self._alpha) / self._amplification
            if np.abs(residual).max() <= allowed:
                return
            # Joining at half of what is allowed takes some more nodes, and far fewer rounds.
            ball.join(residual > allowed / 2)
            ball.descend(residual)


class _Ball:
    """The part of the graph that a column has reached: nodes seen, and those inside that may be non-zero.

    Seen nodes are numbered in the order they were met, which ``position`` holds while the ball lives. The rows
    of S are read for inside nodes only; all their neighbours are seen.
    """

    def __init__(self, S: sparse.csr_array, alpha: float, node: int, position: NDArray[np.int32]) -> None:
        self.nodes = np.array([node], np.int32)
        self.inside = np.zeros(0, np.intp)
        self.g = np.zeros(1)
        self._is_inside = np.zeros(1, bool)
        self._S, self._alpha, self._position = S, alpha, position
        self._alpha_S = sparse.csr_array((0, 1))
        position[node] = 0

    def residual(self) -> NDArray[np.float64]:
        """Return (1-α)e - (I-αS)g at the nodes seen; it is zero at all others."""
        residual: NDArray[np.float64] = self._alpha_S.T @ self.g[self.inside] - self.g
        residual[0] += 1 - self._alpha
        return residual

    def join(self, chosen: NDArray[np.bool_]) -> None:
        """Take the chosen nodes inside, and see their neighbours."""
        joining = np.flatnonzero(chosen & ~self._is_inside)
        if len(joining) == 0:
            return
        self._is_inside[joining] = True
        self.inside = np.concatenate([self.inside, joining])
        rows, old = self._S[self.nodes[joining]], self._alpha_S
        self._see(rows.indices)
        parts = (
            np.concatenate([old.data, self._alpha * rows.data]),
            np.concatenate([old.indices, self._position[rows.indices]]),
            np.concatenate([old.indptr, old.indptr[-1] + rows.indptr[1:]]),
        )
        self._alpha_S = sparse.csr_array(parts, shape=(len(self.inside), len(self.nodes)))

    def _see(self, neighbors: NDArray[np.int32]) -> None:
        # A node that several inside have as their neighbour is numbered so many times; the last number counts, and
        # nothing ever stands at the others. To find them costs more than to carry them along.
        new = neighbors[self._position[neighbors] == _UNSEEN]
        self._position[new] = len(self.nodes) + np.arange(len(new), dtype=np.int32)
        self.nodes = np.concatenate([self.nodes, new])
        self.g = np.concatenate([self.g, np.zeros(len(new))])
        self._is_inside = np.concatenate([self._is_inside, np.zeros(len(new), bool)])

    def descend(self, residual: NDArray[np.float64]) -> None:
        """Lower the residual inside to half its norm by conjugate gradients; more would soon be outdated."""
        r = residual[self.inside]
        direction, norm = r, float(r @ r)
        padded = np.zeros(len(self.nodes))
        goal = norm / 4
        while norm > goal:
            padded[self.inside] = direction
            curvature = direction - self._alpha_S @ padded
            step = norm / float(direction @ curvature)
            self.g[self.inside] += step * direction
            r = r - step * curvature
            norm, previous = float(r @ r), norm
            direction = r + norm / previous * direction


# ── The columns that are kept ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Columns:
    """The columns of G that belong to the labelled nodes, without what is too small to matter.

    Attributes
    ----------
    nodes : int32 array of shape (n_labeled,)
        The labelled nodes, each once, in the order in which the rows of ``Y_labeled`` stand.
    indptr : int64 array of shape (n_labeled + 1,)
        The column of ``nodes[j]`` is stored in ``indptr[j]:indptr[j + 1]``, as in scipy's ``csc_array``.
    indices : int32 array of shape (n_stored,)
        Nodes, ascending in each column.
    values : float32 array of shape (n_stored,)
    """

    nodes: NDArray[np.int32]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]

    def updated(self, pusher: Pusher, nodes: NDArray[np.int32]) -> "Columns":
        """Return the columns of exactly these labelled nodes; only those that are missing are computed.

        Parameters
        ----------
        pusher : Pusher
            Of the same graph, alpha and tolerance as before: with another, start from ``empty_columns()``.
        nodes : int array of shape (n_labeled,)

        Raises
        ------
        InputError
            If a node stands there twice, or the graph has no such node.
        """
        nodes = np.asarray(nodes, np.int32)
        if len(np.unique(nodes)) < len(nodes):
            raise InputError(
                f"nodes holds {len(nodes) - len(np.unique(nodes))} duplicates: expected each node once"
            )
        stored = {int(node): slice(*self.indptr[j : j + 2]) for j, node in enumerate(self.nodes)}
        columns = [
            (self.indices[stored[node]], self.values[stored[node]]) if node in stored else pusher.column(node)
            for node in nodes.tolist()
        ]
        return _stacked(nodes, columns)

    def spread(self, Y_labeled: NDArray[np.float32], n_nodes: int) -> NDArray[np.float32]:
        """Return F = G_L Y_L, the class scores of all nodes.

        Parameters
        ----------
        Y_labeled : array of shape (n_labeled, n_classes)
            Vote shares, or what ``gp_weights`` made of them.
        n_nodes : int

        Returns
        -------
        F : float32 array of shape (n_nodes, n_classes)
            Exactly zero where no stored column reaches.

        Raises
        ------
        InputError
            If Y_labeled has not one row for each labelled node.
        """
        Y_labeled = _checked_answers(Y_labeled, len(self.nodes))
        G = sparse.csc_array((self.values, self.indices, self.indptr), shape=(n_nodes, len(self.nodes)))
        F: NDArray[np.float32] = G @ Y_labeled
        return F

    def among_labeled(self) -> NDArray[np.float32]:
        """Return G_LL, symmetric, of shape (n_labeled, n_labeled).

        Of the two values of a pair the larger, which is nearer: what is left out of a column is not negative.
        """
        order = np.argsort(self.nodes)
        place = np.searchsorted(self.nodes, self.indices, sorter=order)
        hit = np.flatnonzero(place < len(order))
        hit = hit[self.nodes[order[place[hit]]] == self.indices[hit]]
        column_of = np.repeat(np.arange(len(self.nodes)), np.diff(self.indptr))
        G_LL = np.zeros((len(self.nodes), len(self.nodes)), np.float32)
        G_LL[order[place[hit]], column_of[hit]] = self.values[hit]
        return np.maximum(G_LL, G_LL.T, out=G_LL)


def empty_columns() -> Columns:
    """Return the columns of no node, from which ``updated`` starts.

    >>> pair = sparse.csr_array(np.float32([[0, 1], [1, 0]]))
    >>> columns = empty_columns().updated(Pusher(pair, alpha=0.5), np.int32([1]))
    >>> columns.spread(np.float32([[0, 3]]), n_nodes=2).round(2).tolist()
    [[0.0, 1.0], [0.0, 2.0]]
    """
    return _stacked(np.zeros(0, np.int32), [])


def _stacked(nodes: NDArray[np.int32], columns: list[tuple[NDArray[np.int32], NDArray[np.float32]]]) -> Columns:
    lengths = [len(indices) for indices, _ in columns]
    return Columns(
        nodes,
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        np.concatenate([np.zeros(0, np.int32), *(indices for indices, _ in columns)]),
        np.concatenate([np.zeros(0, np.float32), *(values for _, values in columns)]),
    )


# ── What answers say of each other ──────────────────────────────────────────────────────────────────────────


def leave_one_out(G_LL: NDArray[np.float32], Y_L: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what all other labelled nodes say of each: q_i = sum over j != i of G_ij Y_j.

    As G does not depend on labels, this is exactly what label spreading says of i without i's own answer.

    Parameters
    ----------
    G_LL : array of shape (n_labeled, n_labeled)
    Y_L : array of shape (n_labeled, n_classes)
        Vote shares.

    Returns
    -------
    q : float32 array of shape (n_labeled, n_classes)
        Not normalised; exactly zero where no other labelled node reaches.

    Raises
    ------
    InputError
        If G_LL and Y_L do not fit together.

    Examples
    --------
    >>> leave_one_out(np.float32([[0.5, 0.25], [0.25, 0.5]]), np.float32([[1, 0], [0, 1]])).tolist()
    [[0.0, 0.25], [0.25, 0.0]]
    """
    G_LL, Y_L = _checked_kernel(G_LL, Y_L)
    others = G_LL.copy()
    np.fill_diagonal(others, 0)
    with threadpool_limits(1):
        q: NDArray[np.float32] = others @ Y_L
    return q


def gp_weights(G_LL: NDArray[np.float32], Y_L: NDArray[np.float32], *, noise: float) -> NDArray[np.float32]:
    """Return the weights A with which F = G_L A is Gaussian-process regression with G as its kernel.

    It weighs crowded labels down, so that a class with few answers holds its own against one with many.

    Parameters
    ----------
    G_LL : array of shape (n_labeled, n_labeled)
        Symmetric.
    Y_L : array of shape (n_labeled, n_classes)
        Vote shares, or any targets.
    noise : float > 0
        The answers' variance, in units of the mean of G_LL's diagonal.

    Returns
    -------
    A : float32 array of shape (n_labeled, n_classes)
        (G_LL + noise · mean(diagonal) · I)^-1 Y_L; ``Columns.spread`` makes F of it.

    Raises
    ------
    InputError
        If G_LL and Y_L do not fit together, noise is not positive, or G_LL is not positive definite.

    References
    ----------
    Zhu, Ghahramani & Lafferty (2003), "Semi-supervised learning using Gaussian fields and harmonic functions".
    Rasmussen & Williams (2006), "Gaussian Processes for Machine Learning", eq. 2.23.

    Examples
    --------
    >>> gp_weights(np.float32([[0.5, 0], [0, 0.5]]), np.float32([[1], [0]]), noise=1).tolist()
    [[1.0], [0.0]]
    """
    G_LL, Y_L = _checked_kernel(G_LL, Y_L)
    if not 0 < noise < np.inf:
        raise InputError(f"noise is {noise}: expected a number above 0")
    if len(G_LL) == 0:
        return Y_L.copy()
    kernel = G_LL.astype(np.float64)
    kernel[np.diag_indices_from(kernel)] += noise * kernel.diagonal().mean()
    try:
        with threadpool_limits(1):
            A: NDArray[np.float64] = linalg.cho_solve(linalg.cho_factor(kernel, overwrite_a=True), Y_L)
    except linalg.LinAlgError as error:
        raise InputError("G_LL is not positive definite: expected a kernel, as among_labeled() returns") from error
    return A.astype(np.float32)


# ── Checks and bounds ───────────────────────────────────────────────────────────────────────────────────────


def _inverse_norm(S: sparse.csr_array, alpha: float) -> float:
    """Return an upper bound on ||(I-αS)^-1||_∞, the largest row sum of the inverse; it is not a quarter above it.

    Where (I-αS)w = 1 - ρ and |ρ| < 1, the row sums are at most w / (1 - max |ρ|), for the inverse is not negative.
    """
    w = np.full(S.shape[0], 1 / (1 - alpha), np.float32)
    rho = 1 - (w - np.float32(alpha) * (S @ w))
    # ||ρ||_2 falls by α at least with each step.
    for _ in range(1 + math.ceil(math.log(max(1.0, 10 * float(np.linalg.norm(rho)))) / -math.log(alpha))):
        if (left := float(np.abs(rho).max(initial=0))) <= 0.1:
            return float(w.max(initial=1)) / (1 - left)
        w += rho
        rho = np.float32(alpha) * (S @ rho)
    raise InputError("S has eigenvalues outside [-1, 1]: expected D^-1/2 W D^-1/2 of symmetric weights W")


def _checked_affinity(S: sparse.csr_array) -> sparse.csr_array:
    S = sparse.csr_array(S, dtype=np.float32)
    if S.shape[0] != S.shape[1]:
        raise InputError(f"S has the shape {S.shape}: expected (n_nodes, n_nodes)")
    # Rounding may lift the only edge of two nodes a little above 1.
    if S.nnz and not 0 <= S.data.min() <= S.data.max() <= 1 + 1e-5:
        raise InputError(f"S holds {S.data.min()} to {S.data.max()}: expected normalised weights from 0 to 1")
    return S


def _check_options(alpha: float, tolerance: float) -> None:
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}: expected between 0 and 1")
    if not 1e-6 <= tolerance < 1:
        raise InputError(f"tolerance is {tolerance}: expected 1e-6 to 1")


def _checked_answers(Y_L: NDArray[np.float32], n_labeled: int) -> NDArray[np.float32]:
    Y_L = np.asarray(Y_L, np.float32)
    if Y_L.ndim != 2 or len(Y_L) != n_labeled:
        raise InputError(f"Y has the shape {Y_L.shape}: expected ({n_labeled}, n_classes), one row for each label")
    return Y_L


def _checked_kernel(
    G_LL: NDArray[np.float32], Y_L: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    G_LL = np.asarray(G_LL, np.float32)
    if G_LL.ndim != 2 or G_LL.shape[0] != G_LL.shape[1]:
        raise InputError(f"G_LL has the shape {G_LL.shape}: expected (n_labeled, n_labeled)")
    return G_LL, _checked_answers(Y_L, len(G_LL))
