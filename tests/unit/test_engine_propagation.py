"""From a few answers to many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exemplar.engine import (
    PROPAGATIONS,
    UNLABELED,
    Clustering,
    Geometry,
    closest,
    cluster_shares,
    node_shares,
    propagate,
    survey,
)
from exemplar.errors import InputError

N_CLASSES = 3


def shares_of(y: np.ndarray, n_classes: int) -> np.ndarray:
    shares = np.zeros((len(y), n_classes), np.float32)
    shares[y != UNLABELED, y[y != UNLABELED]] = 1
    return shares


def spread(pool: Clustering, y: np.ndarray, *, n_classes: int, percent: float = 100) -> np.ndarray:
    return cluster_shares(pool, shares_of(y, n_classes), percent=percent)


def clustering(cluster_ids: list[int], distances: list[float], n_clusters: int | None = None) -> Clustering:
    n_clusters = n_clusters or max(cluster_ids, default=-1) + 1
    return Clustering(np.zeros((n_clusters, 1), np.float32), np.int32(cluster_ids), np.float32(distances))


@st.composite
def answered_pools(draw: st.DrawFn) -> tuple[Clustering, np.ndarray]:
    tasks = draw(
        st.lists(
            st.tuples(st.integers(0, 4), st.floats(0, 9, width=32), st.integers(UNLABELED, N_CLASSES - 1)),
            min_size=1,
            max_size=30,
        )
    )
    cluster_ids, distances, y = map(list, zip(*tasks, strict=True))
    return clustering(cluster_ids, distances, 5), np.array(y)


percents = st.floats(0.01, 100)

# ── By hand ──────────────────────────────────────────────────────────────────────────────────────────────

POOL = clustering([0, 0, 0, 0, 1], [0, 1, 2, 3, 0])


def test_an_answer_reaches_its_whole_cluster_and_no_other() -> None:
    found = spread(POOL, np.array([-1, -1, -1, 1, -1]), n_classes=2)
    assert found.tolist() == [[0, 1]] * 4 + [[0, 0]]


def test_answers_that_differ_share_the_rest_of_the_cluster() -> None:
    found = spread(POOL, np.array([0, 0, 1, -1, -1]), n_classes=2)
    np.testing.assert_allclose(found, [[1, 0], [1, 0], [0, 1], [2 / 3, 1 / 3], [0, 0]], rtol=1e-6)


def test_only_the_closest_part_gets_the_label() -> None:
    found = spread(POOL, np.array([1, -1, -1, -1, -1]), n_classes=2, percent=50)
    assert found[:, 1].tolist() == [1, 1, 0, 0, 0]


def test_an_answer_far_out_counts_all_the_same() -> None:
    found = spread(POOL, np.array([-1, -1, -1, 1, -1]), n_classes=2, percent=50)
    assert found[:, 1].tolist() == [1, 1, 0, 1, 0]


def test_without_answers_nothing_is_known() -> None:
    assert not spread(POOL, np.full(5, UNLABELED), n_classes=2).any()


# ── Properties ───────────────────────────────────────────────────────────────────────────────────────────


@given(answered_pools(), percents)
def test_distributions_sum_to_one_or_are_zero(pool: tuple, percent: float) -> None:
    sums = spread(*pool, n_classes=N_CLASSES, percent=percent).sum(axis=1)
    assert (np.isclose(sums, 1, atol=1e-6) | (sums == 0)).all()


@given(answered_pools(), percents)
def test_an_answered_task_keeps_its_own_answer(pool: tuple, percent: float) -> None:
    _, y = pool
    found = spread(*pool, n_classes=N_CLASSES, percent=percent)
    answered = y != UNLABELED
    np.testing.assert_array_equal(found[answered], np.eye(N_CLASSES)[y[answered]])


@given(answered_pools())
def test_all_of_a_cluster_with_an_answer_is_reached_and_nobody_else(pool: tuple) -> None:
    found, y = pool
    reached = spread(found, y, n_classes=N_CLASSES).any(axis=1)
    np.testing.assert_array_equal(reached, np.isin(found.cluster_ids, found.cluster_ids[y != UNLABELED]))


@given(answered_pools(), percents, percents)
def test_a_higher_percentage_reaches_at_least_the_same_tasks(pool: tuple, one: float, two: float) -> None:
    found, _ = pool
    assert (closest(found, max(one, two)) >= closest(found, min(one, two))).all()


@given(answered_pools(), percents)
def test_each_clusters_closest_task_is_always_among_the_closest(pool: tuple, percent: float) -> None:
    found, _ = pool
    near = closest(found, percent)
    for cluster_id in set(found.cluster_ids):
        members = np.flatnonzero(found.cluster_ids == cluster_id)
        assert near[members[found.distances[members].argmin()]]


@given(answered_pools(), percents, st.randoms(use_true_random=False))
def test_the_order_of_the_tasks_does_not_matter(pool: tuple, percent: float, random: object) -> None:
    found, y = pool
    order = np.array(random.sample(range(len(y)), len(y)))  # type: ignore[attr-defined]
    permuted = Clustering(found.centers, found.cluster_ids[order], found.distances[order])
    np.testing.assert_array_equal(
        spread(permuted, y[order], n_classes=N_CLASSES, percent=percent),
        spread(found, y, n_classes=N_CLASSES, percent=percent)[order],
    )


@given(answered_pools(), st.permutations(range(N_CLASSES)))
def test_renaming_the_classes_renames_the_columns(pool: tuple, names: list[int]) -> None:
    found, y = pool
    renamed = np.where(y == UNLABELED, UNLABELED, np.array(names)[y])
    np.testing.assert_array_equal(
        spread(found, renamed, n_classes=N_CLASSES)[:, names], spread(found, y, n_classes=N_CLASSES)
    )


# ── Degenerate input ─────────────────────────────────────────────────────────────────────────────────────


def test_one_task() -> None:
    assert spread(clustering([0], [0]), np.array([0]), n_classes=1).tolist() == [[1]]


# ── Over the whole pool, by every method ──────────────────────────────────────────────────────────────────

GROUPS = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32) + np.repeat([[0], [9], [18]], 20, axis=0)
TRUTH = np.repeat([0, 1, 2], 20)


def answered(rows: list[int], y: np.ndarray = TRUTH) -> np.ndarray:
    said = np.full(len(y), UNLABELED)
    said[rows] = y[rows]
    return shares_of(said, N_CLASSES)


@pytest.fixture(scope="module")
def groups() -> Geometry:
    return survey(GROUPS, n_clusters=3)


@pytest.mark.parametrize("method", PROPAGATIONS)
def test_three_groups_take_the_answers_of_their_members(method: str, groups: Geometry) -> None:
    scores = propagate(groups, answered([0, 1, 25, 26, 50, 51]), method=method)
    assert (scores.argmax(axis=1) == TRUTH).mean() > 0.95
    assert (scores.dtype, scores.shape) == (np.float32, (60, N_CLASSES))


@pytest.mark.parametrize("method", PROPAGATIONS)
def test_one_class_spreads_nothing_else(method: str, groups: Geometry) -> None:
    scores = propagate(groups, answered([3]), method=method)
    assert scores[:, 0].any()
    assert not scores[:, 1:].any()


@pytest.mark.parametrize("method", PROPAGATIONS)
def test_without_answers_no_method_knows_anything(method: str, groups: Geometry) -> None:
    assert not propagate(groups, np.zeros((60, 2), np.float32), method=method).any()


@pytest.mark.parametrize("method", PROPAGATIONS)
def test_one_task_knows_itself(method: str) -> None:
    assert propagate(survey(np.ones((1, 2))), np.float32([[0, 1]]), method=method).argmax() == 1


@pytest.mark.parametrize("method", PROPAGATIONS)
def test_a_pool_of_equal_tasks_is_of_one_class(method: str) -> None:
    shares = np.zeros((5, 2), np.float32)
    shares[2, 1] = 1
    assert propagate(survey(np.ones((5, 3))), shares, method=method).argmax(axis=1).tolist() == [1] * 5


def test_duplicates_share_their_answers() -> None:
    pool = survey(np.float32([[0], [0], [0], [5], [6], [7]]), n_clusters=2)
    by_node = node_shares(pool, np.float32([[1, 0], [0, 1], [0, 0], [0, 1], [0, 0], [0, 0]]))
    np.testing.assert_allclose(by_node[pool.graph.node_of[2]], [0.5, 0.5])
    scores = propagate(pool, np.float32([[1, 0], [1, 0], [0, 0], [0, 1], [0, 0], [0, 0]]))
    assert scores[2].argmax() == 0


def test_where_the_graph_leads_to_no_answer_the_nearest_has_the_word() -> None:
    X = np.concatenate([np.arange(20.0), 1000 + np.arange(20.0)])[:, None].astype(np.float32)
    shares = np.zeros((40, 2), np.float32)
    shares[5, 1] = 1
    scores = propagate(survey(X, n_clusters=2), shares)
    assert (scores.argmax(axis=1) == 1).all()
    assert scores[20:, 1].max() < scores[:20, 1].min()


# ── Refused ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "shares", [np.zeros((59, 2)), np.zeros(60), np.zeros((60, 0))], ids=["short", "1-d", "no class"]
)
def test_shares_that_do_not_fit_the_pool_are_refused(shares: np.ndarray, groups: Geometry) -> None:
    with pytest.raises(InputError, match=r"shape .*expected \(60, n_classes\)"):
        propagate(groups, shares)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.5])
def test_shares_that_are_none_are_refused(wrong: float, groups: Geometry) -> None:
    with pytest.raises(InputError, match="expected finite shares"):
        propagate(groups, np.full((60, 2), wrong))


def test_an_unknown_method_is_named(groups: Geometry) -> None:
    with pytest.raises(InputError, match=r"magic.*graph, gaussian"):
        propagate(groups, np.zeros((60, 2)), method="magic")
