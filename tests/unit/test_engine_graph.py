"""The neighbour graph: by hand, as properties, and against plain searches in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits, make_blobs
from sklearn.neighbors import NearestNeighbors

from exemplar.engine.neighbors import (
    NEW,
    NeighborGraph,
    build_graph,
    duplicates,
    nearest,
    neighbors_outside,
    reach,
    update_graph,
)
from exemplar.engine.neighbors import graph as module
from exemplar.errors import InputError

# Whole numbers: their distances are exact, and ties and duplicates plenty.
GRID = st.integers(-4, 4).map(float)
POOLS = st.tuples(st.integers(1, 40), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=GRID)
)


def one_cluster(X: np.ndarray) -> np.ndarray:
    return np.zeros(len(X), np.int32)


def squared_distances(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    return cdist(A.astype(float), B.astype(float), "sqeuclidean")


def plain_neighbors(X: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Each node's k nearest others, the lower row first among equally near ones: the slow and plain way."""
    D = squared_distances(X[rows], X[rows])
    np.fill_diagonal(D, np.inf)
    return np.lexsort((np.broadcast_to(rows, D.shape), D))[:, :k]


def embeddings(n: int, *, n_features: int = 24, n_groups: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping groups in a few directions, and noise in all; and which group each row is of."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(n_groups, size=n)
    latent = rng.standard_normal((n_groups, 8))[groups] + 0.4 * rng.standard_normal((n, 8))
    X = latent @ rng.standard_normal((8, n_features)) + 0.1 * rng.standard_normal((n, n_features))
    return X.astype(np.float32), groups.astype(np.int32)


def links(graph: NeighborGraph) -> list[set[int]]:
    """The rows that each node's neighbours stand at, by the row of the node: free of how nodes are numbered."""
    order = np.argsort(graph.rows)
    return [set(graph.rows[graph.neighbors[node]].tolist()) for node in order]


def far_by_row(graph: NeighborGraph) -> np.ndarray:
    return graph.distances[np.argsort(graph.rows)]


# ── By hand ──────────────────────────────────────────────────────────────────────────────────────────────


def test_four_tasks_on_a_line() -> None:
    graph = build_graph(np.float32([[0], [1], [3], [7]]), np.int32([0, 0, 0, 0]), n_neighbors=2)
    assert graph.neighbors.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert graph.distances.tolist() == [[1, 3], [1, 2], [2, 3], [4, 6]]
    assert graph.recall == 1.0


def test_nodes_are_numbered_by_cluster_then_row() -> None:
    graph = build_graph(np.float32([[0], [9], [1], [8]]), np.int32([5, 2, 5, 2]))
    assert graph.rows.tolist() == [1, 3, 0, 2]
    assert graph.node_of.tolist() == [2, 0, 3, 1]


def test_equal_tasks_share_the_node_of_the_first_and_a_negative_zero_is_a_zero() -> None:
    X = np.float32([[0, 1], [2, 2], [-0.0, 1], [0, 1], [2, 2]])
    graph = build_graph(X, one_cluster(X))
    assert graph.node_of.tolist() == [0, 1, 0, 0, 1]
    assert graph.rows.tolist() == [0, 1]
    assert graph.multiplicity.tolist() == [3, 2]
    assert graph.duplicates.tolist() == [False, False, True, True, True]
    assert graph.neighbors.tolist() == [[1], [0]]


def test_types_are_as_documented() -> None:
    graph = build_graph(np.array([[0.0], [1.0], [5.0]]), np.array([0, 0, 1]))
    arrays_of = (graph.node_of, graph.rows, graph.neighbors, graph.distances, graph.multiplicity, graph.scales)
    assert [a.dtype.name for a in arrays_of] == ["int32", "int32", "int32", "float32", "int32", "float32"]
    S = graph.affinity
    assert (S.dtype, S.indices.dtype, S.indptr.dtype) == ("float32", "int32", "int32")


def test_among_equally_near_ones_the_lower_row_comes_first() -> None:
    X = np.float32([[1], [0], [-1], [1.5]])
    graph = build_graph(X, np.int32([1, 1, 0, 0]), n_neighbors=1)
    # Rows 0 and 2 are as near to row 1, and row 2 has the lower node.
    assert graph.rows.tolist() == [2, 3, 0, 1]
    assert graph.rows[graph.neighbors[3]].tolist() == [0]


def test_affinity_by_hand() -> None:
    # Scales 1, 1, 2: w01 = exp(-1), w12 = exp(-4 / 2).
    S = build_graph(np.float32([[0], [1], [3]]), np.int32([0, 0, 0]), n_neighbors=1).affinity
    near, far = np.exp([-1.0, -2.0])
    W = np.array([[0, near, 0], [near, 0, far], [0, far, 0]])
    root = W.sum(axis=1) ** -0.5
    np.testing.assert_allclose(S.toarray(), root[:, None] * W * root, rtol=1e-6)


def test_a_task_outside_the_pool_finds_the_nearest_nodes() -> None:
    X = np.float32([[0], [4], [4], [9]])
    graph = build_graph(X, np.int32([1, 0, 0, 0]))
    neighbors, distances = neighbors_outside(graph, X, np.float32([[4], [-1]]), n_neighbors=2)
    assert graph.rows[neighbors].tolist() == [[1, 0], [0, 1]]
    assert distances.tolist() == [[0, 4], [1, 5]]
    assert (neighbors.dtype, distances.dtype) == ("int32", "float32")


def test_tasks_outside_find_at_most_all_nodes() -> None:
    X = np.float32([[0], [4], [4]])
    neighbors, _ = neighbors_outside(build_graph(X, one_cluster(X)), X, np.float32([[1]]))
    assert neighbors.tolist() == [[0, 1]]


def test_an_update_by_hand() -> None:
    graph = build_graph(np.float32([[0], [1], [5], [9]]), np.int32([0, 0, 0, 0]), n_neighbors=2)
    # Row 1 leaves, 4 and another 9 come.
    now = update_graph(graph, np.float32([[9], [0], [5], [9], [4]]), np.array([NEW, 0, 2, 3, NEW]))
    assert now.node_of.tolist() == [2, 0, 1, 2, 3]
    assert now.rows.tolist() == [1, 2, 0, 4]
    assert now.neighbors.tolist() == [[3, 1], [3, 2], [1, 3], [1, 0]]
    assert now.distances.tolist() == [[4, 5], [1, 4], [4, 5], [1, 4]]


def test_a_new_task_of_a_lower_row_comes_before_an_old_one_that_is_as_near() -> None:
    graph = build_graph(np.float32([[2], [0]]), np.int32([0, 0]), n_neighbors=1)
    now = update_graph(graph, np.float32([[-2], [2], [0]]), np.array([NEW, 0, 1]))
    assert now.rows.tolist() == [1, 2, 0]
    assert now.rows[now.neighbors].tolist() == [[2], [0], [2]]


# ── Properties ───────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=80, deadline=None)
@given(POOLS, st.integers(1, 12), st.data())
def test_neighbours_are_those_of_a_plain_search(X: np.ndarray, n_neighbors: int, data: st.DataObject) -> None:
    cluster_ids = data.draw(arrays(np.int32, len(X), elements=st.integers(0, 5)))
    graph = build_graph(X, cluster_ids, n_neighbors=n_neighbors)
    k = min(n_neighbors, len(np.unique(X, axis=0)) - 1)
    np.testing.assert_array_equal(graph.neighbors, plain_neighbors(X, graph.rows, k))
    between = np.linalg.norm(X[graph.rows][:, None] - X[graph.rows][graph.neighbors], axis=2)
    np.testing.assert_array_equal(graph.distances, between)


@settings(max_examples=50, deadline=None)
@given(POOLS)
def test_tasks_share_a_node_where_they_are_equal_and_only_there(X: np.ndarray) -> None:
    graph = build_graph(X, one_cluster(X))
    equal = (X[:, None] == X[None]).all(axis=2)
    np.testing.assert_array_equal(graph.node_of[:, None] == graph.node_of[None], equal)
    np.testing.assert_array_equal(graph.rows[graph.node_of], equal.argmax(axis=1))
    np.testing.assert_array_equal(graph.multiplicity[graph.node_of], equal.sum(axis=1))


@settings(max_examples=50, deadline=None)
@given(POOLS)
def test_hashes_that_collide_make_no_tasks_equal(X: np.ndarray) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_hashes", lambda X: (X[:, 0] > 0).astype(np.uint64))
        colliding = build_graph(X, one_cluster(X))
    np.testing.assert_array_equal(colliding.node_of, build_graph(X, one_cluster(X)).node_of)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), st.integers(1, 4), st.integers(0, 10**6), st.data())
