"""Which tasks of a pool are the same: equal vectors share a node of the graph, near-duplicates are a group.

A group has a leader, its first row, and is given as the leader of each row. That tasks are near-duplicates is told
by their signatures, which are made for it, not by the vectors that learning sees.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.checks import checked_pool
from exemplar.engine.neighbors.nearest import PAIRS_AT_ONCE
from exemplar.errors import InputError

# Where most of so many texts are one but for what their loose keys mask, just that tells them apart.
MANY = 20
# A k-d tree finds the near in few dimensions; along a pool's main directions most others are far already.
N_DIRECTIONS = 8

Rows = NDArray[np.int32]


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


def group_by_keys(keys: NDArray[np.uint64]) -> Rows:
    """Group the rows whose keys are equal; return the first row of each one's group, int32 of shape (n_tasks,).

    Parameters
    ----------
    keys : uint64 array of shape (n_tasks, 2)
        A strict key and a loose one of each row, 0 for none. Loose keys count, but not where more than half of all
        rows, and more than twenty, have the same: what is masked in them is then all that there is to tell.

    Raises
    ------
    InputError
        If keys has another shape.

    Examples
    --------
    >>> group_by_keys(np.uint64([[1, 7], [2, 8], [3, 7], [0, 0], [0, 0]]))
    array([0, 1, 0, 3, 4], dtype=int32)
    """
    if keys.ndim != 2 or keys.shape[1] != 2:
        raise InputError(f"keys has the shape {keys.shape}: expected (n_tasks, 2)")
    strict, loose = keys.T
    _, which, counts = np.unique(loose, return_inverse=True, return_counts=True)
    common = counts[which] > max(len(keys) / 2, MANY)
    leaders = _first_of_each(np.where(common, strict, loose))
    return np.where(loose == 0, np.arange(len(keys)), leaders).astype(np.int32)


def group_by_prints(
    prints: NDArray[np.float32],
    radii: NDArray[np.float32],
    same: Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.bool_]] | None = None,
) -> Rows:
    """Group the rows whose prints are near; return the leader of each one's group, int32 of shape (n_tasks,).

    Each row that is in no group yet leads one of all later such rows near to it: so no group is wider than twice a
    radius, however closely a pool's rows follow each other.

    Parameters
    ----------
    prints : float32 array of shape (n_tasks, n_values)
    radii : float32 array of shape (n_tasks,)
        Two rows are near when their distance is at most the smaller of their radii. Equal rows always are.
    same : callable, optional
        What else has to hold: takes two arrays of rows, and returns for which pairs it does.

    Raises
    ------
    InputError
        If prints is no finite matrix, or radii does not fit it.

    Examples
    --------
    >>> group_by_prints(np.float32([[0], [1], [2], [9]]), np.float32([1, 1, 1, 1]))
    array([0, 0, 2, 3], dtype=int32)
    """
    prints = checked_pool(prints)
    if radii.shape != (len(prints),):
        raise InputError(f"radii has the shape {radii.shape}: expected ({len(prints)},), one for each row")
    first = first_equal(prints)
    rows = np.flatnonzero(first == np.arange(len(prints)))
    leader = np.arange(len(prints), dtype=np.int32)
    seen = _along_main_directions(prints[rows])
    tree = KDTree(seen)
    # Rounding must not hide a pair that is just near enough.
    reach = radii[rows] * 1.001 + 1e-6
    to_next = tree.query(seen, k=2, distance_upper_bound=reach.max() * 1.001)[0][:, 1]  # inf where none is near
    taken = np.zeros(len(rows), bool)
    for at in np.flatnonzero(to_next <= reach).tolist():
        if taken[at]:
            continue
        near = np.array(tree.query_ball_point(seen[at], reach[at]), np.intp)
        near = np.sort(near[(near > at) & ~taken[near]])
        others, me = rows[near], np.full(len(near), rows[at])
        apart = np.linalg.norm(prints[others] - prints[rows[at]], axis=1)
        is_same = apart <= np.minimum(radii[others], radii[rows[at]])
        if same is not None:
            is_same &= same(me, others)
        taken[near[is_same]] = True
        leader[others[is_same]] = rows[at]
    return leader[first]


def group_by_all(*groupings: Rows) -> Rows:
    """Group the rows that are together in each of some groupings.

    >>> group_by_all(np.int32([0, 0, 0, 3]), np.int32([0, 1, 1, 1]))
    array([0, 1, 1, 3], dtype=int32)
    """
    _, which = np.unique(np.stack(groupings, axis=1), axis=0, return_inverse=True)
    return _first_of_each(which.ravel())


def _first_of_each(values: NDArray[np.generic]) -> Rows:
    """Return for each row the first one with the same value."""
    _, first, which = np.unique(values, return_index=True, return_inverse=True)
    return np.asarray(first[which], np.int32)


def _along_main_directions(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return X along its main directions: distances get smaller, never greater."""
    centred = X - X.mean(axis=0)
    with one_blas_thread():
        _, directions = np.linalg.eigh(centred.T @ centred)
        seen: NDArray[np.float32] = centred @ directions[:, -N_DIRECTIONS:].astype(np.float32)
    return seen


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
