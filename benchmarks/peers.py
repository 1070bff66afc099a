"""The same labels' worth of work with the libraries that people use for it today, paired by seed.

Each peer chooses from the same vectors of the same pool; what it chose trains scikit-learn's LogisticRegression, as
in the libraries' own examples (label spreading and self-training are classifiers themselves). What the
product does by default is in accuracy.py. Peers that need a model begin with random labels, at least 10 and one a
class.

    .venv/bin/python benchmarks/peers.py [--seeds 10] [--only "digits, book" mnist]    (data: EXEMPLAR_BENCH_DATA)

Adds its rows to benchmarks/results/accuracy.csv, from which accuracy.py draws the learning curves.
"""

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import accuracy
import numpy as np
from accuracy import ClassesAt, compare, splits, write
from data import Split, is_there
from machine import describe
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from threadpoolctl import threadpool_limits

# A model is trained anew after so many answers, and at least so often in a session.
BATCH, ROUNDS = 5, 20
UNKNOWN = -1


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--only", nargs="*", default=["digits, book", "mnist"])
    options.add_argument("--methods", nargs="*", default=[*PEERS])
    given = options.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", RuntimeWarning)  # label spreading divides by zeros
    print(describe("scikit-learn", "scikit-activeml", "small-text", "numpy"), "\n")
    accuracy.SESSIONS.update({name: timed(name, session) for name, session in PEERS.items()})
    with threadpool_limits(1, user_api="blas"):
        for name, (there, split_of, _) in splits(given.seeds).items():
            if name in given.only and is_there(there):
                compare(name, partial(on_their_scale, split_of), range(given.seeds), given.methods)
    write()


def on_their_scale(split_of: Callable[[int], Split], seed: int) -> Split:
    """Return a split whose vectors, where they are about of unit length, vary by 1 on average.

    With C = 1, LogisticRegression underfits unit vectors. Ours is not run here on other vectors than the product's.
    """
    split = split_of(seed)
    scale = 1.0 if np.linalg.norm(split.X, axis=1).mean() > 2 else float(split.X.std(axis=0).mean())
    return replace(split, X=split.X / scale, X_test=split.X_test / scale)


def timed(name: str, session: Callable[[Split, int, int], ClassesAt]) -> Callable[[Split, int, int], ClassesAt]:
    """Say how long choosing takes, once."""
    told: list[float] = []

    def told_once(split: Split, most: int, seed: int) -> ClassesAt:
        started = time.perf_counter()
        classes_at = session(split, most, seed)
        if not told:
            told.append(time.perf_counter() - started)
            print(f"  ({name}: {told[0]:.1f} s to choose {most} of {len(split.y)})", flush=True)
        return classes_at

    return told_once


def logistic_on(split: Split, asked: np.ndarray) -> ClassesAt:
    """Train on the first answers and predict the rest; what was answered is known."""

    def classes_at(budget: int) -> tuple[np.ndarray, np.ndarray]:
        known = asked[:budget]
        if len(set(split.y[known])) < 2:
            test, pool = (np.full(len(y), split.y[known[0]]) for y in (split.y_test, split.y))
        else:
            model = _logistic().fit(split.X[known], split.y[known])
            test, pool = model.predict(split.X_test), model.predict(split.X)
        pool[known] = split.y[known]
        return test, pool

    return classes_at


def _logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=1000)


def _start(split: Split, seed: int) -> np.ndarray:
    """Return random tasks to begin with: as many as there are classes, and of at least two of these."""
    order = np.random.default_rng(seed).permutation(len(split.y))
    n = max(10, split.n_classes)
    while len(set(split.y[order[:n]])) < 2:
        n += 1
    return order[:n]


def _batch(most: int) -> int:
    return max(BATCH, most // ROUNDS)


# ── scikit-activeml ──────────────────────────────────────────────────────────────────────────────────────


def skactiveml_without_model(strategy: str, split: Split, most: int, seed: int) -> ClassesAt:
    """A strategy that looks at the vectors alone, asked once for all tasks."""
    from skactiveml import pool

    y = np.full(len(split.y), np.nan)
    asked = getattr(pool, strategy)(random_state=seed).query(split.X.astype(float), y, batch_size=most)
    return logistic_on(split, asked)


def skactiveml_margin(split: Split, most: int, seed: int) -> ClassesAt:
    from skactiveml.classifier import SklearnClassifier
    from skactiveml.pool import UncertaintySampling

    strategy = UncertaintySampling(method="margin_sampling", random_state=seed)
    X, y = split.X.astype(float), np.full(len(split.y), np.nan)
    asked = _start(split, seed)
    while len(asked) < most:
        y[asked] = split.y[asked]
        classifier = SklearnClassifier(_logistic(), classes=np.arange(split.n_classes), random_state=seed)
        chosen = strategy.query(X, y, clf=classifier, batch_size=min(_batch(most), most - len(asked)))
        asked = np.concatenate([asked, chosen])
    return logistic_on(split, asked)


# ── small-text ───────────────────────────────────────────────────────────────────────────────────────────


def small_text(strategy: str, split: Split, most: int, seed: int) -> ClassesAt:
    """Its learner with its own loop: initialize, query, update."""
    import small_text as st

    np.random.seed(seed)  # it has no other
    classes = np.arange(split.n_classes)
    dataset = st.SklearnDataset(split.X, split.y, target_labels=classes)
    factory = st.SklearnClassifierFactory(_logistic(), split.n_classes)
    learner = st.PoolBasedActiveLearner(factory, getattr(st, strategy)(), dataset)
    asked = _start(split, seed)
    learner.initialize_data(asked, split.y[asked])
    while len(asked) < most:
        chosen = learner.query(num_samples=min(_batch(most), most - len(asked)))
        learner.update(split.y[chosen])
        asked = np.concatenate([asked, chosen])
    return logistic_on(split, asked)


# ── scikit-learn ─────────────────────────────────────────────────────────────────────────────────────────


def semi_supervised(make: Callable[[], object], split: Split, most: int, seed: int) -> ClassesAt:
    """Random labels, and a method that learns from the unlabelled rest as well."""
    asked = np.random.default_rng(seed).permutation(len(split.y))[:most]

    def classes_at(budget: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.full(len(split.y), UNKNOWN)
        y[asked[:budget]] = split.y[asked[:budget]]
        model = make().fit(split.X, y)
        pool = model.predict(split.X)
        pool[asked[:budget]] = split.y[asked[:budget]]
        return model.predict(split.X_test), pool

    return classes_at


PEERS: dict[str, Callable[[Split, int, int], ClassesAt]] = {
    "scikit-activeml TypiClust": partial(skactiveml_without_model, "TypiClust"),
    "scikit-activeml margin": skactiveml_margin,
    "small-text BreakingTies": partial(small_text, "BreakingTies"),
    "small-text PredictionEntropy": partial(small_text, "PredictionEntropy"),
    "random + LabelSpreading": partial(semi_supervised, lambda: LabelSpreading(kernel="knn", n_neighbors=7)),
    "random + SelfTraining": partial(semi_supervised, lambda: SelfTrainingClassifier(_logistic())),
}


if __name__ == "__main__":
    main()
