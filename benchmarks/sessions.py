"""Sessions of an annotator who answers with the truth, through the very functions that the product calls."""

from collections.abc import Sequence

import numpy as np
from data import Split

from exemplar.engine import UNLABELED, Geometry, survey
from exemplar.project.learn import Answers, Learned, classify, learn, plan
from exemplar.settings import Settings

DEFAULT = Settings()


def answers_of(y: np.ndarray, rows: Sequence[int], n_classes: int) -> Answers:
    """Return the answers of somebody who was asked these rows, in this order."""
    shares = np.zeros((len(y), n_classes), np.float32)
    said = np.full(len(y), UNLABELED)
    rows = np.array(rows, np.intp)
    shares[rows, y[rows]] = 1
    said[rows] = y[rows]
    return Answers(shares, said, rows)


def audits_of(n_tasks: int, share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(n_tasks)[: round(n_tasks * share / 100)]


def ask(
    geometry: Geometry, y: np.ndarray, n_classes: int, n: int, *, settings: Settings = DEFAULT, seed: int = 0
) -> list[int]:
    """Return the rows that the queue asks, one after the other, of an annotator who answers y."""
    audits = audits_of(geometry.n_tasks, settings.audit_share, seed)
    asked: list[int] = []
    waiting: list[int] = []
    while len(asked) < n:
        if not waiting:
            rows, _ = plan(geometry, answers_of(y, asked, n_classes), settings, audits)
            waiting = rows[:5].tolist()  # the product plans anew after five annotations
        asked.append(waiting.pop(0))
    return asked


def learned_from(
    geometry: Geometry, y: np.ndarray, rows: Sequence[int], n_classes: int, *, settings: Settings = DEFAULT
) -> Learned:
    return learn(geometry, answers_of(y, rows, n_classes), settings, audits=np.empty(0, np.intp))


def pool_accuracy(learned: Learned, y: np.ndarray) -> float:
    """Return the share of the whole pool's labels that are right, the annotators' among them."""
    return float(np.mean(learned.choices == y))


def test_classes(geometry: Geometry, learned: Learned, X: np.ndarray) -> np.ndarray:
    found = learned.inference
    proba = classify(geometry, found.distributions, learned.classifier, X, averaged_at=found.averaged_at)
    return proba.argmax(axis=1)


def curve(
    split: Split, budgets: Sequence[int], *, settings: Settings = DEFAULT, seed: int = 0
) -> dict[int, tuple[float, float]]:
    """Return the accuracies on test and pool after so many labels of one session."""
    geometry = survey(split.X, random_state=seed)
    asked = ask(geometry, split.y, split.n_classes, max(budgets), settings=settings, seed=seed)
    found = {}
    for budget in budgets:
        learned = learned_from(geometry, split.y, asked[:budget], split.n_classes, settings=settings)
        right = test_classes(geometry, learned, split.X_test) == split.y_test
        found[budget] = float(right.mean()), pool_accuracy(learned, split.y)
    return found
