"""When more annotations are hardly worth it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from exemplar.engine import Checkpoint, advice, expected_gain, fixed_sample, is_due, kappa
from exemplar.engine.evidence import hash_ranks
from exemplar.engine.evidence.stopping import LEAST_GAIN, next_batch
from exemplar.errors import InputError

KEYS = [f"task {i}" for i in range(300)]
SAMPLE = np.arange(1000) % 5


def checkpoints(*points: tuple[int, int, float]) -> list[Checkpoint]:
    """Of each point the number of labels, how many predictions of the sample differ, and the accuracy."""
    return [Checkpoint(n, np.where(np.arange(1000) < off, 9, SAMPLE), a) for n, off, a in points]


STEADY = [(100, 0, 0.99), (110, 0, 0.99), (121, 0, 0.99), (133, 0, 0.99)]

# ── The sample ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_sample_is_fixed_and_independent_of_the_audits() -> None:
    rows = fixed_sample(KEYS, 100)
    assert len(set(rows.tolist())) == 100
    np.testing.assert_array_equal(rows, fixed_sample(KEYS, 100))
    assert fixed_sample(KEYS, 100, seed=1).tolist() != rows.tolist()
    assert 20 < np.isin(rows, np.argsort(hash_ranks(KEYS))[:100]).sum() < 47


def test_a_small_pool_is_its_own_sample_and_of_new_tasks_few_replace_others() -> None:
    assert fixed_sample(KEYS[:5], 100).tolist() == [0, 1, 2, 3, 4]
    before, after = (set(fixed_sample(KEYS[:n], 100).tolist()) for n in (270, 300))
    assert len(before & after) >= 80
    assert all(row >= 270 for row in after - before)


def test_a_checkpoint_is_due_after_a_tenth_more_labels() -> None:
    assert [next_batch(n) for n in (0, 50, 100, 1000)] == [10, 10, 10, 100]
    last = checkpoints((200, 0, 0.9))[0]
    assert [is_due(last, n) for n in (200, 219, 220)] == [False, False, True]
    assert is_due(None, 0)


# ── Agreement ────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), min_size=1, max_size=50))
def test_kappa_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    one, two = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    expected = 1.0 if (one == two).all() else cohen_kappa_score(one, two)
    assert kappa(one, two) == pytest.approx(expected)
    assert kappa(one, two) == pytest.approx(kappa(two, one))


def test_kappa_of_the_same_is_one_and_of_chance_zero() -> None:
    assert kappa(np.zeros(9, int), np.zeros(9, int)) == 1
    assert kappa(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == 0


@pytest.mark.parametrize(("one", "two"), [([], []), ([0], [0, 1]), ([[0]], [[0]])])
def test_kappa_of_nonsense_is_refused(one: list, two: list) -> None:
    with pytest.raises(InputError):
        kappa(np.array(one), np.array(two))


# ── Gain ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("power", [0.3, 1.0, 2.0])
def test_along_a_power_law_the_gain_is_exact(power: float) -> None:
    n = np.array([50, 60, 72, 90])
    error = 0.4 * (n / 50) ** -power
    truth = error[-1] - 0.4 * (100 / 50) ** -power
    assert expected_gain(n.tolist(), (1 - error).tolist(), batch=10) == pytest.approx(truth)


def test_nothing_is_expected_of_accuracies_that_fall_or_are_perfect() -> None:
    assert expected_gain([10, 20], [0.9, 0.8], batch=10) == 0
    assert expected_gain([10, 20, 30], [0.9, 0.9, 0.9], batch=10) == pytest.approx(0, abs=1e-12)
    assert expected_gain([10, 20], [0.9, 1.0], batch=10) == 0


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.integers(1, 100))
def test_a_gain_is_never_more_than_what_is_wrong(accuracies: list[float], batch: int) -> None:
    n = [10 * (i + 1) for i in range(len(accuracies))]
    gain = expected_gain(n, accuracies, batch=batch)
    assert 0 <= gain <= 1 - accuracies[-1]
    assert gain <= expected_gain(n, accuracies, batch=batch + 1) + 1e-12


@pytest.mark.parametrize(
    ("n", "accuracies", "batch"),
    [
        ([10], [0.5], 1),
        ([10, 10], [0.5, 0.6], 1),
        ([0, 10], [0.5, 0.6], 1),
        ([10, 20], [0.5], 1),
        ([10, 20], [0.5, 1.5], 1),
        ([10, 20], [0.5, 0.6], 0),
    ],
)
def test_gains_of_nonsense_are_refused(n: list, accuracies: list, batch: int) -> None:
    with pytest.raises(InputError):
        expected_gain(n, accuracies, batch=batch)


# ── Advice ───────────────────────────────────────────────────────────────────────────────────────────────


def test_when_nothing_changes_more_is_hardly_worth_it() -> None:
    found = advice(checkpoints(*STEADY))
    assert (found.stop, found.kappa) == (True, 1)
    assert found.expected_gain == pytest.approx(0, abs=1e-9)
    assert "the next 13 answers" in found.why
    assert "hardly worth it" in found.why


def test_while_predictions_change_one_goes_on() -> None:
    found = advice(checkpoints(*STEADY[:3], (133, 50, 0.99)))
    assert found.kappa < 0.99
    assert not found.stop
    assert "go on" in found.why


def test_while_a_gain_is_expected_one_goes_on_however_steady() -> None:
    found = advice(checkpoints((100, 0, 0.8), (110, 0, 0.82), (121, 0, 0.84), (133, 0, 0.86)))
    assert found.kappa == 1
    assert found.expected_gain > LEAST_GAIN
    assert not found.stop


def test_too_few_checkpoints_give_no_figures() -> None:
    for n in range(4):
        found = advice(checkpoints(*STEADY[:n]))
        assert not found.stop
        assert np.isnan(found.kappa)
        assert f"{4 - n} more" in found.why


def test_only_the_last_windows_count() -> None:
    early = checkpoints((50, 900, 0.1), (60, 500, 0.3))
    assert advice(early + checkpoints(*STEADY)) == advice(checkpoints(*STEADY))


def test_checkpoints_that_do_not_rise_or_fit_are_refused() -> None:
    with pytest.raises(InputError, match="n_labels"):
        advice(checkpoints(*STEADY)[::-1])
    other = Checkpoint(150, np.zeros(3, int), 0.9)
    with pytest.raises(InputError, match="shapes"):
        advice([*checkpoints(*STEADY), other])


def test_a_sample_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="size is 0"):
        fixed_sample(KEYS, 0)
