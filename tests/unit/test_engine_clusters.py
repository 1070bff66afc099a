"""Clusters: by hand, as properties, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from exemplar.engine.clustering import assign, assignment, cluster, default_n_clusters, kmeans
from exemplar.errors import InputError

# Whole numbers: their distances are exact, so that a property fails for a reason and not for a rounding.
GRID = st.integers(-50, 50).map(float)
POOLS = st.tuples(st.integers(1, 30), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=GRID)
)


def nearest(X: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's nearest centre and its distance, the slow and plain way."""
    distances = cdist(X.astype(float), centers.astype(float))
    return distances.argmin(axis=1), distances.min(axis=1)


# ── By hand ──────────────────────────────────────────────────────────────────────────────────────────────


def test_two_pairs_are_two_clusters() -> None:
    found = cluster(np.float32([[0, 0], [0, 2], [10, 0], [10, 2]]), n_clusters=2)
    assert sorted(found.centers.tolist()) == [[0, 1], [10, 1]]
    assert found.cluster_ids[0] == found.cluster_ids[1] != found.cluster_ids[2] == found.cluster_ids[3]
    assert found.distances.tolist() == [1, 1, 1, 1]


def test_types_are_as_documented() -> None:
    found = cluster(np.array([[0.0], [1.0], [5.0]]), n_clusters=2)
    assert (found.centers.dtype, found.cluster_ids.dtype, found.distances.dtype) == ("float32", "int32", "float32")


@pytest.mark.parametrize(("n_tasks", "expected"), [(1, 1), (2, 2), (3, 2), (350, 25), (1400, 50), (5600, 100)])
def test_default_number_grows_with_the_root(n_tasks: int, expected: int) -> None:
    assert default_n_clusters(n_tasks) == expected


@given(st.integers(1, 10**7))
def test_default_number_is_possible_and_never_falls(n_tasks: int) -> None:
    assert 1 <= default_n_clusters(n_tasks) <= n_tasks
    assert default_n_clusters(n_tasks) <= default_n_clusters(n_tasks + 1)


# ── Properties ───────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=60, deadline=None)
@given(POOLS, st.integers(1, 40))
def test_each_task_belongs_to_its_nearest_centre(X: np.ndarray, n_clusters: int) -> None:
    found = cluster(X, n_clusters=n_clusters)
    _, distances = nearest(X, found.centers)
    np.testing.assert_allclose(found.distances, distances, atol=1e-3)
    np.testing.assert_allclose(
        found.distances, np.linalg.norm(X - found.centers[found.cluster_ids], axis=1), atol=1e-3
    )


@settings(max_examples=60, deadline=None)
@given(POOLS, st.integers(1, 40))
def test_there_are_as_many_clusters_as_asked_for_or_distinct_tasks(X: np.ndarray, n_clusters: int) -> None:
    assert len(cluster(X, n_clusters=n_clusters).centers) == min(n_clusters, len(np.unique(X, axis=0)))


@settings(max_examples=30, deadline=None)
@given(POOLS, st.integers(1, 10), st.integers(0, 1000))
def test_same_seed_same_clusters_bit_for_bit(X: np.ndarray, n_clusters: int, seed: int) -> None:
    one, two = (cluster(X, n_clusters=n_clusters, random_state=seed) for _ in range(2))
    assert one.centers.tobytes() == two.centers.tobytes()
    assert one.cluster_ids.tobytes() == two.cluster_ids.tobytes()
    assert one.distances.tobytes() == two.distances.tobytes()


def test_the_callers_array_stays_as_it_is() -> None:
    X = load_digits().data[:100].astype(np.float32)
    before = X.copy()
    cluster(X, n_clusters=5)
    np.testing.assert_array_equal(X, before)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(30)))
