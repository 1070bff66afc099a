"""The textbook's ladder: what each step of its pipeline is worth, over many seeds.

.venv/bin/python benchmarks/textbook.py [--seeds 20]
"""

import argparse

import numpy as np
from machine import describe
from sklearn.datasets import load_digits

from exemplar.engine import textbook_ladder

# Géron, "Hands-On Machine Learning", ch. 9: one seed, its printed figures.
BOOK = {
    "50 random": 74.8,
    "50 representatives": 84.9,
    "propagated to the whole cluster": 89.4,
    "without the farthest 1 %": 90.9,
    "all 1400 labels": 90.7,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=20)
    n_seeds = arguments.parse_args().seeds

    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    ladder = textbook_ladder(X[:1400], y[:1400], X[1400:], y[1400:], seeds=range(n_seeds))
    print(describe("scikit-learn", "numpy"))
    print(f"Digits: pool 1 400, test 397, LogisticRegression; {n_seeds} seeds\n")
    print(f"{'step':34}{'mean':>7}{'std':>6}{'min':>7}{'max':>7}{'book':>7}")
    for step, accuracies in ladder.items():
        percent = 100 * accuracies
        print(
            f"{step:34}{percent.mean():7.1f}{percent.std():6.1f}{percent.min():7.1f}{percent.max():7.1f}"
            f"{BOOK[step]:7.1f}"
        )
    difference = 100 * (ladder["without the farthest 1 %"] - ladder["propagated to the whole cluster"])
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    print(
        f"\nWhat leaving out the farthest 1 % changes, paired by seed: {difference.mean():+.2f} points "
        f"(95 % interval {difference.mean() - 1.96 * error:+.2f} to {difference.mean() + 1.96 * error:+.2f})"
    )


if __name__ == "__main__":
    main()
