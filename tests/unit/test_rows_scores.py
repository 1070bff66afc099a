"""What the scores of rows mean, to Label Studio and to people."""

import doctest
import sqlite3

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exemplar.rows import scores as scores_module
from exemplar.rows.scores import (
    NOTHING_KNOWN,
    SAME,
    confidence_scores,
    draw_scores,
    is_asked,
    is_asked_soon,
    queue_scores,
)

MILLION = np.arange(1_000_000)


def on_a_tab(score: float) -> str:
    """As Label Studio's page writes it on a prediction's tab (annotation-button: 100 * score, two decimals)."""
    return f"{100 * score:.2f}%"


def test_the_examples_hold() -> None:
    found = doctest.testmod(scores_module)
    assert found.attempted >= 5
    assert found.failed == 0


def test_the_draw_comes_first_then_the_queue_then_the_confidences() -> None:
    scores = np.concatenate(
        [draw_scores(MILLION), queue_scores(MILLION), confidence_scores(np.array([0, 1e-6, 4e-5, 1e-4, 0.5, 1]))]
    )
    assert (np.diff(scores[: 2 * len(MILLION)]) > SAME).all(), "neighbours of a million are told apart"
    assert (np.diff(scores) >= 0).all()
    assert is_asked(scores).sum() == 2 * len(MILLION)


def test_all_that_are_asked_read_zero_and_none_is_negative() -> None:
    for score in [*draw_scores(MILLION[[0, -1]]), *queue_scores(MILLION[[0, -1]]), NOTHING_KNOWN]:
        assert score > 0
        assert on_a_tab(score) == "0.00%"
        assert f"{score:.3f}" == "0.000"  # the Data Manager's column


@given(st.floats(0, 1))
def test_a_confidence_is_no_place_in_the_queue_and_reads_as_it_is(confidence: float) -> None:
    score = float(confidence_scores(np.array([confidence]))[0])
    assert not is_asked(score)
    assert not is_asked_soon(score)
    assert 0 < score <= 1
    assert abs(score - confidence) <= NOTHING_KNOWN


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_confidences_may_have_either_precision(dtype: type[np.floating]) -> None:
    assert confidence_scores(np.array([0, 0.25, 1], dtype)).tolist() == [NOTHING_KNOWN, 0.25, 1]


def test_a_row_of_an_earlier_version_is_asked_and_no_row_is_not() -> None:
    assert is_asked(np.array([-2, -1, -1e-6, 0, np.nan, np.inf])).tolist() == [True] * 4 + [False] * 2


def test_soon_are_the_next_five_and_all_that_go_before_them() -> None:
    scores = [-1.0, *draw_scores(MILLION[[0, -1]]), *queue_scores(np.arange(7)), NOTHING_KNOWN, 0.5]
    assert [is_asked_soon(float(score)) for score in scores] == [True] * 8 + [False] * 4


def test_neighbours_survive_json_and_a_database() -> None:
    scores = queue_scores(MILLION[-1000:]).tolist()
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE prediction (id INTEGER PRIMARY KEY, score REAL)")
    rows = [(score,) for score in orjson.loads(orjson.dumps(scores))]
    database.executemany("INSERT INTO prediction (score) VALUES (?)", reversed(rows))
    found = [score for (score,) in database.execute("SELECT score FROM prediction ORDER BY score")]
    assert found == scores
