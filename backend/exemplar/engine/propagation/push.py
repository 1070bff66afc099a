"""Label spreading on the neighbour graph: what one answer says, by a local push.

An answer that is new, changed or taken back costs its own column of G = (1-α)(I-αS)^-1, not a solve.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from exemplar.engine.propagation.spreading import ALPHA, check_options, checked_affinity
from exemplar.errors import InputError

_UNSEEN = -1


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
        self._S = checked_affinity(S)
        check_options(alpha, tolerance)
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
        nodes = ball.nodes[ball.inside]
        order = np.argsort(nodes)
        return nodes[order], np.maximum(ball.g[order], 0).astype(np.float32)

    def _settle(self, ball: "_Ball") -> None:
        while True:
            # No column's maximum is below 1-α, the diagonal's least.
            allowed = self._tolerance * ball.g.max(initial=1 - self._alpha) / self._amplification
            if np.abs(ball.residual).max() <= allowed:
                return
            # Joining at half of what is allowed takes some more nodes, and far fewer rounds.
            ball.join(ball.residual > allowed / 2)
            ball.descend()


class _Ball:
    """The part of the graph that a column has reached: nodes seen, and those inside that may be non-zero.

    Seen nodes are numbered in the order they were met, which ``position`` holds while the ball lives. The rows
    of S are read for inside nodes only; all their neighbours are seen. ``residual`` is (1-α)e - (I-αS)g at the
    nodes seen, and zero at all others; ``g`` is kept for the nodes inside, in their order.
    """

    def __init__(self, S: sparse.csr_array, alpha: float, node: int, position: NDArray[np.int32]) -> None:
        self.nodes = np.array([node], np.int32)
        self.residual = np.array([1 - alpha])
        self.inside = np.zeros(0, np.intp)
        self.g = np.zeros(0)
        self._S, self._alpha, self._position = S, alpha, position
        self._alpha_S = sparse.csc_array((1, 0))
        position[node] = 0

    def join(self, chosen: NDArray[np.bool_]) -> None:
        """Take the chosen nodes inside, and see their neighbours."""
        chosen[self.inside] = False
        joining = np.flatnonzero(chosen)
        if len(joining) == 0:
            return
        self.inside = np.concatenate([self.inside, joining])
        self.g = np.concatenate([self.g, np.zeros(len(joining))])
        ends, neighbors, weights = _read_rows(self._S, self.nodes[joining])
        old = self._alpha_S
        parts = (
            np.concatenate([old.data, self._alpha * weights]),
            np.concatenate([old.indices, self._see(neighbors)]),
            np.concatenate([old.indptr, old.indptr[-1] + ends]),
        )
        # What is a row of S is a column here, for S is symmetric: a product tells each neighbour its part.
        self._alpha_S = sparse.csc_array(parts, shape=(len(self.nodes), len(self.inside)))

    def _see(self, neighbors: NDArray[np.int32]) -> NDArray[np.int32]:
        # A node that several inside have as their neighbour is numbered so many times; the last number counts, and
        # nothing ever stands at the others. To find them costs more than to carry them along.
        new = neighbors[self._position[neighbors] == _UNSEEN]
        self._position[new] = len(self.nodes) + np.arange(len(new), dtype=np.int32)
        self.nodes = np.concatenate([self.nodes, new])
        self.residual = np.concatenate([self.residual, np.zeros(len(new))])
        return self._position[neighbors]

    def descend(self) -> None:
        """Lower the residual inside to half its norm by conjugate gradients; more would soon be outdated."""
        r = self.residual.take(self.inside)
        direction, norm = r, float(r @ r)
        goal = norm / 4
        while norm > goal:
            told = self._alpha_S @ direction
            curvature = direction - told.take(self.inside)
            step = norm / float(direction @ curvature)
            self.g += step * direction
            self.residual += step * told
            r = r - step * curvature
            norm, previous = float(r @ r), norm
            direction = r + norm / previous * direction
        self.residual[self.inside] = r


def _read_rows(
    S: sparse.csr_array, nodes: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Return where each row ends, its columns and values; ``S[nodes]`` takes thrice as long for a few nodes."""
    starts = S.indptr.take(nodes)
    counts = S.indptr.take(nodes + 1) - starts
    ends = counts.cumsum(dtype=np.int32)
    at = np.arange(ends[-1], dtype=np.intp)
    at += np.repeat(starts + counts - ends, counts)
    return ends, S.indices.take(at), S.data.take(at)


def _inverse_norm(S: sparse.csr_array, alpha: float) -> float:
    """Return an upper bound on ||(I-αS)^-1||_∞, the largest row sum of the inverse, at most 2.1 % above it.

    Where (I-αS)w = 1 - ρ and |ρ| < 1, the row sums are at most w / (1 - max |ρ|), for the inverse is not negative.
    """
    w = np.full(S.shape[0], 1 / (1 - alpha), np.float32)
    rho = 1 - (w - np.float32(alpha) * (S @ w))
    # ||ρ||_2 falls by α at least with each step.
    for _ in range(1 + math.ceil(math.log(max(1.0, 100 * float(np.linalg.norm(rho)))) / -math.log(alpha))):
        if (left := float(np.abs(rho).max(initial=0))) <= 0.01:
            return float(w.max(initial=1)) / (1 - left)
        w += rho
        rho = np.float32(alpha) * (S @ rho)
    raise InputError("S has eigenvalues outside [-1, 1]: expected D^-1/2 W D^-1/2 of symmetric weights W")
