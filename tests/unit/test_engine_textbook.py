"""The textbook's ladder on the textbook's data, over a few seeds."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from exemplar.engine import textbook_ladder

SEEDS = range(6)
STEPS = [
    "50 random",
    "50 representatives",
    "propagated to the whole cluster",
    "without the farthest 1 %",
    "all 1400 labels",
]


def run(seeds: range) -> dict[str, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return textbook_ladder(X[:1400], y[:1400], X[1400:], y[1400:], seeds=seeds)


@pytest.fixture(scope="module")
def ladder() -> dict[str, np.ndarray]:
    return run(SEEDS)


def test_steps_stand_in_the_textbooks_order(ladder: dict[str, np.ndarray]) -> None:
    assert list(ladder) == STEPS
    assert {step.shape for step in ladder.values()} == {(len(SEEDS),)}


def test_representatives_beat_random_tasks_on_average(ladder: dict[str, np.ndarray]) -> None:
    assert ladder["50 representatives"].mean() > ladder["50 random"].mean() + 0.03


def test_propagation_adds_to_representatives_on_average(ladder: dict[str, np.ndarray]) -> None:
    assert ladder["propagated to the whole cluster"].mean() > ladder["50 representatives"].mean()
    assert ladder["without the farthest 1 %"].mean() > ladder["50 representatives"].mean()


def test_all_labels_are_the_ceiling_and_no_seed_moves_it(ladder: dict[str, np.ndarray]) -> None:
    ceiling = ladder["all 1400 labels"]
    assert 0.88 < ceiling[0] < 0.94
    assert len(set(ceiling)) == 1
    assert all(step.mean() <= ceiling[0] for step in ladder.values())


def test_fifty_labels_are_worth_most_of_all(ladder: dict[str, np.ndarray]) -> None:
    assert 0.80 < ladder["propagated to the whole cluster"].mean() < 0.93


def test_a_seed_gives_the_same_whatever_seeds_are_beside_it(ladder: dict[str, np.ndarray]) -> None:
    again = run(range(2, 3))
    assert {step: accuracies[2] for step, accuracies in ladder.items()} == {
        step: accuracies[0] for step, accuracies in again.items()
    }


def test_a_pool_of_one_class_is_still_measured() -> None:
    X = np.float32([[0], [1], [2], [3]])
    ladder = textbook_ladder(X, np.zeros(4, int), X, np.array([0, 0, 0, 1]), n_clusters=2, seeds=range(2))
    assert {accuracy for step in ladder.values() for accuracy in step} == {0.75}