def test_the_order_of_the_tasks_does_not_matter(n: int, n_features: int, seed: int, data: st.DataObject) -> None:
    X = np.random.default_rng(seed).standard_normal((n, n_features)).astype(np.float32)
    order = np.array(data.draw(st.permutations(range(n))))
    graph, permuted = build_graph(X, one_cluster(X)), build_graph(X[order], one_cluster(X))
    back = np.argsort(order)
    assert [{int(order[row]) for row in found} for found in links(permuted)] == [links(graph)[row] for row in order]
    np.testing.assert_array_equal(far_by_row(permuted)[back], far_by_row(graph))


@settings(max_examples=50, deadline=None)
@given(POOLS, st.integers(1, 6))
def test_the_affinity_is_symmetric_and_has_no_eigenvalue_beyond_one(X: np.ndarray, n_neighbors: int) -> None:
    S = build_graph(X, one_cluster(X), n_neighbors=n_neighbors).affinity
    dense = S.toarray()
    assert S.has_sorted_indices
    np.testing.assert_array_equal(dense, dense.T)
    np.testing.assert_array_equal(np.diag(dense), 0)
    assert (S.data > 0).all()
    assert np.abs(np.linalg.eigvalsh(dense.astype(float))).max() <= 1 + 1e-5


@settings(max_examples=80, deadline=None)
@given(POOLS, POOLS, st.integers(1, 12), st.data())
def test_an_updated_graph_is_as_one_built_anew(
    X: np.ndarray, other: np.ndarray, n_neighbors: int, data: st.DataObject
) -> None:
    before = build_graph(X, one_cluster(X), n_neighbors=n_neighbors)
    stays = data.draw(arrays(bool, len(X)))
    n_new = data.draw(st.integers(int(not stays.any()), len(other)))
    new = np.resize(other[:n_new], (n_new, X.shape[1]))
    X_now, kept = np.vstack([X[stays], new]), np.append(np.flatnonzero(stays), np.full(n_new, NEW))
    if data.draw(st.booleans()):
        X_now, kept = np.roll(X_now, n_new, axis=0), np.roll(kept, n_new)
    updated = update_graph(before, X_now, kept)
    anew = build_graph(X_now, one_cluster(X_now), n_neighbors=n_neighbors)
    np.testing.assert_array_equal(updated.rows[updated.node_of], anew.rows[anew.node_of])
    np.testing.assert_array_equal(far_by_row(updated), far_by_row(anew))
    between = np.linalg.norm(X_now[updated.rows][:, None] - X_now[updated.rows][updated.neighbors], axis=2)
    np.testing.assert_array_equal(updated.distances, between)
    assert all(node not in found and len(set(found)) == len(found) for node, found in enumerate(updated.neighbors))
    # Where a node's first task left and an equal one stands for it now, ties may fall to others than before.
    old_rows = before.rows[np.unique(before.node_of[stays])]
    if (np.argsort(old_rows) == np.argsort(updated.rows[: len(old_rows)])).all():
        assert links(updated) == links(anew)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 50), st.integers(0, 10**6), st.data())