def test_separate_groups_are_found_in_any_order_of_the_tasks(order: list[int]) -> None:
    groups = np.arange(30) % 3
    X = np.float32(np.stack([1000 * groups, np.arange(30) // 3], axis=1))[order]
    found = cluster(X, n_clusters=3).cluster_ids
    same_cluster = found[:, None] == found[None]
    np.testing.assert_array_equal(same_cluster, groups[order][:, None] == groups[order][None])


@given(POOLS, st.randoms(use_true_random=False))
def test_assigning_does_not_depend_on_the_order_of_the_tasks(X: np.ndarray, random: object) -> None:
    order = np.array(random.sample(range(len(X)), len(X)))  # type: ignore[attr-defined]
    centers = np.unique(X, axis=0)[:4]
    ids, distances = assign(X, centers)
    ids_of_permuted, distances_of_permuted = assign(X[order], centers)
    np.testing.assert_array_equal(ids_of_permuted, ids[order])
    np.testing.assert_array_equal(distances_of_permuted, distances[order])


# ── scikit-learn as oracle ───────────────────────────────────────────────────────────────────────────────


def test_clusters_are_as_tight_as_those_of_scikit_learn() -> None:
    X = load_digits().data.astype(np.float32)
    ours = np.square(cluster(X, n_clusters=50).distances).sum()
    theirs = [KMeans(50, n_init=3, random_state=seed).fit(X).inertia_ for seed in range(1, 4)]
    assert ours <= 1.02 * np.mean(theirs)


def test_new_tasks_are_assigned_as_scikit_learn_predicts() -> None:
    X = load_digits().data.astype(np.float32)
    kmeans = KMeans(20, n_init=1, random_state=0).fit(X[:1000])
    ids, distances = assign(X[1000:], kmeans.cluster_centers_)
    np.testing.assert_array_equal(ids, kmeans.predict(X[1000:]))
    np.testing.assert_allclose(distances, kmeans.transform(X[1000:]).min(axis=1), rtol=1e-4)


def test_assigning_in_chunks_loses_no_row() -> None:
    X = np.random.default_rng(0).random((9000, 3), np.float32)
    ids, distances = assign(X, X[:7])
    expected_ids, expected_distances = nearest(X, X[:7])
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(distances, expected_distances, atol=1e-5)


def test_nearest_centre_is_found_far_from_the_origin_too() -> None:
    X = np.float32([[10_000], [10_001]])
    ids, distances = assign(X, X)
    assert (ids.tolist(), distances.tolist()) == ([0, 1], [0, 0])


# ── Nearest centres where float32 has few digits left ─────────────────────────────────────────────────────


@pytest.mark.parametrize("far", [1e3, 1e4, 1e5])
def test_near_centres_are_told_apart_in_groups_that_are_far_apart(far: float) -> None:
    centers = np.float32([[-far, 0], [-far, 1], [far, 0], [far, 1]])
    X = centers + np.float32([0, 0.25])
    ids, distances = assign(X, centers)
    assert (ids.tolist(), distances.tolist()) == ([0, 1, 2, 3], [0.25] * 4)


def test_a_task_on_its_centre_has_no_distance() -> None:
    X = np.random.default_rng(0).standard_normal((3000, 100), np.float32)
    ids, distances = assign(X, X[:50] * 1)
    assert ids[:50].tolist() == [*range(50)]
    assert not distances[:50].any()
    assert (distances[50:] > 5).all()


def test_distances_are_exact_to_float32_in_tight_and_in_loose_clusters() -> None:
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((40, 200))
    for radius in (1e-4, 1e-2, 0.1, 0.3, 1, 10):
        X = np.float32(np.repeat(centers, 5, axis=0) + radius * rng.standard_normal((200, 200)))
        ids, distances = assign(X, np.float32(centers))
        expected_ids, expected = nearest(X, np.float32(centers))
        np.testing.assert_array_equal(ids, expected_ids)
        np.testing.assert_allclose(distances, expected, rtol=2e-5)


# ── Large pools: k-means of our own ──────────────────────────────────────────────────────────────────────


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any pool is a large one, and its sample a small one."""
    monkeypatch.setattr(kmeans, "FULL_KMEANS_UP_TO", 0)
    monkeypatch.setattr(assignment, "CHUNK", 7)
    monkeypatch.setattr(kmeans, "SAMPLE_PER_CLUSTER", 4)
    monkeypatch.setattr(kmeans, "SEEDING_PER_CLUSTER", 2)
    monkeypatch.setattr(kmeans, "MIN_SAMPLE", 4)
    monkeypatch.setattr(kmeans, "MIN_SEEDING", 2)


SAME_FIXTURE = [HealthCheck.function_scoped_fixture]


@pytest.mark.usefixtures("large")
@settings(max_examples=60, deadline=None, suppress_health_check=SAME_FIXTURE)
@given(POOLS, st.integers(1, 40), st.integers(0, 1000))
def test_large_pools_are_cut_into_as_many_clusters_none_of_them_empty(
    X: np.ndarray, n_clusters: int, seed: int
) -> None:
    found = cluster(X, n_clusters=n_clusters, random_state=seed)
    expected = min(n_clusters, len(np.unique(X, axis=0)))
    assert len(found.centers) == expected == len(np.unique(found.cluster_ids))
    np.testing.assert_allclose(found.distances, nearest(X, found.centers)[1], atol=1e-3)


@pytest.mark.usefixtures("large")
@settings(max_examples=30, deadline=None, suppress_health_check=SAME_FIXTURE)
@given(POOLS, st.integers(1, 10), st.integers(0, 1000))
def test_large_pools_are_cut_the_same_way_each_time(X: np.ndarray, n_clusters: int, seed: int) -> None:
    one, two = (cluster(X, n_clusters=n_clusters, random_state=seed) for _ in range(2))
    assert one.centers.tobytes() == two.centers.tobytes()
    assert one.cluster_ids.tobytes() == two.cluster_ids.tobytes()
    assert one.distances.tobytes() == two.distances.tobytes()


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).standard_normal((kmeans.FULL_KMEANS_UP_TO + 1, 5), np.float32)
    found = []
    for n_threads in (1, 2, 3):
        monkeypatch.setattr(assignment, "N_THREADS", n_threads)
        found.append(cluster(X, n_clusters=20, random_state=3))
    assert len({one.centers.tobytes() for one in found}) == len({one.distances.tobytes() for one in found}) == 1


def test_large_pools_are_cut_as_tightly_as_scikit_learn_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "FULL_KMEANS_UP_TO", 0)
    X = load_digits().data.astype(np.float32)
    ours = [np.square(cluster(X, n_clusters=50, random_state=seed).distances).sum() for seed in range(3)]
    theirs = [KMeans(50, n_init=1, random_state=seed).fit(X).inertia_ for seed in range(3)]
    assert np.mean(ours) <= 1.02 * np.mean(theirs)


def test_groups_of_any_size_are_found_and_their_means_are_the_centres() -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([20_000, 3000, 500, 100, 50])
    groups = rng.permutation(np.repeat(np.arange(5), sizes))
    X = np.float32(1000 + 100 * np.eye(5)[groups] + rng.standard_normal((len(groups), 5)))
    found = cluster(X, n_clusters=5)
    assert sorted(np.bincount(found.cluster_ids)) == sorted(sizes)
    means = [X[found.cluster_ids == i].mean(axis=0, dtype=float) for i in range(5)]
    np.testing.assert_allclose(found.centers, means, rtol=1e-6)


def test_rare_tasks_among_copies_of_one_are_found_though_no_sample_holds_them() -> None:
    X = np.zeros((150_000, 2), np.float32)
    X[[5, 50_000, 149_999]] = [[1, 0], [0, 1], [5, 5]]
    found = cluster(X, n_clusters=10)
    centers = found.centers[np.argsort(found.centers @ [1, 2])]
    np.testing.assert_allclose(centers, [[0, 0], [1, 0], [0, 1], [5, 5]], atol=1e-6)
    assert found.distances.max() < 1e-6


def test_copies_of_one_task_are_one_cluster_in_a_large_pool_too() -> None:
    X = np.full((kmeans.FULL_KMEANS_UP_TO + 1, 3), 0.1, np.float32)
    X[::2, 0], X[1::2, 0] = 0.0, -0.0
    found = cluster(X, n_clusters=7)
    assert found.centers.tolist() == X[:1].tolist()
    assert not found.distances.any()


# ── Degenerate input ─────────────────────────────────────────────────────────────────────────────────────


def test_one_task_is_one_cluster() -> None:
    found = cluster(np.float32([[3, 4]]), n_clusters=50)
    assert (found.centers.tolist(), found.cluster_ids.tolist(), found.distances.tolist()) == ([[3, 4]], [0], [0])


def test_equal_tasks_are_one_cluster() -> None:
    found = cluster(np.ones((9, 2), np.float32), n_clusters=4)
    assert found.centers.tolist() == [[1, 1]]
    assert set(found.cluster_ids) == {0}


def test_more_clusters_than_tasks_gives_each_its_own() -> None:
    found = cluster(np.float32([[1], [2], [3]]), n_clusters=10)
    assert sorted(found.cluster_ids.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_refused_with_its_row(bad: float) -> None:
    with pytest.raises(InputError, match="row 2"):
        cluster(np.float32([[0, 0], [1, 1], [2, bad], [bad, 3]]), n_clusters=2)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (2, 2, 2), ()])
def test_what_is_no_matrix_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as refused:
        cluster(np.zeros(shape, np.float32), n_clusters=2)
    assert str(shape) in str(refused.value)


def test_fewer_than_one_cluster_are_refused() -> None:
    with pytest.raises(InputError, match="n_clusters is 0: expected at least 1"):
        cluster(np.ones((3, 1), np.float32), n_clusters=0)


@pytest.mark.parametrize(("n_tasks", "n_features", "n_centers"), [(1, 1, 1), (1, 50, 3), (3, 5000, 2), (9, 2, 1)])
def test_tasks_are_assigned_whatever_there_is_more_of(n_tasks: int, n_features: int, n_centers: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_tasks, n_features), np.float32)
    centers = rng.standard_normal((n_centers, n_features), np.float32)
    ids, distances = assign(X, centers)
    expected_ids, expected_distances = nearest(X, centers)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-5)
    assert (ids.dtype, distances.dtype) == ("int32", "float32")


def embeddings(n_tasks: int, n_features: int, seed: int = 0) -> np.ndarray:
    """Tasks that differ in 16 directions, and a little in all."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n_tasks, 16)) @ rng.standard_normal((16, n_features))
    return (latent + 0.1 * rng.standard_normal((n_tasks, n_features))).astype(np.float32)


@pytest.mark.parametrize("n_wild", [0, 10, 2000])
@pytest.mark.parametrize("offset", [0, 1000])
def test_bounds_lose_no_nearest_centre(n_wild: int, offset: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds tell little of wild centres and the tasks around them; of these the one that is tried is none."""
    monkeypatch.setattr(assignment, "LEAST_BOUNDED", 5000)
    monkeypatch.setattr(assignment, "N_TRIED", 1)
    monkeypatch.setattr(assignment, "N_DIRECTIONS", (24,))
    rng = np.random.default_rng(1)
    X = embeddings(6200, 130) + np.float32(offset)
    X, centers = X[:6000], X[6000:]
    centers[:100] += 10 * rng.standard_normal((100, 130), np.float32)
    X[2048 : 2048 + n_wild] = centers[np.arange(n_wild) % 100] + 12 * rng.standard_normal((n_wild, 130), np.float32)
    assert assignment.bounding_directions(centers, X) is not None
    ids, distances = assign(X, centers)
    true_ids, true_distances = nearest(X, centers)
    np.testing.assert_allclose(distances, true_distances, rtol=1e-4)
    assert (ids == true_ids).mean() > 0.999


def test_where_no_direction_says_more_than_another_there_are_no_bounds() -> None:
    X = np.random.default_rng(0).standard_normal((assignment.LEAST_BOUNDED, 130), np.float32)
    assert assignment.bounding_directions(X[:300], X) is None


def test_bounds_change_no_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "LEAST_BOUNDED", 5000)
    X = embeddings(12_000, 130)
    bounded = cluster(X, n_clusters=120)
    monkeypatch.setattr(assignment, "N_DIRECTIONS", (10**6,))
    product = cluster(X, n_clusters=120)
    assert (bounded.cluster_ids == product.cluster_ids).mean() > 0.99
    np.testing.assert_allclose(np.square(bounded.distances).sum(), np.square(product.distances).sum(), rtol=1e-3)


def test_no_task_is_assigned_to_nothing() -> None:
    ids, distances = assign(np.empty((0, 2), np.float32), np.ones((3, 2), np.float32))
    assert (ids.shape, ids.dtype, distances.shape, distances.dtype) == ((0,), "int32", (0,), "float32")


@pytest.mark.parametrize(("X", "centers"), [((4, 3), (2, 2)), ((4, 3), (0, 3)), ((3,), (2, 3)), ((4, 3), (3,))])
def test_tasks_and_centres_that_do_not_fit_are_refused(X: tuple[int, ...], centers: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as refused:
        assign(np.zeros(X, np.float32), np.zeros(centers, np.float32))
    assert str(X) in str(refused.value)
    assert str(centers) in str(refused.value)
