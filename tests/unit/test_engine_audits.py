"""Audits: drawn by a hash, counted honestly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, kstest

from exemplar.engine import (
    MIN_AUDITS,
    Agreement,
    agreement,
    clopper_pearson,
    estimate_accuracy,
    hash_ranks,
    is_audit,
    leave_one_out_rate,
)
from exemplar.errors import InputError

KEYS = [f"project:{i}" for i in range(4000)]
NAMES = {"population": "the pool", "generation": "exemplar-3"}
classes = st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 2)), max_size=60)


def estimated(predicted: list[int], answered: list[int]):
    return estimate_accuracy(np.array(predicted, int), np.array(answered, int), **NAMES)


# ── Which tasks ──────────────────────────────────────────────────────────────────────────────────────────


def test_ranks_are_as_good_as_uniform_and_purposes_and_seeds_independent() -> None:
    ranks = hash_ranks(KEYS)
    assert kstest(ranks, "uniform").pvalue > 0.01
    for other in (hash_ranks(KEYS, seed=1), hash_ranks(KEYS, purpose="stopping")):
        assert abs(np.corrcoef(ranks, other)[0, 1]) < 0.05


def test_a_rank_depends_on_its_own_key_alone() -> None:
    np.testing.assert_array_equal(hash_ranks(KEYS[::-1]), hash_ranks(KEYS)[::-1])
    assert hash_ranks(KEYS[7:8])[0] == hash_ranks(KEYS)[7]


@given(st.floats(0, 1), st.floats(0, 1), st.integers(-3, 3))
def test_raising_the_share_keeps_the_audits(one: float, two: float, seed: int) -> None:
    keys = KEYS[:100]
    assert (is_audit(keys, max(one, two), seed=seed) >= is_audit(keys, min(one, two), seed=seed)).all()


def test_the_share_is_about_kept_and_none_and_all_exactly() -> None:
    assert 0.03 < is_audit(KEYS, 0.04).mean() < 0.05
    assert not is_audit(KEYS, 0).any()
    assert is_audit(KEYS, 1).all()
    assert is_audit([], 0.5).tolist() == []


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="share is"):
        is_audit(KEYS, share)


def test_too_long_a_purpose_is_refused() -> None:
    with pytest.raises(InputError, match="16 bytes"):
        hash_ranks(KEYS, purpose="x" * 17)


# ── The interval ─────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(1, 300), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_is_scipys(n: int, data: st.DataObject, confidence: float) -> None:
    right = data.draw(st.integers(0, n))
    expected = binomtest(right, n).proportion_ci(confidence, method="exact")
    np.testing.assert_allclose(
        clopper_pearson(right, n, confidence=confidence), (expected.low, expected.high), atol=1e-9
    )


@pytest.mark.parametrize("n", [1, 30, 59, 200])
@pytest.mark.parametrize("truth", [0.02, 0.5, 0.8, 0.97])
def test_the_interval_covers_every_truth_often_enough(n: int, truth: float) -> None:
    intervals = [clopper_pearson(right, n) for right in range(n + 1)]
    covering = [low <= truth <= high for low, high in intervals]
    assert binom.pmf(np.arange(n + 1), n, truth)[covering].sum() >= 0.95


def test_no_audits_say_nothing() -> None:
    assert clopper_pearson(0, 0) == (0, 1)
    found = estimated([], [])
    assert (found.n_audits, found.low, found.high, found.is_shown) == (0, 0, 1, False)
    assert np.isnan(found.rate)


@pytest.mark.parametrize(("right", "n", "confidence"), [(2, 1, 0.95), (-1, 1, 0.95), (1, 1, 0), (1, 1, 1)])
def test_an_interval_of_nonsense_is_refused(right: int, n: int, confidence: float) -> None:
    with pytest.raises(InputError):
        clopper_pearson(right, n, confidence=confidence)


# ── The estimate ─────────────────────────────────────────────────────────────────────────────────────────


def test_skips_stay_out_of_the_rate_and_widen_the_interval() -> None:
    found = estimated([0] * 40, [0] * 27 + [1] * 9 + [-1] * 4)
    assert (found.n_audits, found.n_answered, found.n_right, found.n_unknown) == (40, 36, 27, 4)
    assert found.rate == 0.75
    assert found.low == clopper_pearson(27, 40)[0]
    assert found.high == clopper_pearson(31, 40)[1]
    assert (found.population, found.generation) == ("the pool", "exemplar-3")


def test_no_prediction_is_a_wrong_one_and_no_match_of_a_skip() -> None:
    found = estimated([-1, -1], [0, -1])
    assert (found.n_right, found.n_unknown, found.rate) == (0, 1, 0)


@pytest.mark.parametrize("n_answered", [0, MIN_AUDITS - 1, MIN_AUDITS])
def test_a_percentage_is_shown_from_thirty_answers_on(n_answered: int) -> None:
    assert estimated([0] * (n_answered + 20), [0] * n_answered + [-1] * 20).is_shown is (n_answered >= MIN_AUDITS)


@given(classes)
def test_the_interval_holds_the_rate_whatever_the_skips_hide(pairs: list[tuple[int, int]]) -> None:
    predicted, answered = [p for p, _ in pairs], [a for _, a in pairs]
    found = estimated(predicted, answered)
    for hidden in (0, 1, 2, 3):
        known = estimated(predicted, [hidden if a == -1 else a for a in answered])
        assert found.low <= known.low <= known.high <= found.high
    if found.n_answered:
        assert found.low <= found.rate <= found.high


@pytest.mark.parametrize("answered", [[0], [[0, 1]]], ids=["short", "2-d"])
def test_arrays_that_do_not_fit_are_refused(answered: list) -> None:
    with pytest.raises(InputError, match="shapes"):
        estimated([0, 1], answered)
    with pytest.raises(InputError, match="shapes"):
        agreement(np.array([0, 1]), np.array(answered))


# ── What is no audit ─────────────────────────────────────────────────────────────────────────────────────


def test_agreement_counts_what_was_shown_and_answered() -> None:
    found = agreement(np.array([0, 1, 2, -1, -1, 1]), np.array([0, 2, -1, -1, 1, 1]))
    assert found == Agreement(n=3, n_same=2)
    assert found.rate == pytest.approx(2 / 3)
    assert np.isnan(agreement(np.array([-1]), np.array([0])).rate)


def test_leave_one_out_rate() -> None:
    q = np.float32([[0, 0], [1, 0], [0, 1], [1, 2]])
    assert leave_one_out_rate(q, np.array([0, 0, 0, 1])) == 0.5
    assert np.isnan(leave_one_out_rate(np.zeros((0, 2), np.float32), np.zeros(0, int)))
    with pytest.raises(InputError, match="shape"):
        leave_one_out_rate(q, np.array([0]))
