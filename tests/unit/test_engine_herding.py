"""Herding: the task that covers most of what is uncertain and not yet covered comes first."""

import tracemalloc
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from exemplar.engine.query import Herding, bandwidth, herding, margin_uncertainty, random_order
from exemplar.errors import InputError

Array = np.ndarray[Any, Any]


def blobs(n: int, *, d: int = 8, n_blobs: int = 30, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(n_blobs, d)) * 3
    return (centers[rng.integers(n_blobs, size=n)] + rng.normal(size=(n, d))).astype(np.float32)


def kernel(Z: Array, rows: Array, sigma2: float) -> Array:
    """K, of shape (n_tasks, n_rows), in double precision and without the product trick."""
    Z = Z.astype(np.float64)
    return np.stack([np.exp(-((Z - Z[row]) ** 2).sum(axis=1) / sigma2) for row in rows], axis=1)


def coverage(Z: Array, rows: Array, sigma2: float, importance: Array) -> float:
    return float(importance @ kernel(Z, rows, sigma2).max(axis=1, initial=0))


def naive_greedy(K: Array, importance: Array, labeled: Array, askable: Array, n: int) -> list[int]:
    """The definition, word by word."""
    covered = K[:, labeled].max(axis=1, initial=0)
    chosen: list[int] = []
    while len(chosen) < min(n, askable.sum()):
        open_ = [row for row in np.flatnonzero(askable) if row not in chosen]
        gains = [importance @ np.maximum(K[:, row] - covered, 0) for row in open_]
        chosen.append(int(open_[int(np.argmax(gains))]))
        covered = np.maximum(covered, K[:, chosen[-1]])
    return chosen


@st.composite
def pools(draw: st.DrawFn) -> tuple[Array, Array, Array, Array]:
    """Z with equal rows too, the uncertainty, and who is labelled and askable: never both, and some neither."""
    n = draw(st.integers(1, 25))
    Z = draw(npst.arrays(np.float32, (n, draw(st.integers(1, 3))), elements=st.integers(-4, 4)))
    uncertainty = draw(npst.arrays(np.float32, n, elements=st.sampled_from([0, 0.25, 0.5, 1])))
    states = np.array(draw(st.lists(st.sampled_from(["open", "done", "skip"]), min_size=n, max_size=n)))
    return Z, uncertainty, states == "done", states == "open"


# ── How uncertain ────────────────────────────────────────────────────────────────────────────────────────


def test_the_margin_of_the_smoothed_distribution() -> None:
    F = np.float32([[8, 2, 0], [3, 3, 4], [1, 0, 0]])
    # Masses 10, 10 and 1, so eps = 0.1 * 10 = 1; p = (F + 1/3) / (mass + 1).
    np.testing.assert_allclose(margin_uncertainty(F), [1 - 6 / 11, 1 - 1 / 11, 1 - 1 / 2], rtol=1e-6)


def test_what_no_answer_reaches_is_uncertain() -> None:
    assert margin_uncertainty(np.zeros((4, 3))).tolist() == [1, 1, 1, 1]
    unreached, hardly, surely = margin_uncertainty(np.array([[0, 0], [1e-9, 0], [1, 0]]))
    assert unreached == 1
    assert hardly > 0.99
    assert surely < 0.1


def test_with_most_of_the_pool_unreached_the_rest_is_still_smoothed() -> None:
    F = np.zeros((10, 2))
    F[:3, 0] = [1e-6, 1, 2]
    assert margin_uncertainty(F)[0] > 0.99


def test_one_class_is_uncertain_where_its_mass_is_small() -> None:
    np.testing.assert_allclose(
        margin_uncertainty(np.array([[0.0], [1.0], [1.0], [9.9]])), [1, 1 / 11, 1 / 11, 0.01]
    )


