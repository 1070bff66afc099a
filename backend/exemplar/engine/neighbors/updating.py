"""Tasks come and go, and their graph takes them up and lets them go without being built anew."""

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.neighbors.duplicates import first_equal
from exemplar.engine.neighbors.graph import NeighborGraph, checked_features
from exemplar.engine.neighbors.nearest import (
    NODES_AT_ONCE,
    Candidates,
    Lists,
    Vectors,
    in_parallel,
    merged,
    search_all,
)
from exemplar.errors import InputError

NEW = -1


def update_graph(graph: NeighborGraph, X: NDArray[np.float32], kept: NDArray[np.intp]) -> NeighborGraph:
    """Let tasks join and leave a graph without building it anew.

    Nodes that stay keep their order and, unless one of it left, their list, with the new nodes that belong there;
    new ones are appended. All lists that are new are exact. The cost grows with the number of nodes that are new or
    lost a neighbour: once these are a good part of the pool, building anew is faster. Up to ties, an exact graph
    becomes the one that would be built anew.

    Parameters
    ----------
    graph : NeighborGraph
    X : array of shape (n_tasks, n_features)
        The pool as it is now.
    kept : int array of shape (n_tasks,)
        Each task's row in the old pool, its vector being the same; NEW = -1 for those that were not in it.

    Raises
    ------
    InputError
        If X is no finite matrix with at least one row, or kept has another length, names a row that the old pool
        has not, or one twice.

    Examples
    --------
    >>> from exemplar.engine.neighbors.graph import build_graph
    >>> graph = build_graph(np.float32([[0], [1], [9]]), np.int32([0, 0, 0]), n_neighbors=1)
    >>> now = update_graph(graph, np.float32([[8], [0], [9]]), np.array([NEW, 0, 2]))
    >>> now.rows, now.neighbors.ravel()
    (array([1, 2, 0], dtype=int32), array([2, 2, 1], dtype=int32))
    """
    X, kept = checked_features(X), np.asarray(kept)
    _check_kept(kept, len(X), len(graph.node_of))
    node_of, renumbered = _carried_over(graph, X, kept)
    n_old, n_nodes = int(renumbered.max()) + 1, int(node_of.max()) + 1
    rows = np.empty(n_nodes, np.int32)
    rows[node_of[::-1]] = np.arange(len(X), dtype=np.int32)[::-1]
    nodes, k = Vectors(X, rows), min(graph.n_neighbors, n_nodes - 1)

    neighbors, distances = np.full((n_nodes, k), -1, np.int32), np.full((n_nodes, k), np.inf, np.float32)
    if k == graph.neighbors.shape[1]:
        neighbors[:n_old] = renumbered[graph.neighbors[renumbered >= 0]]
        distances[:n_old] = graph.distances[renumbered >= 0]
    anew = np.flatnonzero((neighbors < 0).any(axis=1)).astype(np.int32)
    whole = np.setdiff1d(np.arange(n_old, dtype=np.int32), anew)
    with one_blas_thread():
        if len(anew):
            neighbors[anew], distances[anew] = search_all(nodes, nodes.at(anew), anew, k)
        if len(whole) and n_nodes > n_old:
            lists = neighbors[whole], distances[whole]
            neighbors[whole], distances[whole] = _with_newcomers(nodes, whole, *lists, n_old)
    return NeighborGraph(node_of, rows, neighbors, distances, graph.recall, graph.n_neighbors)


def _check_kept(kept: NDArray[np.intp], n_tasks: int, n_before: int) -> None:
    if kept.shape != (n_tasks,) or kept.dtype.kind != "i":
        raise InputError(
            f"kept is {kept.dtype} of the shape {kept.shape}: expected an int for each of {n_tasks} tasks"
        )
    if kept.min() < NEW or kept.max() >= n_before:
        raise InputError(f"kept holds {kept.min()} to {kept.max()}: expected rows below {n_before}, or {NEW}")
    times = np.bincount(kept[kept != NEW])
    if (times > 1).any():
        raise InputError(f"kept names row {times.argmax()} {times.max()} times: expected each once")


def _carried_over(
    graph: NeighborGraph, X: NDArray[np.float32], kept: NDArray[np.intp]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the node of each task now, and the new number of each old node, -1 for those that are gone."""
    stayed = kept != NEW
    stays = np.zeros(len(graph.rows), bool)
    stays[graph.node_of[kept[stayed]]] = True
    renumbered = np.where(stays, np.cumsum(stays) - 1, -1).astype(np.int32)
    node_of = np.full(len(X), -1, np.int32)
    node_of[stayed] = renumbered[graph.node_of[kept[stayed]]]
    if not stayed.all():
        first = first_equal(X)
        node_at = np.full(len(X), -1, np.int32)
        node_at[first[stayed]] = node_of[stayed]
        leaders = np.unique(first[node_at[first] < 0])
        node_at[leaders] = stays.sum() + np.arange(len(leaders))
        node_of[~stayed] = node_at[first[~stayed]]
    return node_of, renumbered


def _with_newcomers(
    nodes: Vectors,
    whole: NDArray[np.int32],
    neighbors: NDArray[np.int32],
    distances: NDArray[np.float32],
    n_old: int,
) -> Lists:
    """Return the lists of the nodes ``whole`` with those nodes from n_old on that belong there."""
    k = neighbors.shape[1]

    def search(chunk: slice) -> Lists:
        some = whole[chunk]
        candidates = Candidates(nodes, nodes.at(some), some, k, kth=distances[chunk, -1] ** 2)
        candidates.meet(np.arange(len(some), dtype=np.int32), n_old, len(nodes))
        return candidates.nearest()

    return merged(nodes, [(neighbors, distances), in_parallel(search, len(whole), NODES_AT_ONCE)], k)
