"""Accepting a set by a random draw of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, hypergeom

from exemplar.engine import PROMISES, alpha_of, chance_to_pass, draw, judge, sample_size
from exemplar.errors import InputError


def judged(n_right: int, n_wrong: int = 0, n_unknown: int = 0, **options):
    answered = np.repeat([0, 1, -1], [n_right, n_wrong, n_unknown])
    return judge(np.zeros(len(answered), int), answered, **{"promise": 0.95, **options})


# ── How many ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_known_sizes() -> None:
    assert [sample_size(promise) for promise in PROMISES] == [59, 99, 299]
    assert [sample_size(promise, attempt=2) for promise in PROMISES] == [72, 122, 368]
    assert alpha_of(2) == 0.025


@given(st.sampled_from(PROMISES), st.integers(1, 5))
def test_a_broken_promise_passes_no_more_often_than_its_risk_and_one_fewer_would(
    promise: float, attempt: int
) -> None:
    n = sample_size(promise, attempt=attempt)
    assert promise**n <= alpha_of(attempt) < promise ** (n - 1)


@given(st.sampled_from([0.5, 0.9, *PROMISES]), st.integers(1, 3), st.integers(1, 3000))
def test_of_a_finite_set_the_risk_is_hypergeometric(promise: float, attempt: int, n_tasks: int) -> None:
    n = sample_size(promise, attempt=attempt, n_tasks=n_tasks)
    broken = [wrong for wrong in range(n_tasks + 1) if n_tasks - wrong < promise * n_tasks - 1e-9]
    assert 1 <= n <= min(n_tasks, sample_size(promise, attempt=attempt))
    assert hypergeom(n_tasks, broken[0], n).pmf(0) <= alpha_of(attempt) + 1e-12
    if n > 1 and n < sample_size(promise, attempt=attempt):
        assert hypergeom(n_tasks, broken[0], n - 1).pmf(0) > alpha_of(attempt) - 1e-12


def test_a_small_set_wants_nearly_all_and_a_large_one_no_more_than_an_endless() -> None:
    assert sample_size(0.95, n_tasks=1) == 1
    assert sample_size(0.95, n_tasks=10) == 10
    assert sample_size(0.95, n_tasks=10**6) == 59


@pytest.mark.parametrize("options", [{"promise": 0}, {"promise": 1}, {"promise": 0.9, "attempt": 0}])
def test_sizes_of_nonsense_are_refused(options: dict) -> None:
    with pytest.raises(InputError):
        sample_size(**options)
    with pytest.raises(InputError):
        judged(1, **options)


def test_an_empty_set_has_no_size() -> None:
    with pytest.raises(InputError, match="n_tasks is 0"):
        sample_size(0.95, n_tasks=0)


# ── The draw ─────────────────────────────────────────────────────────────────────────────────────────────


@given(st.sets(st.integers(0, 500), min_size=1), st.integers(1, 80), st.integers(0, 9))
def test_a_draw_is_of_the_set_once_each_whatever_its_order(rows: set[int], n: int, seed: int) -> None:
    drawn = draw(np.array(sorted(rows)), n, random_state=seed)
    assert len(set(drawn.tolist())) == len(drawn) == min(n, len(rows))
    assert set(drawn.tolist()) <= rows
    np.testing.assert_array_equal(drawn, draw(np.array(sorted(rows))[::-1], n, random_state=seed))


@given(st.integers(1, 50), st.integers(1, 50))
def test_a_longer_draw_begins_with_a_shorter(one: int, two: int) -> None:
    short, long = sorted((one, two))
    rows = np.arange(100, 160)
    np.testing.assert_array_equal(draw(rows, long, random_state=1)[:short], draw(rows, short, random_state=1))


def test_every_task_has_the_same_chance() -> None:
    drawn = np.concatenate([draw(np.arange(20), 5, random_state=seed) for seed in range(2000)])
    counts = np.bincount(drawn, minlength=20)
    assert abs(counts - 500).max() < 100  # 5 standard deviations


def test_a_draw_of_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="1 duplicates"):
        draw(np.array([1, 1, 2]), 2, random_state=0)
    with pytest.raises(InputError, match="n is 0"):
        draw(np.array([1]), 0, random_state=0)


# ── The verdict ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ((59, 0, 0), "accepted"),
        ((58, 0, 0), "open"),
        ((0, 0, 0), "open"),
        ((58, 1, 0), "refused"),
        ((300, 1, 0), "refused"),
        ((59, 0, 1), "refused"),
    ],
)
def test_one_error_or_skip_refuses(counts: tuple[int, int, int], verdict: str) -> None:
    found = judged(*counts)
    assert (found.verdict, found.n_right, found.n_wrong, found.n_unknown) == (verdict, *counts)


def test_a_second_attempt_wants_more() -> None:
    assert judged(71, attempt=2).verdict == "open"
    assert judged(72, attempt=2).verdict == "accepted"
    assert judged(72, attempt=2).risk == 0.025


def test_of_a_small_set_fewer_are_enough() -> None:
    assert judged(47, n_tasks=200).verdict == "accepted"
    assert judged(47).verdict == "open"


@given(st.integers(0, 100), st.integers(0, 10), st.integers(0, 10))
def test_what_holds_all_the_same_is_the_exact_one_sided_bound(n_right: int, n_wrong: int, n_unknown: int) -> None:
    found = judged(n_right, n_wrong, n_unknown)
    n = n_right + n_wrong + n_unknown
    low = binomtest(n_right, n, alternative="greater").proportion_ci(0.95, method="exact").low if n else 0
    assert found.low == pytest.approx(low, abs=1e-9)
    assert (found.verdict == "accepted") <= (found.low >= 0.95)


def test_no_prediction_never_agrees_with_a_skip() -> None:
    assert judge(np.array([-1]), np.array([-1]), promise=0.95).n_unknown == 1


def test_answers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="shapes"):
        judge(np.zeros(2, int), np.zeros(3, int), promise=0.95)


def test_the_chance_to_pass_is_what_draws_do() -> None:
    rng = np.random.default_rng(0)
    n_tasks, n_drawn, n_wrong = 400, 59, 8
    wrong = np.arange(n_tasks) < n_wrong
    passed = np.mean([not wrong[rng.permutation(n_tasks)[:n_drawn]].any() for _ in range(4000)])
    assert chance_to_pass(1 - n_wrong / n_tasks, n_drawn, n_tasks=n_tasks) == pytest.approx(passed, abs=0.03)


def test_the_chance_to_pass_just_below_the_promise_is_the_risk_at_most() -> None:
    for promise in PROMISES:
        n_drawn = sample_size(promise, n_tasks=5000)
        assert chance_to_pass(promise - 1 / 5000, n_drawn, n_tasks=5000) <= 0.05


@pytest.mark.parametrize(("agreement", "n_drawn"), [(-0.1, 5), (1.1, 5), (0.9, 0), (0.9, 11)])
def test_a_chance_of_nothing_is_refused(agreement: float, n_drawn: int) -> None:
    with pytest.raises(InputError, match=r"(agreement|n_drawn) is .*: expected"):
        chance_to_pass(agreement, n_drawn, n_tasks=10)
