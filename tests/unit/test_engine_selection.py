"""The queue: which tasks to ask next."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exemplar.engine import Clustering, representatives


def clustering(cluster_ids: list[int], distances: list[float], n_clusters: int | None = None) -> Clustering:
    n_clusters = n_clusters or max(cluster_ids, default=-1) + 1
    return Clustering(np.zeros((n_clusters, 1), np.float32), np.int32(cluster_ids), np.float32(distances))


@st.composite
def pools(draw: st.DrawFn) -> tuple[Clustering, np.ndarray, np.ndarray]:
    """A clustering (empty clusters and equal distances too), and who is askable and settled: never both."""
    n_clusters = draw(st.integers(1, 6))
    tasks = draw(
        st.lists(
            st.tuples(st.integers(0, n_clusters - 1), st.integers(0, 4), st.sampled_from(["open", "done", "skip"])),
            min_size=1,
            max_size=30,
        )
    )
    cluster_ids, distances, states = map(list, zip(*tasks, strict=True))
    states = np.array(states)
    return clustering(cluster_ids, distances, n_clusters), states == "open", states == "done"


def biggest_first(pool: Clustering, rows: np.ndarray) -> bool:
    sizes = np.bincount(pool.cluster_ids)[pool.cluster_ids[rows]]
    return bool((np.diff(sizes) <= 0).all())


# ── By hand ──────────────────────────────────────────────────────────────────────────────────────────────

POOL = clustering([0, 0, 1, 1, 1, 2], [5, 4, 3, 1, 2, 0])
ALL = np.ones(6, bool)
NONE = np.zeros(6, bool)


def test_one_of_each_cluster_the_biggest_first() -> None:
    assert representatives(POOL, askable=ALL, settled=NONE).tolist() == [3, 1, 5]


def test_second_nearest_follow_in_the_same_order() -> None:
    assert representatives(POOL, askable=ALL, settled=NONE, n=5, one_each=False).tolist() == [3, 1, 5, 4, 0]


def test_a_cluster_with_an_answer_is_asked_no_more() -> None:
    settled = np.array([0, 0, 0, 0, 1, 0], bool)
    assert representatives(POOL, askable=~settled, settled=settled, one_each=False).tolist() == [1, 5, 0]


def test_after_a_skip_the_next_nearest_stands_in() -> None:
    askable = np.array([1, 1, 1, 0, 1, 1], bool)
    assert representatives(POOL, askable=askable, settled=NONE).tolist() == [4, 1, 5]


def test_of_equals_the_lower_row_comes_first() -> None:
    assert representatives(
        clustering([1, 0, 1, 0], [2, 2, 2, 2]), askable=ALL[:4], settled=NONE[:4], one_each=False
    ).tolist() == [1, 0, 3, 2]


def test_nothing_left_to_ask() -> None:
    assert representatives(POOL, askable=NONE, settled=ALL, n=10).tolist() == []
    assert representatives(POOL, askable=NONE, settled=NONE, n=10).tolist() == []


# ── Properties ───────────────────────────────────────────────────────────────────────────────────────────


@given(pools(), st.none() | st.integers(0, 40))
def test_entries_are_unique_and_askable_and_of_open_clusters(pool: tuple, n: int | None) -> None:
    found, askable, settled = pool
    queue = representatives(found, askable=askable, settled=settled, n=n)
    assert len(set(queue.tolist())) == len(queue)
    assert askable[queue].all()
    assert not np.isin(found.cluster_ids[queue], found.cluster_ids[settled]).any()


@given(pools())
def test_each_open_cluster_is_asked_once_by_default_biggest_first(pool: tuple) -> None:
    found, askable, settled = pool
    queue = representatives(found, askable=askable, settled=settled)
    is_open = set(found.cluster_ids[askable]) - set(found.cluster_ids[settled])
    assert sorted(found.cluster_ids[queue]) == sorted(is_open)
    assert biggest_first(found, queue)


@given(pools())
def test_the_nearest_askable_task_speaks_for_its_cluster(pool: tuple) -> None:
    found, askable, settled = pool
    for row in representatives(found, askable=askable, settled=settled):
        mates = askable & (found.cluster_ids == found.cluster_ids[row])
        assert found.distances[row] == found.distances[mates].min()


@given(pools(), st.integers(0, 40))
def test_n_cuts_one_and_the_same_order(pool: tuple, n: int) -> None:
    found, askable, settled = pool
    longest = representatives(found, askable=askable, settled=settled, one_each=False).tolist()
    first = representatives(found, askable=askable, settled=settled).tolist()
    assert first == longest[: len(first)]
    assert representatives(found, askable=askable, settled=settled, n=n, one_each=False).tolist() == longest[:n]
    assert representatives(found, askable=askable, settled=settled, n=n).tolist() == first[:n]


@given(pools())
def test_asked_for_all_it_gives_all_of_the_open_clusters(pool: tuple) -> None:
    found, askable, settled = pool
    queue = representatives(found, askable=askable, settled=settled, one_each=False)
    wanted = askable & ~np.isin(found.cluster_ids, found.cluster_ids[settled])
    assert sorted(queue.tolist()) == np.flatnonzero(wanted).tolist()


@given(pools(), st.randoms(use_true_random=False))
def test_the_order_of_the_tasks_decides_ties_only(pool: tuple, random: object) -> None:
    found, askable, settled = pool
    order = np.array(random.sample(range(len(askable)), len(askable)))  # type: ignore[attr-defined]
    permuted = Clustering(found.centers, found.cluster_ids[order], found.distances[order])
    one = representatives(found, askable=askable, settled=settled, one_each=False)
    two = order[representatives(permuted, askable=askable[order], settled=settled[order], one_each=False)]
    np.testing.assert_array_equal(found.cluster_ids[one], found.cluster_ids[two])
    np.testing.assert_array_equal(found.distances[one], found.distances[two])
