"""The columns of G that belong to labelled nodes, and what answers say of each other.

The columns are few and local, so they are kept as they are from one answer to the next.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.propagation.push import Pusher
from exemplar.errors import InputError


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
    with one_blas_thread():
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
    A: NDArray[np.float32] = _gp_solved(G_LL, Y_L, noise).astype(np.float32)
    return A


def gp_leave_one_out(G_LL: NDArray[np.float32], Y_L: NDArray[np.float32], *, noise: float) -> NDArray[np.float32]:
    """Return what Gaussian-process regression says of each labelled node without its own answer.

    Parameters
    ----------
    G_LL : array of shape (n_labeled, n_labeled)
    Y_L : array of shape (n_labeled, n_classes)
    noise : float > 0
        As in ``gp_weights``; its unit is held, that is the diagonal's mean with the node itself.

    Returns
    -------
    q : float32 array of shape (n_labeled, n_classes)
        May be negative.

    Raises
    ------
    InputError
        As ``gp_weights``.

    References
    ----------
    Rasmussen & Williams (2006), "Gaussian Processes for Machine Learning", eq. 5.12.

    Examples
    --------
    >>> gp_leave_one_out(np.float32([[0.5, 0.25], [0.25, 0.5]]), np.float32([[1, 0], [0, 1]]), noise=1).tolist()
    [[0.0, 0.25], [0.25, 0.0]]
    """
    G_LL, Y_L = _checked_kernel(G_LL, Y_L)
    solved = _gp_solved(G_LL, np.hstack([Y_L, np.eye(len(G_LL))]), noise)
    A, inverse = solved[:, : Y_L.shape[1]], solved[:, Y_L.shape[1] :]
    q: NDArray[np.float32] = (Y_L - A / inverse.diagonal()[:, None]).astype(np.float32)
    return q


def _gp_solved(G_LL: NDArray[np.float32], B: NDArray[np.floating], noise: float) -> NDArray[np.float64]:
    """Return (G_LL + noise · mean(diagonal) · I)^-1 B."""
    if not 0 < noise < np.inf:
        raise InputError(f"noise is {noise}: expected a number above 0")
    if len(G_LL) == 0:
        return B.astype(np.float64)
    kernel = G_LL.astype(np.float64)
    kernel[np.diag_indices_from(kernel)] += noise * kernel.diagonal().mean()
    try:
        with one_blas_thread():
            solved: NDArray[np.float64] = linalg.cho_solve(linalg.cho_factor(kernel, overwrite_a=True), B)
    except linalg.LinAlgError as error:
        raise InputError("G_LL is not positive definite: expected a kernel, as among_labeled() returns") from error
    return solved


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