def test_an_update_bears_any_order_of_the_tasks(n: int, seed: int, data: st.DataObject) -> None:
    X = np.random.default_rng(seed).standard_normal((n, 3)).astype(np.float32)
    X[n // 2] = X[0]
    in_pool = data.draw(st.integers(1, n))
    before = build_graph(X[:in_pool], one_cluster(X[:in_pool]), n_neighbors=4)
    order = np.array(data.draw(st.permutations(range(n))))[: data.draw(st.integers(1, n))]
    updated = update_graph(before, X[order], np.where(order < in_pool, order, NEW))
    anew = build_graph(X[order], one_cluster(order), n_neighbors=4)
    assert links(updated) == links(anew)
    np.testing.assert_array_equal(far_by_row(updated), far_by_row(anew))


@settings(max_examples=50, deadline=None)
@given(POOLS, POOLS, st.integers(1, 12))
def test_neighbours_outside_are_those_of_a_plain_search(X: np.ndarray, X_new: np.ndarray, n_neighbors: int) -> None:
    X_new = np.resize(X_new, (len(X_new), X.shape[1]))
    graph = build_graph(X, one_cluster(X))
    neighbors, distances = neighbors_outside(graph, X, X_new, n_neighbors=n_neighbors)
    D = squared_distances(X_new, X[graph.rows])
    order = np.lexsort((np.broadcast_to(graph.rows, D.shape), D))[:, :n_neighbors]
    np.testing.assert_array_equal(neighbors, order)
    np.testing.assert_allclose(distances, np.sqrt(np.take_along_axis(D, order, axis=1)), rtol=1e-6)


# ── Larger pools, and what float32 does to them ──────────────────────────────────────────────────────────


def test_digits_have_the_neighbours_that_scikit_learn_finds() -> None:
    X = load_digits().data.astype(np.float32)
    graph = build_graph(X, (np.arange(len(X)) % 7).astype(np.int32))
    distances, _ = NearestNeighbors(n_neighbors=11).fit(X).kneighbors(X[graph.rows])
    np.testing.assert_allclose(graph.distances, distances[:, 1:], rtol=1e-5)
    np.testing.assert_array_equal(graph.neighbors, plain_neighbors(X, graph.rows, 10))


@pytest.mark.parametrize("offset", [0, 100, 10_000])
def test_neighbours_are_exact_far_from_the_origin_and_among_groups_of_near_duplicates(offset: float) -> None:
    rng = np.random.default_rng(0)
    X = np.repeat(rng.standard_normal((60, 40)), 20, axis=0) + 1e-3 * rng.standard_normal((1200, 40))
    X = (X + offset).astype(np.float32)
    graph = build_graph(X, one_cluster(X))
    exact = np.sqrt(np.sort(squared_distances(X[graph.rows], X[graph.rows]), axis=1)[:, 1:11])
    np.testing.assert_allclose(graph.distances, exact, rtol=1e-5)


def test_tiles_and_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    X = load_digits().data.astype(np.float32)[:700]
    whole = build_graph(X, one_cluster(X))
    monkeypatch.setattr(nearest, "TILE", 90)
    monkeypatch.setattr(nearest, "QUERIES_AT_ONCE", 37)
    monkeypatch.setattr(duplicates, "PAIRS_AT_ONCE", 11)
    monkeypatch.setattr(nearest, "PAIRS_AT_ONCE", 11)
    tiled = build_graph(X, one_cluster(X))
    np.testing.assert_array_equal(tiled.neighbors, whole.neighbors)
    assert tiled.distances.tobytes() == whole.distances.tobytes()


def test_a_wild_task_does_not_make_all_the_others_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    X, groups = embeddings(1000)
    X[::200] += 1e8
    n_candidates = 0
    distances = nearest._distances

    def counted(
        nodes: nearest.Vectors, queries: nearest.Vectors, of: np.ndarray, candidates: np.ndarray
    ) -> np.ndarray:
        nonlocal n_candidates
        n_candidates += len(of)
        return distances(nodes, queries, of, candidates)  # type: ignore[arg-type]

    monkeypatch.setattr(nearest, "_distances", counted)
    graph = build_graph(X, groups)
    tame = np.flatnonzero(graph.rows % 200 != 0)
    np.testing.assert_array_equal(graph.neighbors[tame], plain_neighbors(X, graph.rows, 10)[tame])
    assert n_candidates < 20 * 1000


def test_an_update_of_digits_is_as_a_graph_built_anew() -> None:
    X = load_digits().data.astype(np.float32)
    before = build_graph(X[:1500], one_cluster(X[:1500]))
    kept = np.append(np.delete(np.arange(1500), np.s_[::50]), np.full(297, NEW))
    X_now = np.vstack([np.delete(X[:1500], np.s_[::50], axis=0), X[1500:]])
    updated, anew = update_graph(before, X_now, kept), build_graph(X_now, one_cluster(X_now))
    assert links(updated) == links(anew)
    assert far_by_row(updated).tobytes() == far_by_row(anew).tobytes()


def test_what_stays_keeps_its_order_and_new_nodes_follow_by_row() -> None:
    X, groups = embeddings(300)
    before = build_graph(X[:200], groups[:200])
    kept = np.append(np.arange(20, 200), np.full(100, NEW))
    updated = update_graph(before, X[20:], kept)
    np.testing.assert_array_equal(updated.rows[:180], before.rows[before.rows >= 20] - 20)
    np.testing.assert_array_equal(updated.rows[180:], np.arange(180, 280))


def test_an_update_that_changes_nothing_changes_nothing() -> None:
    X, groups = embeddings(100)
    before = build_graph(X, groups)
    updated = update_graph(before, X, np.arange(100))
    for name in ("node_of", "rows", "neighbors", "distances"):
        np.testing.assert_array_equal(getattr(updated, name), getattr(before, name))


def test_a_pool_that_outgrows_its_first_tasks_gets_all_its_neighbours() -> None:
    X, groups = embeddings(100)
    updated = update_graph(build_graph(X[:3], groups[:3]), X, np.append(np.arange(3), np.full(97, NEW)))
    assert updated.neighbors.shape == (100, 10)
    assert links(updated) == links(build_graph(X, groups))


def test_the_callers_arrays_stay_as_they_are() -> None:
    X, groups = embeddings(60)
    before = X.copy()
    graph = build_graph(X, groups)
    neighbors = graph.neighbors.copy()
    _ = graph.affinity
    update_graph(graph, X[1:], np.arange(1, 60))
    neighbors_outside(graph, X, X)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(graph.neighbors, neighbors)


# ── Searching in reach ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def any_pool_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXACT_UP_TO", 500)


def recall(graph: NeighborGraph, X: np.ndarray) -> float:
    true = plain_neighbors(X, graph.rows, graph.neighbors.shape[1])
    return float((graph.neighbors[:, :, None] == true[:, None]).any(axis=2).mean())


@pytest.mark.usefixtures("any_pool_is_large")
def test_a_large_pool_is_searched_in_reach_and_its_recall_is_as_measured() -> None:
    X, groups = embeddings(2000)
    graph = build_graph(X, groups)
    assert 0.95 <= graph.recall < 1
    assert recall(graph, X) == pytest.approx(graph.recall, abs=0.02)
    assert (graph.distances[:, 1:] >= graph.distances[:, :-1]).all()
    between = np.linalg.norm(X[graph.rows][:, None] - X[graph.rows][graph.neighbors], axis=2)
    np.testing.assert_allclose(graph.distances, between, rtol=1e-5)


@pytest.mark.usefixtures("any_pool_is_large")
def test_only_part_of_a_large_pool_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    X, groups = embeddings(2000)
    sizes = []
    sift = nearest.Shortlists.sift

    def counted(shortlists: object, which: np.ndarray, D: np.ndarray, *rest: object) -> None:
        sizes.append(D.size)
        sift(shortlists, which, D, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(nearest.Shortlists, "sift", counted)
    build_graph(X, groups)
    assert sum(sizes) - 2 * reach.N_QUERIES * 2000 < 0.3 * 2000**2


@pytest.mark.usefixtures("any_pool_is_large")
@pytest.mark.parametrize("n_wild", [0, 20])
def test_of_a_wide_pool_only_the_best_by_sketch_are_compared_in_full(
    n_wild: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, groups = embeddings(2000, n_features=200)
    X[:n_wild] *= 1e6
    groups[:n_wild] = 30
    n_in_full = []
    distances = nearest._distances

    def counted(nodes: object, queries: nearest.Vectors, of: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        n_in_full.append(len(of) if len(queries) == 1000 else 0)
        return distances(nodes, queries, of, candidates)  # type: ignore[arg-type]

    monkeypatch.setattr(nearest, "_distances", counted)
    graph = build_graph(X, groups)
    assert 0.95 <= graph.recall < 1
    assert recall(graph, X) == pytest.approx(graph.recall, abs=0.02)
    assert 10 * 2000 <= sum(n_in_full) <= 14 * 2000


@pytest.mark.usefixtures("any_pool_is_large")
@pytest.mark.parametrize("apart", [1e3, 1e5])
def test_groups_so_far_apart_that_sketches_are_rounded_off_lose_no_neighbours(apart: float) -> None:
    X, groups = embeddings(2000)
    X[:, 0] += np.float32(apart) * groups
    assert recall(build_graph(X, groups), X) > 0.95


@pytest.mark.usefixtures("any_pool_is_large")
def test_where_sketches_say_little_whole_vectors_are_shortlisted(monkeypatch: pytest.MonkeyPatch) -> None:
    """In no direction do the members of a group differ more than in another."""
    X, groups = make_blobs(2000, 120, centers=10, center_box=(-20, 20), random_state=0)
    tried = []
    sketches = reach._sketches

    def counted(nodes: nearest.Vectors, n_directions: int, random_state: int) -> object:
        tried.append(n_directions)
        return sketches(nodes, n_directions, random_state)

    monkeypatch.setattr(reach, "_sketches", counted)
    monkeypatch.setattr(reach, "WORTHWHILE_SHARE", 1)
    graph = build_graph(X.astype(np.float32), groups.astype(np.int32))
    assert tried == [reach.N_DIRECTIONS, 120]
    assert recall(graph, X) > 0.99


@pytest.mark.usefixtures("any_pool_is_large")
def test_a_large_pool_without_structure_is_searched_exactly() -> None:
    X = np.random.default_rng(0).standard_normal((1500, 30)).astype(np.float32)
    graph = build_graph(X, (np.arange(1500) % 20).astype(np.int32))
    assert graph.recall == 1.0
    np.testing.assert_array_equal(graph.neighbors, plain_neighbors(X, graph.rows, 10))


@pytest.mark.usefixtures("any_pool_is_large")
def test_a_recall_below_the_least_is_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    X, groups = embeddings(1500)
    monkeypatch.setattr(reach, "AIMED_RECALL", 0.4)
    graph = build_graph(X, groups)
    assert graph.recall == 1.0
    np.testing.assert_array_equal(graph.neighbors, plain_neighbors(X, graph.rows, 10))


@pytest.mark.usefixtures("any_pool_is_large")
def test_a_task_with_too_little_in_reach_still_has_k_neighbours() -> None:
    X, groups = embeddings(1000)
    X[:3] += 1000 * np.eye(3, X.shape[1], dtype=np.float32)
    groups[:3] = [100, 101, 102]
    graph = build_graph(X, groups)
    assert graph.recall < 1
    alone = graph.node_of[:3]
    np.testing.assert_array_equal(graph.neighbors[alone], plain_neighbors(X, graph.rows, 10)[alone])


@pytest.mark.usefixtures("any_pool_is_large")
@pytest.mark.parametrize("n_clusters", [1, 1000])
def test_a_clustering_that_says_nothing_costs_no_neighbour(n_clusters: int) -> None:
    X, _ = embeddings(1000)
    graph = build_graph(X, np.arange(1000, dtype=np.int32) % n_clusters)
    np.testing.assert_array_equal(graph.neighbors, plain_neighbors(X, graph.rows, 10))


@pytest.mark.usefixtures("any_pool_is_large")
def test_the_same_input_gives_the_same_graph_bit_for_bit() -> None:
    X, groups = embeddings(2000)
    one, two = (build_graph(X, groups, random_state=3) for _ in range(2))
    assert one.neighbors.tobytes() == two.neighbors.tobytes()
    assert one.distances.tobytes() == two.distances.tobytes()
    assert one.recall == two.recall
    assert one.affinity.data.tobytes() == two.affinity.data.tobytes()


# ── Outliers ─────────────────────────────────────────────────────────────────────────────────────────────


def clean_pools() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    spreads = rng.uniform(0.3, 2.5, 10)
    return {
        "digits": load_digits().data,
        "one Gaussian": rng.standard_normal((1000, 20)),
        "blobs in 2 dimensions": make_blobs(1500, 2, centers=10, random_state=0)[0],
        "blobs in 30 dimensions": make_blobs(1500, 30, centers=10, random_state=0)[0],
        "blobs of different spreads": make_blobs(1500, 10, centers=10, cluster_std=spreads, random_state=0)[0],
        "embeddings": embeddings(1500)[0],
    }


@pytest.mark.parametrize("name", clean_pools())
def test_clean_pools_have_next_to_no_outliers(name: str) -> None:
    X = clean_pools()[name].astype(np.float32)
    assert build_graph(X, one_cluster(X)).outliers().mean() < 0.02


@pytest.mark.parametrize("name", clean_pools())
def test_planted_outliers_are_found(name: str) -> None:
    X = clean_pools()[name]
    directions = np.random.default_rng(1).standard_normal((5, X.shape[1]))
    radius = np.linalg.norm(X - X.mean(axis=0), axis=1).max()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # At different distances, so that they are not each other's neighbours even in two dimensions.
    planted = X.mean(axis=0) + radius * np.geomspace(3, 50, 5)[:, None] * directions
    X = np.vstack([X, planted]).astype(np.float32)
    assert build_graph(X, one_cluster(X)).outliers()[-5:].all()


def test_a_far_task_that_comes_many_times_is_no_outlier_and_one_that_comes_twice_is() -> None:
    X, groups = embeddings(300)
    far = np.full((1, X.shape[1]), 1000, np.float32)
    for times, expected in ((1, True), (2, True), (10, False)):
        pool = np.vstack([X, np.repeat(far, times, axis=0)])
        outliers = build_graph(pool, np.append(groups, np.full(times, 99))).outliers()
        assert outliers[-times:].tolist() == [expected] * times


# ── Degenerate input ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("n_tasks", [1, 4])
def test_equal_tasks_are_one_node_without_neighbours(n_tasks: int) -> None:
    X = np.ones((n_tasks, 2), np.float32)
    graph = build_graph(X, one_cluster(X))
    assert graph.neighbors.shape == graph.distances.shape == (1, 0)
    assert graph.multiplicity.tolist() == [n_tasks]
    assert graph.scales.tolist() == [1]
    assert graph.affinity.toarray().tolist() == [[0]]
    assert not graph.outliers().any()
    neighbors, distances = neighbors_outside(graph, X, X)
    assert (neighbors.tolist(), distances.tolist()) == ([[0]] * n_tasks, [[0]] * n_tasks)


def test_a_pool_that_is_replaced_as_a_whole() -> None:
    X, groups = embeddings(50)
    graph = build_graph(X, groups)
    one = update_graph(graph, X[:1], np.array([NEW]))
    assert (one.rows.tolist(), one.neighbors.shape) == ([0], (1, 0))
    again = update_graph(one, X, np.full(50, NEW))
    assert links(again) == links(graph)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-10, 1e10, 5e14])
def test_very_small_and_very_large_numbers_end_in_no_nan(scale: float) -> None:
    X = embeddings(80)[0] * np.float32(scale)
    X[0] = 0
    graph = build_graph(X, one_cluster(X), n_neighbors=5)
    assert np.isfinite(graph.distances).all()
    assert np.isfinite(graph.affinity.data).all()
    assert (graph.affinity.sum(axis=1) > 0).all()


def test_an_outlier_keeps_its_edges_and_near_duplicates_keep_theirs() -> None:
    rng = np.random.default_rng(0)
    X = np.vstack([1e-6 * rng.standard_normal((30, 3)), rng.standard_normal((30, 3)), [[1e9, 0, 0]]])
    S = build_graph(X.astype(np.float32), np.zeros(61, np.int32)).affinity
    assert np.isfinite(S.data).all()
    assert (S.sum(axis=1) > 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_refused_with_its_row(bad: float) -> None:
    good, broken = np.float32([[0], [1], [2]]), np.float32([[0], [1], [bad]])
    graph = build_graph(good, one_cluster(good))
    for refused in (
        lambda: build_graph(broken, one_cluster(broken)),
        lambda: update_graph(graph, broken, np.arange(3)),
        lambda: neighbors_outside(graph, good, broken),
    ):
        with pytest.raises(InputError, match="row 2"):
            refused()


def test_numbers_whose_squares_leave_float32_are_refused() -> None:
    with pytest.raises(InputError, match=r"1e\+20"):
        build_graph(np.float32([[1], [-1e20]]), np.int32([0, 0]))


def test_clusters_of_another_number_of_tasks_are_refused() -> None:
    with pytest.raises(InputError, match=r"cluster_ids has the shape \(3,\)"):
        build_graph(np.ones((2, 2), np.float32), np.int32([0, 0, 0]))


@pytest.mark.parametrize("n_neighbors", [0, -1])
def test_no_neighbours_are_refused(n_neighbors: int) -> None:
    X = np.float32([[0], [1]])
    with pytest.raises(InputError, match=f"n_neighbors={n_neighbors}"):
        build_graph(X, one_cluster(X), n_neighbors=n_neighbors)
    with pytest.raises(InputError, match=f"n_neighbors={n_neighbors}"):
        neighbors_outside(build_graph(X, one_cluster(X)), X, X, n_neighbors=n_neighbors)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([0, 1], r"shape \(2,\)"),
        ([0, 1, 3], "0 to 3: expected rows below 3"),
        ([-2, 0, 1], "-2 to 1"),
        ([2, 2, NEW], "row 2 2 times"),
        ([0.0, 1.0, 2.0], "float64"),
    ],
)
def test_what_says_not_where_tasks_were_is_refused(kept: list[float], message: str) -> None:
    X = np.float32([[0], [1], [2]])
    with pytest.raises(InputError, match=message):
        update_graph(build_graph(X, one_cluster(X)), X, np.array(kept))


def test_tasks_of_other_features_are_refused() -> None:
    X = np.float32([[0, 0], [1, 1]])
    with pytest.raises(InputError, match="X_new has 3 features: expected 2"):
        neighbors_outside(build_graph(X, one_cluster(X)), X, np.ones((1, 3), np.float32))
