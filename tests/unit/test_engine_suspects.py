"""Answers that look wrong."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exemplar.engine.evidence import conflicts, suspects, suspicion
from exemplar.errors import InputError


def kernel(points: list[float] | np.ndarray) -> np.ndarray:
    x = np.asarray(points, np.float64)
    return np.exp(-((x[:, None] - x) ** 2)).astype(np.float32)


def votes(y: list[int] | np.ndarray, n_classes: int = 2) -> np.ndarray:
    return np.eye(n_classes, dtype=np.float32)[y]


@st.composite
def labeled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    pairs = draw(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=15))
    return kernel([x / 2 for x, _ in pairs]), votes([c for _, c in pairs], 3)


# ── One answer against the others ────────────────────────────────────────────────────────────────────────

LINE = kernel([0, 0.1, 0.2, 5, 5.1, 5.2])


def test_the_odd_one_out_is_found_with_those_who_contradict_it() -> None:
    found = suspects(LINE, votes([0, 1, 0, 1, 1, 1]), n_witnesses=1)[0]
    assert (found.label, found.suggestion, found.witnesses.tolist()) == (1, 0, [0])
    assert found.score == suspicion(LINE, votes([0, 1, 0, 1, 1, 1]))[1] > 0


def test_those_of_which_others_are_less_sure_can_be_left_out() -> None:
    Y = votes([0, 1, 0, 1, 1, 0])
    found = suspects(LINE, Y)
    assert [s.share for s in found] == pytest.approx([1 / (1 + np.exp(-s.score)) for s in found])
    assert all(0.5 < s.share < 1 for s in found)
    least = found[0].share - 1e-9
    assert [s.label for s in suspects(LINE, Y, least_share=least)] == [s.label for s in found if s.share >= least]
    assert suspects(LINE, Y, least_share=1.0) == []


def test_an_answer_that_nobody_else_gave_can_be_left_out() -> None:
    Y = votes([0, 1, 0, 2, 2, 2], 3)
    assert [s.label for s in suspects(LINE, Y)] == [1, 0, 2]
    assert [s.label for s in suspects(LINE, Y, least_fellows=1)] == [0, 2]
    assert suspects(LINE, Y, least_fellows=2) == []


def test_where_all_agree_nobody_is_suspicious() -> None:
    assert suspects(LINE, votes([0, 0, 0, 1, 1, 1])) == []
    assert (suspicion(LINE, votes([0, 0, 0, 1, 1, 1])) < 0).all()


def test_by_hand() -> None:
    G = np.float32([[9, 3, 1], [3, 9, 2], [1, 2, 9]])
    # Others say (3, 1), (3, 2), (3, 0) of the three; their median mass is 4, so each class gets 2 more.
    expected = np.log([(1 + 2) / (3 + 2), (2 + 2) / (3 + 2), (3 + 2) / (0 + 2)])
    np.testing.assert_allclose(suspicion(G, votes([0, 0, 1])), expected, rtol=1e-6)


def test_what_others_know_nothing_of_is_not_suspicious() -> None:
    G = np.eye(3, dtype=np.float32)
    assert suspicion(G, votes([0, 1, 0])).tolist() == [0, 0, 0]
    assert suspects(G, votes([0, 1, 0])) == []
    # A whisper from another class, next to those who really contradict each other.
    scores = suspicion(kernel([0, 0.1, 4]), votes([0, 1, 0]))
    assert scores[2] < 0.01 < scores[0]


def test_shared_votes_have_the_class_with_most() -> None:
    Y = np.float32([[0.6, 0.4], [1, 0], [0, 1]])
    assert suspicion(kernel([0, 0, 0]), Y).argmax() == 2


@given(labeled(), st.integers(0, 4))
def test_suspects_are_those_above_zero_worst_first_and_contradicted(pool: tuple, n: int) -> None:
    G, Y = pool
    scores, found = suspicion(G, Y), suspects(G, Y, n_witnesses=n)
    assert sorted(s.label for s in found) == np.flatnonzero(scores > 0).tolist()
    assert all(a.score >= b.score for a, b in pairwise(found))
    for s in found:
        assert s.suggestion != Y[s.label].argmax()
        assert len(s.witnesses) <= n
        assert (Y[s.witnesses].argmax(axis=1) != Y[s.label].argmax()).all()
        assert (np.diff(G[s.label, s.witnesses]) <= 0).all()


@given(labeled(), st.randoms(use_true_random=False))
def test_order_and_scale_do_not_matter(pool: tuple, random: object) -> None:
    G, Y = pool
    order = np.array(random.sample(range(len(Y)), len(Y)))  # type: ignore[attr-defined]
    scores = suspicion(G, Y)
    np.testing.assert_allclose(suspicion(G[np.ix_(order, order)], Y[order]), scores[order], atol=1e-4)
    np.testing.assert_allclose(suspicion(1024 * G, Y), scores, atol=1e-4)


@pytest.mark.parametrize("share", [0.05, 0.1])
def test_random_wrong_answers_are_among_the_worst_fifth(share: float) -> None:
    rng = np.random.default_rng(3)
    y = np.repeat([0, 1, 2], 60)
    x = 5.0 * y + rng.normal(0, 0.7, 180)
    wrong = rng.random(180) < share
    said = np.where(wrong, (y + rng.integers(1, 3, 180)) % 3, y)
    worst = np.argsort(-suspicion(kernel(x), votes(said, 3)))[:36]
    assert wrong[worst].sum() >= 0.93 * wrong.sum()


def test_one_answer_one_class_or_none() -> None:
    assert suspicion(np.ones((1, 1), np.float32), votes([1])).tolist() == [0]
    assert suspicion(np.ones((3, 3), np.float32), np.ones((3, 1), np.float32)).tolist() == [0, 0, 0]
    assert suspects(np.zeros((0, 0), np.float32), np.zeros((0, 3), np.float32)) == []


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="one row for each"):
        suspects(LINE, votes([0]))
    with pytest.raises(InputError, match="n_witnesses is -1"):
        suspects(LINE, votes([0] * 6), n_witnesses=-1)


# ── A cluster against itself ─────────────────────────────────────────────────────────────────────────────


def test_clusters_with_different_answers_the_most_torn_first() -> None:
    cluster_ids = np.array([7, 7, 3, 3, 3, 3, 3, 5, 5, 9])
    y = np.array([0, 1, 0, 0, 1, 2, -1, 1, 1, 0])
    found = conflicts(cluster_ids, y)
    assert [c.cluster_id for c in found] == [3, 7]
    assert found[0].rows.tolist() == [2, 3, 4, 5]
    assert found[0].counts.tolist() == [2, 1, 1]
    assert [c.n_minority for c in found] == [2, 1]


def test_of_as_many_off_the_majority_the_smaller_cluster_is_worse() -> None:
    assert [c.cluster_id for c in conflicts(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 1]))] == [1, 0]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 2)), max_size=40))
def test_conflicts_are_exactly_the_mixed_clusters(tasks: list[tuple[int, int]]) -> None:
    said: dict[int, set[int]] = {}
    for cluster_id, answer in tasks:
        if answer != -1:
            said.setdefault(cluster_id, set()).add(answer)
    found = conflicts(np.array([c for c, _ in tasks], np.int32), np.array([a for _, a in tasks], int))
    assert {c.cluster_id for c in found} == {cluster_id for cluster_id, answers in said.items() if len(answers) > 1}
    assert all(len(c.rows) == c.counts.sum() for c in found)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="shapes"):
        conflicts(np.array([0, 1]), np.array([0]))
