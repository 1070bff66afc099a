"""From answers to rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exemplar.engine import UNLABELED, Clustering, assign, cluster, default_n_clusters, representatives
from exemplar.project.learn import Learned, learn

# Four groups on a line, of 5, 4, 3 and 2 tasks.
X = np.float32([[v] for v in (0, 1, 2, 3, 4, 20, 21, 22, 23, 40, 41, 42, 60, 61)])
POOL = Clustering(np.float32([[2], [21.5], [41], [60.5]]), *assign(X, np.float32([[2], [21.5], [41], [60.5]])))
FIRST_OF_EACH = [2, 6, 10, 12]


def learned(answers: dict[int, int], skipped: tuple[int, ...] = (), **options: float) -> Learned:
    y = np.full(len(X), UNLABELED)
    y[list(answers)] = list(answers.values())
    is_skipped = np.isin(np.arange(len(X)), skipped)
    return learn(X, POOL, y, is_skipped, **{"n_classes": 3, "percent": 100, "batch_size": 6} | options)


def queue(found: Learned) -> list[int]:
    rows = np.flatnonzero(found.scores < 0)
    return rows[np.argsort(found.scores[rows])].tolist()


# ── Nothing known ────────────────────────────────────────────────────────────────────────────────────────


def test_before_anything_is_known_there_is_a_batch_to_ask_and_nothing_else() -> None:
    found = learned({})
    assert queue(found) == [*FIRST_OF_EACH, 1, 7]
    assert set(found.choices) == {UNLABELED}
    assert np.isnan(found.scores).sum() == len(X) - 6


@pytest.mark.parametrize("batch_size", [2, 4, 6, 14, 100])
def test_the_first_queue_is_as_long_as_the_batch(batch_size: int) -> None:
    assert len(queue(learned({}, batch_size=batch_size))) == min(batch_size, len(X))


def test_a_pool_of_one_task_is_asked() -> None:
    X = np.zeros((1, 2), np.float32)
    found = learn(
        X, cluster(X, n_clusters=5), np.array([-1]), np.array([False]), n_classes=2, percent=100, batch_size=50
    )
    assert (found.scores[0] < 0, found.choices[0], found.classifier) == (True, UNLABELED, None)


# ── Something known ──────────────────────────────────────────────────────────────────────────────────────


def test_one_class_is_propagated_and_no_classifier_is_made() -> None:
    found = learned({2: 1})
    assert found.classifier is None
    assert found.choices.tolist() == [1] * 5 + [UNLABELED] * 9
    assert queue(found)[:3] == FIRST_OF_EACH[1:]
    assert len(queue(found)) == 6


def test_two_classes_give_every_task_a_choice_and_a_score() -> None:
    found = learned({2: 0, 12: 2})
    assert not np.isnan(found.scores).any()
    assert found.choices.tolist()[:5] == [0] * 5
    assert found.choices.tolist()[-2:] == [2] * 2
    assert set(found.choices) == {0, 2}
    assert queue(found) == [6, 10]


def test_propagation_goes_before_the_classifier() -> None:
    found = learned({2: 0, 6: 1, 10: 0, 12: 1})
    assert found.choices.tolist() == [0] * 5 + [1] * 4 + [0] * 3 + [1] * 2


def test_an_answered_task_keeps_its_answer_and_scores_one() -> None:
    found = learned({0: 0, 4: 1, 6: 2}, percent=10)
    assert found.choices[[0, 4, 6]].tolist() == [0, 1, 2]
    assert found.scores[[0, 4, 6]].tolist() == [1, 1, 1]


def test_all_clusters_answered_leave_nothing_to_ask() -> None:
    found = learned(dict(zip(FIRST_OF_EACH, (0, 1, 2, 0), strict=True)))
    assert (found.scores >= 0).all()
    assert (found.scores[FIRST_OF_EACH] == 1).all()


def test_a_confidence_is_the_classifiers_word_on_the_choice() -> None:
    found = learned({2: 0, 6: 1, 12: 2})
    proba = found.classifier.predict_proba(X, n_classes=3)
    rows = [row for row in range(len(X)) if row not in (2, 6, 12, *queue(found))]
    np.testing.assert_allclose(found.scores[rows], proba[rows, found.choices[rows]], atol=1e-6)


# ── The queue stays ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("already", [{}, {2: 0, 6: 1}], ids=["before", "after the classifier"])
def test_an_answer_moves_no_score_of_the_clusters_that_stay_open(already: dict[int, int]) -> None:
    before, after = learned(already), learned(already | {10: 2})
    stay = [row for row in queue(before) if POOL.cluster_ids[row] != POOL.cluster_ids[10]]
    assert stay
    np.testing.assert_array_equal(after.scores[stay], before.scores[stay])


def test_after_a_skip_the_next_of_its_cluster_has_its_place() -> None:
    before, after = learned({2: 0, 12: 1}), learned({2: 0, 12: 1}, skipped=(6,))
    assert (queue(before), queue(after)) == ([6, 10], [7, 10])
    assert after.scores[7] == before.scores[6]


def test_the_queue_of_a_million_tasks_keeps_its_order_to_the_end() -> None:
    n = default_n_clusters(1_000_000)
    X = np.arange(n, dtype=np.float32)[:, None]
    pool = Clustering(X, np.arange(n, dtype=np.int32), np.zeros(n, np.float32))
    nobody = np.zeros(n, bool)
    found = learn(X, pool, np.full(n, UNLABELED), nobody, n_classes=2, percent=100, batch_size=n)
    expected = representatives(pool, askable=~nobody, settled=nobody)
    assert (np.diff(found.scores[expected]) > 0).all()


# ── Properties ───────────────────────────────────────────────────────────────────────────────────────────

states = st.lists(st.sampled_from(["open", "skip", 0, 1, 2]), min_size=len(X), max_size=len(X))


@settings(max_examples=60, deadline=None)
@given(states, st.floats(0.1, 100), st.integers(1, 20))
def test_rows_are_as_documented_whatever_was_said(said: list, percent: float, batch_size: int) -> None:
    answers = {row: what for row, what in enumerate(said) if isinstance(what, int)}
    skipped = tuple(row for row, what in enumerate(said) if what == "skip")
    found = learned(answers, skipped, percent=percent, batch_size=batch_size)
    assert (np.isnan(found.scores) | (np.abs(found.scores) <= 1)).all()
    assert (found.scores[[*answers]] == 1).all()
    assert found.choices[[*answers]].tolist() == list(answers.values())
    assert (found.scores[list(skipped)] >= 0).all()
    assert not set(POOL.cluster_ids[queue(found)]) & set(POOL.cluster_ids[[*answers]])
    assert (found.choices[np.isnan(found.scores)] == UNLABELED).all()
    assert (found.classifier is not None) == (len(set(answers.values())) > 1)


@settings(max_examples=30, deadline=None)
@given(states)
def test_same_answers_same_rows_bit_for_bit(said: list) -> None:
    answers = {row: what for row, what in enumerate(said) if isinstance(what, int)}
    one, two = learned(answers), learned(answers)
    assert one.scores.tobytes() == two.scores.tobytes()
    assert one.choices.tobytes() == two.choices.tobytes()