@given(
    npst.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(2, 5)), elements=st.floats(0, 100, width=16))
)
def test_the_margin_is_what_the_definition_says(F: Array) -> None:
    mass = F.sum(axis=1, keepdims=True, dtype=np.float64)
    eps = 0.1 * np.median(mass[mass > 0]) if mass.any() else 1.0
    p = np.sort((F + eps / F.shape[1]) / (mass + eps), axis=1)
    found = margin_uncertainty(F)
    assert found.dtype == np.float32
    assert found.shape == (len(F),)
    np.testing.assert_allclose(found, 1 - (p[:, -1] - p[:, -2]), atol=1e-6)
    np.testing.assert_allclose(margin_uncertainty(F[:, ::-1] * 8), found, atol=1e-6)


def test_many_rows_are_done_in_parts() -> None:
    F = np.random.default_rng(0).random((70_000, 3), np.float32)
    np.testing.assert_array_equal(margin_uncertainty(F)[[0, 65_535, 65_536, 69_999]] < 1, True)
    two = np.sort(F, axis=1)
    eps = 0.1 * np.median(F.sum(axis=1, dtype=np.float64))
    np.testing.assert_allclose(
        margin_uncertainty(F), 1 - (two[:, 2] - two[:, 1]) / (F.sum(axis=1) + eps), atol=1e-6
    )


@pytest.mark.parametrize("F", [np.ones(3), np.ones((2, 0)), [[1, -1]], [[np.nan, 1]], [[np.inf, 1]]])
def test_scores_that_cannot_be(F: Any) -> None:
    with pytest.raises(InputError, match=r"^F h(as|olds)"):
        margin_uncertainty(F)


# ── How wide ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_bandwidth_of_a_ladder() -> None:
    Z = np.float32([[0], [1], [2], [3], [4], [5]])
    assert bandwidth(Z, 6) == 1  # the nearest neighbour of each
    assert bandwidth(Z, 3) == 1  # the second nearest: 4 1 1 1 1 4
    assert bandwidth(Z, 2) == 4  # the third: 9 4 4 4 4 9
    assert bandwidth(Z, 1) == 16  # the farthest: 25 16 9 9 16 25
    assert bandwidth(Z, 1000) == 1


def test_the_bandwidth_is_never_zero() -> None:
    assert bandwidth(np.full((30, 2), 7.1, np.float32), 5) == 1
    assert bandwidth(np.float32([[3, 4]]), 1) == 1
    mostly_equal = np.repeat(blobs(3, d=64) * np.float32(1.1), [20, 1, 1], axis=0)
    apart = np.sort(((mostly_equal[20:, None].astype(float) - mostly_equal) ** 2).sum(axis=2), axis=1)[:, 1]
    assert bandwidth(mostly_equal, 22) == pytest.approx(np.median(apart))


