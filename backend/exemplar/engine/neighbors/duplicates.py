"""Which tasks of a pool are the same: equal vectors share a node of the graph."""

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.neighbors.nearest import PAIRS_AT_ONCE


def distinct(X: NDArray[np.float32], cluster_ids: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the node of each task and the first row of each node, numbered by cluster, then row.

    >>> distinct(np.float32([[5], [7], [5]]), np.int32([1, 0, 1]))
    (array([1, 0, 1], dtype=int32), array([1, 0], dtype=int32))
    """
    first = first_equal(X)
    rows = np.flatnonzero(first == np.arange(len(X))).astype(np.int32)
    rows = rows[np.argsort(cluster_ids[rows], kind="stable")]
    node_at = np.empty(len(X), np.int32)
    node_at[rows] = np.arange(len(rows), dtype=np.int32)
    return node_at[first], rows


def first_equal(X: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return for each row the first row that equals it."""
    hashes = _hashes(X)
    first = np.empty(len(X), np.int32)
    pending = np.arange(len(X), dtype=np.int32)
    while len(pending):
        _, leaders, which = np.unique(hashes[pending], return_index=True, return_inverse=True)
        leader = pending[leaders][which]
        settled = _equal(X, pending, leader)
        first[pending[settled]] = leader[settled]
        # What has another's hash and yet differs goes round again; each round settles at least the leaders.
        pending = pending[~settled]
    return first


def _hashes(X: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Hash each row by a random sum of its bits, those of -0.0 taken as 0.0 (Carter & Wegman 1979)."""
    weights = np.random.default_rng(0).integers(2**64, size=X.shape[1], dtype=np.uint64)
    hashes = np.empty(len(X), np.uint64)
    for start in range(0, len(X), 1024):
        bits = (X[start : start + 1024] + np.float32(0)).view(np.uint32)
        np.einsum("ij,j->i", bits, weights, dtype=np.uint64, out=hashes[start : start + 1024])
    return hashes


def _equal(X: NDArray[np.float32], rows: NDArray[np.int32], others: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return where X[rows] equals X[others], row by row."""
    equal: NDArray[np.bool_] = rows == others
    unsure = np.flatnonzero(~equal)
    for at in range(0, len(unsure), PAIRS_AT_ONCE):
        some = unsure[at : at + PAIRS_AT_ONCE]
        equal[some] = (X[rows[some]] == X[others[some]]).all(axis=1)
    return equal
