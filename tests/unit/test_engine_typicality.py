"""TypiClust: the most typical task of the biggest cluster without an answer comes first."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from exemplar.engine.clustering import cluster
from exemplar.engine.query import typicality, typiclust
from exemplar.errors import InputError

Array = np.ndarray[Any, Any]


@st.composite
def pools(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """Z with equal rows too, and who is labelled and askable: never both, and some neither."""
    n = draw(st.integers(1, 25))
    Z = draw(npst.arrays(np.float32, (n, draw(st.integers(1, 3))), elements=st.integers(-9, 9)))
    states = np.array(draw(st.lists(st.sampled_from(["open", "done", "skip"]), min_size=n, max_size=n)))
    return Z, states == "done", states == "open"


def mean_distances(points: Array, k: int) -> Array:
    """Each point's mean distance to its k nearest others, the slow and plain way."""
    distances = np.linalg.norm(points[:, None].astype(float) - points[None], axis=2)
    return np.sort(distances, axis=1)[:, 1 : k + 1].mean(axis=1)


# ── By hand ──────────────────────────────────────────────────────────────────────────────────────────────

# Three clusters of four, three and two tasks; in each, the task that is nearest to its mates is unique.
Z = np.float32([[100], [101], [103], [110], [0], [4], [5], [50], [51]])
NOBODY = np.zeros(9, bool)


def test_the_most_typical_of_each_the_biggest_first() -> None:
    # Sums of the distances to their mates: 14 12 12 26 (the lower row of equals), 9 5 6, 1 1.
    assert typiclust(Z, NOBODY, ~NOBODY, 3).tolist() == [1, 5, 7]


def test_a_cluster_with_an_answer_waits() -> None:
    labeled = NOBODY.copy()
    labeled[3] = True
    assert typiclust(Z, labeled, ~labeled, 2).tolist() == [5, 7]
    assert typiclust(Z, labeled, ~labeled, 3, n_clusters=3).tolist() == [5, 7, 1]


def test_after_a_skip_the_next_most_typical_stands_in() -> None:
    askable = ~NOBODY
    askable[[5, 7]] = False
    assert typiclust(Z, NOBODY, askable, 3).tolist() == [1, 6, 8]


def test_with_fewer_clusters_than_wanted_they_take_turns() -> None:
    assert typiclust(Z, NOBODY, ~NOBODY, 7, n_clusters=3).tolist() == [1, 5, 7, 2, 6, 8, 0]


def test_neighbours_that_are_skipped_make_typical_too() -> None:
    points = np.float32([[0], [1], [2], [3], [9], [9.5]])
    askable = np.array([0, 0, 1, 0, 1, 1], bool)
    assert typiclust(points, np.zeros(6, bool), askable, 1, n_clusters=1).tolist() == [2]


def test_nothing_to_choose() -> None:
    for chosen in (typiclust(Z, NOBODY, ~NOBODY, 0), typiclust(Z, ~NOBODY, NOBODY, 5)):
        assert (chosen.tolist(), chosen.dtype) == ([], np.intp)


def test_one_task_and_equal_tasks() -> None:
    assert typiclust(np.float32([[3]]), NOBODY[:1], ~NOBODY[:1], 5).tolist() == [0]
    equal = np.full((9, 2), 5.3, np.float32)
    assert sorted(typiclust(equal, NOBODY, ~NOBODY, 20).tolist()) == [*range(9)]


# ── Properties ───────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=30)
@given(pools(), st.integers(0, 30), st.none() | st.integers(1, 4))
def test_as_many_as_there_are_each_once_and_askable(pool: Any, n: int, n_clusters: int | None) -> None:
    points, labeled, askable = pool
    chosen = typiclust(points, labeled, askable, n, n_clusters=n_clusters)
    assert len(chosen) == len(set(chosen.tolist())) == min(n, askable.sum())
    assert askable[chosen].all()
    np.testing.assert_array_equal(typiclust(points, labeled, askable, n, n_clusters=n_clusters), chosen)


@settings(deadline=None, max_examples=30)
@given(pools(), st.integers(1, 4))
def test_always_of_the_biggest_cluster_with_the_fewest_answers(pool: Any, n_clusters: int) -> None:
    points, labeled, askable = pool
    cluster_ids = cluster(points, n_clusters=n_clusters).cluster_ids
    sizes = np.bincount(cluster_ids)
    labeled, askable = labeled.copy(), askable.copy()
    for row in typiclust(points, labeled, askable, 30, n_clusters=n_clusters):
        answers = np.bincount(cluster_ids[labeled], minlength=len(sizes))
        ranks = {(answers[c], -sizes[c]) for c in np.unique(cluster_ids[askable])}
        assert (answers[cluster_ids[row]], -sizes[cluster_ids[row]]) == min(ranks)
        labeled[row], askable[row] = True, False


@pytest.mark.parametrize("block", [4_000_000, 300])
def test_typicality_against_a_full_sort(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(typicality, "BLOCK", block)
    points = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    nobody = np.zeros(200, bool)
    chosen = typiclust(points, nobody, ~nobody, 200, n_clusters=1)
    np.testing.assert_array_equal(chosen, np.argsort(mean_distances(points, 20)))


def test_of_a_big_cluster_some_are_compared_and_all_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typicality, "N_CANDIDATES", 50)
    points = np.random.default_rng(1).normal(size=(300, 3)).astype(np.float32)
    nobody = np.zeros(300, bool)
    chosen = typiclust(points, nobody, ~nobody, 300, n_clusters=1)
    assert sorted(chosen.tolist()) == [*range(300)]
    far = mean_distances(points, 20)[chosen]
    assert (np.diff(far[:50]) >= -1e-6).all()
    assert far[0] < np.median(far)
    assert typiclust(points, nobody, ~nobody, 5, n_clusters=1).tolist() == chosen[:5].tolist()
    assert typiclust(points, nobody, ~nobody, 5, n_clusters=1, random_state=1).tolist() != chosen[:5].tolist()


# ── What cannot be ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Z": np.array([[np.nan]] * 9)}, "NaN"),
        ({"labeled": NOBODY[:4]}, r"^labeled is bool of the shape \(4,\)"),
        ({"askable": np.arange(9)}, r"^askable is int64"),
        ({"n": -1}, r"^n=-1: "),
        ({"n_clusters": 0}, r"^n_clusters=0: "),
    ],
)
def test_a_question_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        typiclust(**{"Z": Z, "labeled": NOBODY, "askable": ~NOBODY, "n": 2, **change})