@pytest.mark.parametrize("budget", [1, 7, 40, 400])
def test_the_bandwidth_against_a_full_sort(budget: int) -> None:
    Z = blobs(400)
    squared = ((Z[:, None].astype(float) - Z[None]) ** 2).sum(axis=2)
    rank = min(400 // budget, 399)
    assert bandwidth(Z, budget) == pytest.approx(np.median(np.sort(squared, axis=1)[:, rank]))


def test_the_bandwidth_goes_with_the_scale_and_not_with_the_place() -> None:
    Z = blobs(300)
    assert bandwidth(Z * 4, 20) == pytest.approx(16 * bandwidth(Z, 20))
    assert bandwidth(Z + 1000, 20) == pytest.approx(bandwidth(Z, 20), rel=1e-3)
    assert bandwidth(Z, 10) > bandwidth(Z, 20) > bandwidth(Z, 60)


def test_of_a_big_pool_a_sample_tells_the_bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    Z = blobs(6000, n_blobs=3)
    exact = bandwidth(Z, 30)
    monkeypatch.setattr("exemplar.engine.query.kernel.N_REFERENCES", 1500)
    assert bandwidth(Z, 30) == pytest.approx(exact, rel=0.05)
    assert bandwidth(Z, 30) == bandwidth(Z, 30)
    assert bandwidth(Z, 30, random_state=1) != bandwidth(Z, 30)


def test_a_bandwidth_that_cannot_be() -> None:
    with pytest.raises(InputError, match=r"^budget=0: "):
        bandwidth(np.ones((3, 1)), 0)
    with pytest.raises(InputError, match="NaN"):
        bandwidth(np.array([[1], [np.nan]]), 1)


# ── Choosing, by hand ────────────────────────────────────────────────────────────────────────────────────

LINE = np.float32([[0], [1], [2], [10], [11], [30]])
NOBODY = np.zeros(6, bool)
ALL = ~NOBODY


def line(**options: Any) -> Herding:
    return Herding(LINE, bandwidth=1.0, **options)


def test_the_middle_of_the_densest_comes_first_the_outlier_last() -> None:
    # The two that remain of the three add 1 - exp(-1) each: as much as one another, the lower row first.
    assert line().choose(None, NOBODY, ALL, 6).tolist() == [1, 3, 5, 0, 2, 4]


def test_what_is_near_an_answer_comes_later() -> None:
    labeled = np.array([0, 1, 0, 0, 0, 0], bool)
    assert line().choose(None, labeled, ~labeled, 2).tolist() == [3, 5]


def test_uncertainty_draws() -> None:
    assert line().choose(np.array([0, 0, 0, 0, 0, 0.1]), NOBODY, ALL, 1).tolist() == [5]
    assert line().choose(np.array([1, 0, 0, 0, 1, 0.5]), NOBODY, ALL, 3).tolist() == [0, 4, 5]


def test_the_uncertain_need_not_be_askable_themselves() -> None:
    askable = np.array([1, 1, 1, 0, 1, 1], bool)
    assert line().choose(np.array([0, 0, 0, 1, 0, 0]), NOBODY, askable, 1).tolist() == [4]


def test_weights_count_like_tasks() -> None:
    assert line(weights=np.array([1, 1, 1, 1, 1, 9])).choose(None, NOBODY, ALL, 1).tolist() == [5]


def test_nothing_to_choose() -> None:
    for chosen in (line().choose(None, NOBODY, ALL, 0), line().choose(None, ALL, NOBODY, 5)):
        assert (chosen.tolist(), chosen.dtype) == ([], np.intp)


def test_where_nothing_is_gained_the_lower_rows_come_first() -> None:
    assert line().choose(np.zeros(6), NOBODY, ALL, 4).tolist() == [0, 1, 2, 3]
    equal = Herding(np.full((9, 2), 5.3, np.float32), bandwidth=1.0)
    assert equal.choose(None, np.zeros(9, bool), np.ones(9, bool), 99).tolist() == [*range(9)]


def test_one_task() -> None:
    assert Herding(np.float32([[3]]), bandwidth=1.0).choose(None, NOBODY[:1], ALL[:1], 5).tolist() == [0]


@pytest.mark.parametrize("scale", [1e-15, 1, 1e15, 1e28])
def test_any_scale(scale: float) -> None:
    Z = (LINE * scale).astype(np.float32)
    assert Herding(Z, bandwidth=scale**2).choose(None, NOBODY, ALL, 3).tolist() == [1, 3, 5]
    for sigma2 in (1e-40 * scale**2, 1e40 * scale**2):
        assert len(Herding(Z, bandwidth=sigma2).choose(None, NOBODY, ALL, 9)) == 6


@pytest.mark.parametrize("sigma2", np.linspace(0.9, 1.5, 7))
def test_near_tasks_far_from_the_origin_are_told_apart(sigma2: float) -> None:
    Z = np.full((6, 64), 7_654_321, np.float32)
    Z[:, 0] += LINE[:, 0]
    assert Herding(Z, bandwidth=sigma2).choose(None, NOBODY, ALL, 3).tolist() == [1, 3, 5]


# ── Choosing, as properties ──────────────────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=30)
@given(pools(), st.integers(0, 30), st.sampled_from([1, 4, 2000]))
def test_as_many_as_there_are_each_once_and_askable(pool: Any, n: int, n_candidates: int) -> None:
    Z, uncertainty, labeled, askable = pool
    before = [array.copy() for array in pool]
    held = Herding(Z, bandwidth=2.0, n_candidates=n_candidates)
    chosen = held.choose(uncertainty, labeled, askable, n)
    assert len(chosen) == len(set(chosen.tolist())) == min(n, askable.sum())
    assert askable[chosen].all()
    for array, copy in zip(pool, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    longer = held.choose(uncertainty, labeled, askable, n + 7)
    np.testing.assert_array_equal(longer[: len(chosen)], chosen)


@settings(deadline=None, max_examples=30)
@given(pools(), st.integers(1, 10))
def test_each_choice_adds_the_most(pool: Any, n: int) -> None:
    Z, uncertainty, labeled, askable = pool
    K = kernel(Z, np.arange(len(Z)), 3.0)
    covered, left = K[:, labeled].max(axis=1, initial=0), askable.copy()
    for row in Herding(Z, bandwidth=3.0).choose(uncertainty, labeled, askable, n):
        gains = uncertainty @ np.maximum(K - covered[:, None], 0)
        assert gains[row] >= gains[left].max() - uncertainty.sum() / 255  # similarities are held in 255ths
        covered, left[row] = np.maximum(covered, K[:, row]), False


@settings(deadline=None, max_examples=30)
@given(pools(), st.integers(1, 3))
def test_no_other_choice_covers_much_more(pool: Any, n: int) -> None:
    Z, uncertainty, _, _ = pool
    Z, uncertainty = Z[:10], uncertainty[:10]
    nobody = np.zeros(len(Z), bool)
    chosen = Herding(Z, bandwidth=3.0).choose(uncertainty, nobody, ~nobody, n)
    sets = combinations(range(len(Z)), min(n, len(Z)))
    best = max(coverage(Z, np.array(rows), 3.0, uncertainty) for rows in sets)
    # The bound of Nemhauser, Wolsey & Fisher (1978) for every greedy choice; and the 255ths.
    assert coverage(Z, chosen, 3.0, uncertainty) >= (1 - 1 / np.e) * best - uncertainty.sum() / 255


@settings(deadline=None, max_examples=30)
@given(pools(), st.data())
def test_what_was_asked_before_does_not_matter(pool: Any, data: st.DataObject) -> None:
    Z, uncertainty, labeled, askable = pool
    held = Herding(Z, bandwidth=2.0, n_candidates=5)
    for _ in range(3):
        held.choose(None, labeled, askable, data.draw(st.integers(0, 9)))
        answered = data.draw(npst.arrays(bool, len(Z)))  # answers come, and are taken back
        labeled, askable = answered & (labeled | askable), ~answered
    fresh = Herding(Z, bandwidth=2.0, n_candidates=5)
    np.testing.assert_array_equal(
        held.choose(uncertainty, labeled, askable, 20), fresh.choose(uncertainty, labeled, askable, 20)
    )


@settings(deadline=None, max_examples=30)
@given(pools(), st.integers(1, 6))
def test_weights_are_multiplicities(pool: Any, n: int) -> None:
    Z, _, labeled, askable = pool
    weights = np.array([1, 2, 4])[np.arange(len(Z)) % 3]  # whose sums are exact, so that equals stay equal
    rows = np.repeat(np.arange(len(Z)), weights)
    weighed = Herding(Z, bandwidth=2.0, weights=weights).choose(None, labeled, askable, n)
    one_of_each = askable[rows] & (np.diff(rows, prepend=-1) > 0)
    repeated = Herding(Z[rows], bandwidth=2.0).choose(None, labeled[rows], one_of_each, n)
    np.testing.assert_array_equal(rows[repeated], weighed)


# ── Big pools ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_lazy_choice_is_as_good_as_the_plain_one() -> None:
    Z, rng = blobs(400), np.random.default_rng(1)
    uncertainty, sigma2 = rng.random(400).astype(np.float32), bandwidth(Z, 40)
    labeled = rng.random(400) < 0.05
    plain = naive_greedy(kernel(Z, np.arange(400), sigma2), uncertainty, labeled, ~labeled, 40)
    chosen = Herding(Z, bandwidth=sigma2).choose(uncertainty, labeled, ~labeled, 40)
    answered = np.flatnonzero(labeled)
    for n in (1, 10, 40):
        ours = coverage(Z, np.append(answered, chosen[:n]), sigma2, uncertainty)
        assert ours >= 0.999 * coverage(Z, np.append(answered, plain[:n]), sigma2, uncertainty)


def test_one_answer_after_another_gives_what_a_fresh_start_gives() -> None:
    Z, rng = blobs(3000, d=64), np.random.default_rng(2)
    held = Herding(Z, bandwidth=100.0, n_candidates=150)
    labeled = np.zeros(3000, bool)
    for _ in range(100):
        uncertainty = rng.random(3000).astype(np.float32)
        labeled[held.choose(uncertainty, labeled, ~labeled, 3)[0]] = True
    assert labeled.sum() == 100
    fresh = Herding(Z, bandwidth=100.0, n_candidates=150).choose(uncertainty, labeled, ~labeled, 200)
    np.testing.assert_array_equal(held.choose(uncertainty, labeled, ~labeled, 200), fresh)


def test_a_sample_of_the_pool_is_covered_like_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Z, nobody = blobs(24_000), np.zeros(24_000, bool)
    sigma2, uncertainty = bandwidth(Z, 50), np.random.default_rng(3).random(24_000).astype(np.float32)

    def covered(n_witnesses: int) -> float:
        monkeypatch.setattr(herding, "N_WITNESSES", n_witnesses)
        chosen = Herding(Z, bandwidth=sigma2, n_candidates=500).choose(uncertainty, nobody, ~nobody, 50)
        return coverage(Z, chosen, sigma2, uncertainty)

    assert covered(6000) >= 0.99 * covered(24_000)
    shuffled = random_order(~nobody, 50)
    assert coverage(Z, shuffled, sigma2, uncertainty) < 0.9 * covered(24_000)


def test_a_small_part_of_the_pool_is_seen_where_it_stands_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(herding, "N_WITNESSES", 100)
    Z = np.zeros((1000, 1), np.float32)
    Z[300:310] = 50  # a stretch as long as each of the hundred that send one witness
    nobody = np.zeros(1000, bool)
    for seed in range(20):
        held = Herding(Z, bandwidth=1.0, n_candidates=1000, random_state=seed)
        assert held.choose(None, nobody, ~nobody, 2).tolist() == [0, 300]
        assert held.choose((Z[:, 0] == 50).astype(np.float32), nobody, ~nobody, 1).tolist() == [300]


def test_a_heavy_row_is_witness_and_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(herding, "N_WITNESSES", 50)
    Z = np.arange(5000, dtype=np.float32)[:, None]
    weights = np.ones(5000)
    weights[1234] = 1e6
    for seed in range(10):
        held = Herding(Z, bandwidth=1.0, weights=weights, n_candidates=20, random_state=seed)
        assert held.choose(None, np.zeros(5000, bool), np.ones(5000, bool), 1).tolist() == [1234]


def test_a_heavy_row_counts_in_a_sample_as_it_does_in_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(herding, "N_WITNESSES", 100)
    Z, nobody = np.zeros((1001, 1), np.float32), np.zeros(1001, bool)
    Z[1000] = 50
    for weight, first in ((500, 0), (2000, 1000)):
        held = Herding(Z, bandwidth=1.0, weights=np.append(np.ones(1000), weight))
        assert held.choose(None, nobody, ~nobody, 1).tolist() == [first]


def test_no_more_is_held_than_the_candidates_need() -> None:
    Z, labeled = blobs(2000), np.zeros(2000, bool)
    tracemalloc.start()
    held = Herding(Z, bandwidth=5.0, n_candidates=50)
    for _ in range(25):  # of 2 000 witnesses a column has 2 kB
        labeled[held.choose(None, labeled, ~labeled, 50)] = True
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size < 1_000_000


def test_candidates_are_renewed_until_all_are_asked() -> None:
    Z, nobody = blobs(300), np.zeros(300, bool)
    chosen = Herding(Z, bandwidth=5.0, n_candidates=10).choose(None, nobody, ~nobody, 300)
    assert sorted(chosen.tolist()) == [*range(300)]


def test_the_random_state_draws_the_candidates() -> None:
    Z, nobody = blobs(500), np.zeros(500, bool)

    def chosen(random_state: int) -> list[int]:
        held = Herding(Z, bandwidth=5.0, n_candidates=40, random_state=random_state)
        return held.choose(None, nobody, ~nobody, 20).tolist()

    assert chosen(0) == chosen(0) != chosen(1)


# ── What cannot be ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandwidth": 0.0}, r"^bandwidth=0.0: "),
        ({"bandwidth": np.nan}, r"^bandwidth=nan: "),
        ({"bandwidth": np.inf}, r"^bandwidth=inf: "),
        ({"n_candidates": 0}, r"^n_candidates=0: "),
        ({"weights": np.ones(5)}, r"^weights has the shape \(5,\): expected \(6,\)"),
        ({"weights": np.array([1, 1, 1, 1, 1, 0])}, r"^weights holds 0.0 to 1.0: "),
        ({"weights": np.array([1, 1, 1, 1, 1, np.nan])}, r"^weights holds nan"),
    ],
)
def test_a_pool_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Herding(LINE, **{"bandwidth": 1.0, **options})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(5), NOBODY, ALL, 1), r"^uncertainty has the shape \(5,\)"),
        ((np.full(6, -0.1), NOBODY, ALL, 1), r"^uncertainty holds -0.1"),
        ((np.full(6, 1.5), NOBODY, ALL, 1), r"^uncertainty holds 1.5 to 1.5: expected numbers from 0 to 1"),
        ((np.full(6, np.nan), NOBODY, ALL, 1), r"^uncertainty holds nan"),
        ((None, NOBODY[:5], ALL, 1), r"^labeled is bool of the shape \(5,\)"),
        ((None, NOBODY, np.array([0, 3]), 1), r"^askable is int64 of the shape \(2,\)"),
        ((None, NOBODY, ALL, -1), r"^n=-1: "),
    ],
)
def test_a_question_that_cannot_be(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        line().choose(*arguments)


# ── Any order at all ─────────────────────────────────────────────────────────────────────────────────────


@given(npst.arrays(bool, st.integers(0, 30)), st.integers(0, 40), st.integers(0, 3))
def test_a_random_order_is_unique_and_askable_and_its_beginning_too(askable: Array, n: int, seed: int) -> None:
    order = random_order(askable, n, random_state=seed)
    assert len(order) == len(set(order.tolist())) == min(n, askable.sum())
    assert askable[order].all()
    np.testing.assert_array_equal(random_order(askable, n + 5, random_state=seed)[: len(order)], order)


def test_a_random_order_is_one_of_many() -> None:
    firsts = [int(random_order(np.ones(10, bool), 1, random_state=seed)[0]) for seed in range(100)]
    assert set(firsts) == set(range(10))


def test_an_order_that_cannot_be() -> None:
    with pytest.raises(InputError, match=r"^askable is int64"):
        random_order(np.arange(3), 1)
    with pytest.raises(InputError, match=r"^n=-2"):
        random_order(ALL, -2)


def test_a_sharper_margin_sees_less_open_where_one_class_leads_and_orders_the_same() -> None:
    F = np.array([[5.0, 5.0, 0.0], [6.0, 4.0, 0.0], [9.0, 1.0, 0.0]])
    plain, sharp = margin_uncertainty(F), margin_uncertainty(F, sharpness=2.0)
    assert sharp[0] == pytest.approx(1)
    assert (sharp[1:] < plain[1:]).all()
    assert (np.diff(sharp) < 0).all()
