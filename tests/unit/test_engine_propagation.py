"""From a few answers to many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exemplar.engine import UNLABELED, Clustering, closest, propagate
from exemplar.errors import InputError

N_CLASSES = 3


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
    spread = propagate(POOL, np.array([-1, -1, -1, 1, -1]), n_classes=2)
    assert spread.tolist() == [[0, 1]] * 4 + [[0, 0]]


def test_answers_that_differ_share_the_rest_of_the_cluster() -> None:
    spread = propagate(POOL, np.array([0, 0, 1, -1, -1]), n_classes=2)
    np.testing.assert_allclose(spread, [[1, 0], [1, 0], [0, 1], [2 / 3, 1 / 3], [0, 0]], rtol=1e-6)


def test_only_the_closest_part_gets_the_label() -> None:
    spread = propagate(POOL, np.array([1, -1, -1, -1, -1]), n_classes=2, percent=50)
    assert spread[:, 1].tolist() == [1, 1, 0, 0, 0]


def test_an_answer_far_out_counts_all_the_same() -> None:
    spread = propagate(POOL, np.array([-1, -1, -1, 1, -1]), n_classes=2, percent=50)
    assert spread[:, 1].tolist() == [1, 1, 0, 1, 0]


def test_without_answers_nothing_is_known() -> None:
    assert not propagate(POOL, np.full(5, UNLABELED), n_classes=2).any()


# ── Properties ───────────────────────────────────────────────────────────────────────────────────────────


@given(answered_pools(), percents)
def test_distributions_sum_to_one_or_are_zero(pool: tuple, percent: float) -> None:
    sums = propagate(*pool, n_classes=N_CLASSES, percent=percent).sum(axis=1)
    assert (np.isclose(sums, 1, atol=1e-6) | (sums == 0)).all()


@given(answered_pools(), percents)
def test_an_answered_task_keeps_its_own_answer(pool: tuple, percent: float) -> None:
    _, y = pool
    spread = propagate(*pool, n_classes=N_CLASSES, percent=percent)
    answered = y != UNLABELED
    np.testing.assert_array_equal(spread[answered], np.eye(N_CLASSES)[y[answered]])


@given(answered_pools())
def test_all_of_a_cluster_with_an_answer_is_reached_and_nobody_else(pool: tuple) -> None:
    found, y = pool
    reached = propagate(found, y, n_classes=N_CLASSES).any(axis=1)
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
        propagate(permuted, y[order], n_classes=N_CLASSES, percent=percent),
        propagate(found, y, n_classes=N_CLASSES, percent=percent)[order],
    )


@given(answered_pools(), st.permutations(range(N_CLASSES)))
def test_renaming_the_classes_renames_the_columns(pool: tuple, names: list[int]) -> None:
    found, y = pool
    renamed = np.where(y == UNLABELED, UNLABELED, np.array(names)[y])
    np.testing.assert_array_equal(
        propagate(found, renamed, n_classes=N_CLASSES)[:, names], propagate(found, y, n_classes=N_CLASSES)
    )


# ── Degenerate input ─────────────────────────────────────────────────────────────────────────────────────


def test_one_task() -> None:
    assert propagate(clustering([0], [0]), np.array([0]), n_classes=1).tolist() == [[1]]


@pytest.mark.parametrize("y", [[0], [0] * 6, [[0] * 5]], ids=["short", "long", "2-d"])
def test_answers_that_do_not_fit_the_pool_are_refused(y: list[int]) -> None:
    with pytest.raises(InputError, match=r"shape .*expected \(5,\)"):
        propagate(POOL, np.array(y), n_classes=2)


@pytest.mark.parametrize("wrong", [2, -2])
def test_a_class_outside_the_classes_is_refused(wrong: int) -> None:
    with pytest.raises(InputError, match=str(wrong)):
        propagate(POOL, np.array([0, -1, wrong, -1, -1]), n_classes=2)
