"""Inference: the classes weighed, and what is said of each answered task without its own answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from exemplar.engine import Geometry, infer, propagate, survey
from exemplar.engine.propagation.inference import class_weights
from exemplar.engine.propagation.methods import resolved
from exemplar.errors import InputError

RNG = np.random.default_rng(0)
TRUTH = np.repeat([0, 1, 2], 40)
POOL = survey(RNG.normal(size=(120, 3)).astype(np.float32) + 2 * TRUTH[:, None], n_clusters=3)
ASKED = RNG.choice(120, 12, replace=False)


def shares_of(rows: NDArray[np.intp], *, n_classes: int) -> NDArray[np.float32]:
    shares = np.zeros((120, n_classes), np.float32)
    shares[rows, np.minimum(TRUTH[rows], n_classes - 1)] = 1
    return shares


def test_without_its_own_answer_is_as_if_it_had_never_been_given() -> None:
    found = infer(POOL, shares_of(ASKED, n_classes=3), method="graph")
    for j, node in enumerate(found.columns.nodes.tolist()):
        row = POOL.graph.rows[node]
        without = infer(POOL, shares_of(ASKED[row != ASKED], n_classes=3), method="graph").scores[row]
        np.testing.assert_allclose(found.left_out[j], without, rtol=2e-2, atol=2e-4)


def test_a_regression_without_an_answer_is_as_if_it_had_never_been_given() -> None:
    found = infer(POOL, shares_of(ASKED, n_classes=2))
    agree = 0
    for j, node in enumerate(found.columns.nodes.tolist()):
        row = POOL.graph.rows[node]
        without = infer(POOL, shares_of(ASKED[row != ASKED], n_classes=2)).scores[row]
        # The noise is in units of the labelled nodes' mean diagonal, which one answer less moves a little.
        np.testing.assert_allclose(found.left_out[j], without, rtol=0.1, atol=0.01)
        agree += found.left_out[j].argmax() == without.argmax()
    assert agree == len(found.left_out)


@pytest.mark.parametrize(("n_classes", "method"), [(2, "gaussian-process"), (3, "graph"), (77, "graph")])
def test_two_classes_are_a_regression(n_classes: int, method: str) -> None:
    assert resolved("auto", n_classes) == method


def test_columns_of_before_change_nothing() -> None:
    shares = shares_of(ASKED, n_classes=3)
    before = infer(POOL, shares_of(ASKED[:9], n_classes=3)).columns
    anew, again = infer(POOL, shares), infer(POOL, shares, columns=before)
    np.testing.assert_array_equal(anew.distributions, again.distributions)
    np.testing.assert_array_equal(anew.left_out, again.left_out)


def crowded() -> tuple[Geometry, NDArray[np.float32]]:
    """Two groups with a task half-way; one group has four answers, the other one."""
    X = np.float32([[0], [0.1], [0.2], [0.3], [5], [9.7], [9.8], [9.9], [10]])
    shares = np.zeros((9, 3), np.float32)
    shares[:4, 0] = shares[8, 1] = 1
    return survey(X, n_clusters=2), shares


def test_a_class_with_many_answers_does_not_outvote_its_neighbour() -> None:
    geometry, shares = crowded()
    plain, weighed = propagate(geometry, shares, method="graph"), infer(geometry, shares, method="graph").scores
    assert weighed[4, 1] / weighed[4, 0] > 1.5 * plain[4, 1] / plain[4, 0]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_weights_fall_with_the_number_of_answers(counts: list[int]) -> None:
    n_answers = np.array(counts)
    weights = class_weights(n_answers)
    assert ((weights > 0) == (n_answers > 0)).all()
    assert (weights <= 2).all()
    order = np.argsort(n_answers[n_answers > 0], kind="stable")
    assert (np.diff(weights[n_answers > 0][order]) <= 0).all()
    # Whose answers are fewer never has more of the vote than whose are more.
    assert (np.diff((n_answers * weights)[n_answers > 0][order]) >= -1e-3).all()


def test_classes_with_as_many_answers_weigh_the_same() -> None:
    np.testing.assert_array_equal(class_weights(np.array([[3, 3], [1, 1]])), 1)


@pytest.mark.parametrize("shares", [np.zeros((3, 2)), np.zeros(120), np.full((120, 2), np.nan), -np.ones((120, 2))])
def test_shares_that_do_not_fit_are_a_clear_error(shares: NDArray[np.float64]) -> None:
    with pytest.raises(InputError, match="shares h"):
        infer(POOL, shares.astype(np.float32))
