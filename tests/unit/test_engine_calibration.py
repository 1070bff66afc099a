"""Confidence that means what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from exemplar.engine import calibrated, fit_temperature, reliability, typical_mass
from exemplar.engine.propagation.calibration import USUAL_TEMPERATURE
from exemplar.errors import InputError

scores = arrays(
    np.float32,
    st.tuples(st.integers(1, 20), st.integers(1, 5)),
    elements=st.sampled_from([0, 1e-12, 1e-3, 0.5, 1, 7, 1e6]),
)
temperatures = st.floats(0.02, 20)


def world(temperature: float, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and classes drawn from them as they are meant at a temperature."""
    rng = np.random.default_rng(seed)
    F = rng.dirichlet(np.full(4, 2.0), n).astype(np.float32)
    p = F ** (1 / temperature)
    p /= p.sum(axis=1, keepdims=True)
    return F, (rng.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(0, 3)


# ── Probabilities ────────────────────────────────────────────────────────────────────────────────────────


@given(scores, temperatures, st.sampled_from([0, 0.1, 5]))
def test_rows_are_distributions_and_keep_their_order(F: np.ndarray, temperature: float, mass: float) -> None:
    p = calibrated(F, temperature, typical_mass=mass)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    best = np.take_along_axis(p, F.argmax(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_array_equal(best, p.max(axis=1))


def test_by_hand() -> None:
    F = np.float32([[3, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(calibrated(F, 1), [[0.75, 0.25, 0], [1 / 3] * 3], atol=1e-6)
    np.testing.assert_allclose(calibrated(F, 0.5)[0], [0.9, 0.1, 0], atol=1e-6)
    np.testing.assert_allclose(calibrated(F, 1, typical_mass=3)[0], [4 / 7, 2 / 7, 1 / 7], atol=1e-6)


def test_without_a_typical_mass_only_shares_count_and_with_one_the_faint_are_modest() -> None:
    F = np.float32([[3, 1], [3e-12, 1e-12]])
    one, other = calibrated(F, 0.4)
    np.testing.assert_allclose(one, other, rtol=1e-5)
    one, other = calibrated(F, 0.4, typical_mass=1)
    assert one[0] > 0.75
    assert other[0] == pytest.approx(0.5)


@given(scores, temperatures, temperatures)
def test_a_higher_temperature_is_more_modest(F: np.ndarray, one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert (calibrated(F, high).max(axis=1) <= calibrated(F, low).max(axis=1) + 1e-6).all()


def test_typical_mass_is_of_what_is_known() -> None:
    assert typical_mass(np.float32([[0, 0], [0, 2], [4, 0]])) == 3
    assert typical_mass(np.zeros((3, 2), np.float32)) == 0
    assert typical_mass(np.zeros((0, 2), np.float32)) == 0


# ── The temperature ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("truth", [0.3, 1.0, 3.0])
def test_with_many_answers_the_true_temperature_is_found(truth: float) -> None:
    assert fit_temperature(*world(truth, 20_000)) == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize("truth", [0.1, 3.0])
def test_few_answers_are_drawn_to_the_usual(truth: float) -> None:
    few, many = (fit_temperature(*world(truth, n)) for n in (3, 3000))
    assert abs(np.log(few / USUAL_TEMPERATURE)) < abs(np.log(many / USUAL_TEMPERATURE)) / 2


def test_no_answers_or_none_that_say_anything_leave_the_usual() -> None:
    assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, int)) == USUAL_TEMPERATURE
    assert fit_temperature(np.zeros((5, 3), np.float32), np.arange(5) % 3) == USUAL_TEMPERATURE
    assert fit_temperature(np.ones((5, 1), np.float32), np.zeros(5, int)) == USUAL_TEMPERATURE


@pytest.mark.parametrize("n", [1, 10, 100, 1000])
def test_a_flawless_leave_one_out_is_not_boundless_confidence(n: int) -> None:
    q = np.tile(np.float32([6, 4]), (n, 1))
    confidence = calibrated(q[:1], fit_temperature(q, np.zeros(n, int)))[0, 0]
    assert 0.6 < confidence < 1 - 1 / (2 * (n + 2))


def test_wrong_answers_make_it_modest() -> None:
    q = np.tile(np.float32([8, 2]), (1000, 1))
    y = (np.arange(1000) % 4 == 0).astype(int)
    assert calibrated(q[:1], fit_temperature(q, y))[0, 0] == pytest.approx(0.75, abs=0.02)


@given(st.integers(0, 30), st.integers(0, 5))
def test_neither_order_nor_the_classes_names_nor_their_scale_matter(n: int, seed: int) -> None:
    F, y = world(0.5, n, seed)
    order = np.random.default_rng(seed).permutation(n)
    names = np.array([2, 0, 3, 1])
    expected = fit_temperature(F, y)
    assert fit_temperature(F, y) == expected
    assert fit_temperature(F[order], y[order]) == pytest.approx(expected, rel=1e-3)
    assert fit_temperature(F[:, names.argsort()], names[y]) == pytest.approx(expected, rel=1e-3)
    assert fit_temperature(1000 * F, y) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("q", "y"),
    [
        ([[1, 2]], [0, 1]),
        ([[1, 2]], [2]),
        ([[1, 2]], [-1]),
        ([[1, float("nan")]], [0]),
        ([[1, -1]], [0]),
        ([1, 2], [0, 1]),
    ],
)
def test_nonsense_is_refused(q: list, y: list) -> None:
    with pytest.raises(InputError):
        fit_temperature(np.float32(q), np.array(y))


@pytest.mark.parametrize(("temperature", "mass"), [(0, 0), (-1, 0), (float("nan"), 0), (1, -1), (1, float("inf"))])
def test_options_of_nonsense_are_refused(temperature: float, mass: float) -> None:
    with pytest.raises(InputError):
        calibrated(np.ones((1, 2), np.float32), temperature, typical_mass=mass)


# ── Reliability ──────────────────────────────────────────────────────────────────────────────────────────


def test_bins_of_like_confidence() -> None:
    table = reliability(np.array([0.9, 0.2, 0.8, 0.4]), np.array([True, False, False, True]), n_bins=2)
    assert table.n.tolist() == [2, 2]
    np.testing.assert_allclose(table.confidence, [0.3, 0.85])
    np.testing.assert_allclose(table.accuracy, [0.5, 0.5])
    assert table.error == pytest.approx((0.2 + 0.35) / 2)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50), st.integers(1, 20))
def test_the_bins_hold_all_audits_and_the_error_is_a_share(audits: list, n_bins: int) -> None:
    confidence, right = np.array([c for c, _ in audits]), np.array([r for _, r in audits])
    table = reliability(confidence, right, n_bins=n_bins)
    assert table.n.sum() == len(audits)
    assert len(table.n) == min(n_bins, len(audits))
    assert (np.diff(table.confidence) >= -1e-12).all()
    assert float(table.n @ table.accuracy) == pytest.approx(right.sum())
    assert abs(confidence.mean() - right.mean()) - 1e-12 <= table.error <= 1


def test_true_probabilities_have_hardly_an_error() -> None:
    F, y = world(0.5, 20_000)
    p = calibrated(F, 0.5)
    assert reliability(p.max(axis=1), p.argmax(axis=1) == y, n_bins=10).error < 0.02
    assert reliability(F.max(axis=1), F.argmax(axis=1) == y, n_bins=10).error > 0.1


def test_reliability_of_nothing_and_of_nonsense() -> None:
    assert np.isnan(reliability(np.zeros(0), np.zeros(0, bool)).error)
    for confidence, right, n_bins in (
        ([0.5], [], 5),
        ([1.5], [True], 5),
        ([float("nan")], [True], 5),
        ([0.5], [True], 0),
    ):
        with pytest.raises(InputError):
            reliability(np.array(confidence), np.array(right, bool), n_bins=n_bins)
