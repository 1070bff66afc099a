"""The classifier against scikit-learn, whose logistic regression it keeps as plain arrays."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from exemplar.engine import fit_classifier, neighbor_proba, survey
from exemplar.errors import InputError

DIGITS = load_digits()


def digits_of(classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.isin(DIGITS.target, classes)
    return DIGITS.data[chosen].astype(np.float32), DIGITS.target[chosen]


@pytest.mark.parametrize("classes", [[3, 8], [0, 4, 9], list(range(10))], ids=["two", "three", "ten"])
def test_probabilities_are_those_of_scikit_learn(classes: list[int]) -> None:
    X, y = digits_of(classes)
    ours = fit_classifier(X[::2], y[::2]).predict_proba(X[1::2], n_classes=10)
    scale = X[::2].std(axis=0).mean()
    with threadpool_limits(1):  # lbfgs stops elsewhere where sums are made in another order
        theirs = LogisticRegression(max_iter=1000).fit(X[::2] / scale, y[::2]).predict_proba(X[1::2] / scale)
    np.testing.assert_allclose(ours[:, classes], theirs, atol=1e-4)


def test_classes_never_seen_have_no_probability() -> None:
    X, y = digits_of([3, 8])
    proba = fit_classifier(X, y).predict_proba(X, n_classes=10)
    assert proba.shape == (len(X), 10)
    assert not np.delete(proba, [3, 8], axis=1).any()
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("factor", [1 / 16, 255.0])
def test_the_unit_of_the_features_does_not_matter(factor: float) -> None:
    X, y = digits_of([0, 4, 9])
    one = fit_classifier(X, y).predict_proba(X, n_classes=10)
    two = fit_classifier(X * np.float32(factor), y).predict_proba(X * np.float32(factor), n_classes=10)
    np.testing.assert_allclose(one, two, atol=5e-3)


def test_same_labels_same_classifier_bit_for_bit() -> None:
    one, two = (fit_classifier(*digits_of([0, 4, 9])) for _ in range(2))
    assert one.coef.tobytes() + one.intercept.tobytes() == two.coef.tobytes() + two.intercept.tobytes()


@pytest.mark.parametrize("n_seen", [2, 3])
def test_arrays_are_as_documented(n_seen: int) -> None:
    fitted = fit_classifier(*digits_of([1, 5, 7][:n_seen]))
    assert (fitted.coef.shape, fitted.intercept.shape) == ((n_seen, 64), (n_seen,))
    assert (fitted.coef.dtype, fitted.intercept.dtype, fitted.classes.dtype) == ("float32", "float32", "int32")
    assert fitted.classes.tolist() == [1, 5, 7][:n_seen]


# ── Degenerate input ─────────────────────────────────────────────────────────────────────────────────────


def test_one_class_or_none_makes_no_classifier() -> None:
    assert fit_classifier(np.float32([[0], [1]]), np.array([1, 1])) is None
    assert fit_classifier(np.empty((0, 1), np.float32), np.empty(0, int)) is None


def test_equal_tasks_of_two_classes_are_undecided() -> None:
    proba = fit_classifier(np.ones((4, 2), np.float32), np.array([0, 0, 1, 1])).predict_proba(
        np.ones((1, 2), np.float32), n_classes=2
    )
    np.testing.assert_allclose(proba, [[0.5, 0.5]], atol=1e-3)


def test_no_task_to_predict() -> None:
    fitted = fit_classifier(np.float32([[0], [1]]), np.array([0, 1]))
    assert fitted.predict_proba(np.empty((0, 1), np.float32), n_classes=2).shape == (0, 2)


def test_labels_that_do_not_fit_are_refused_with_both_lengths() -> None:
    with pytest.raises(InputError, match="3 rows and y 2"):
        fit_classifier(np.zeros((3, 1), np.float32), np.array([0, 1]))


@pytest.mark.parametrize("y", [[0, 1, 0], [0, 0, 0]], ids=["two classes", "one class"])
def test_a_nan_is_refused_with_its_row(y: list[int]) -> None:
    with pytest.raises(InputError, match="row 1"):
        fit_classifier(np.float32([[0], [np.nan], [1]]), np.array(y))


def test_a_temperature_takes_the_mean_of_what_was_there_before_the_sharpening() -> None:
    X = np.float32([[0], [1], [9], [10]])
    geometry = survey(X, n_clusters=2)
    soft = np.float32([[0.6, 0.4], [0.3, 0.7], [0, 0], [0, 1]])
    sharp = soft**4 / np.maximum((soft**4).sum(axis=1, keepdims=True), 1e-9)
    mean = neighbor_proba(geometry, soft, np.float32([[0.4], [9.4]]))
    found = neighbor_proba(geometry, sharp, np.float32([[0.4], [9.4]]), temperature=0.25)
    # Neighbours that know nothing take from the sum, not from the shares.
    np.testing.assert_allclose(found.sum(axis=1), mean.sum(axis=1), rtol=1e-5)
    expected = mean**4 / (mean**4).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found / found.sum(axis=1, keepdims=True), expected, rtol=1e-4, atol=1e-7)
