"""What are the names of the classes worth? Sessions with names, without, and with names that say nothing.

.venv/bin/python benchmarks/priors.py [--seeds 3]

Through the product's plan and learn, audits included: accuracy in % on the tasks of the pool that nobody has
answered. The queue is the same for all, for it does not know of priors.
"""

import argparse
import time

import named
import numpy as np
from machine import describe
from sessions import DEFAULT, answers_of, ask

from exemplar.engine import UNLABELED, Geometry, survey
from exemplar.project.learn import Learned, learn

BUDGETS = {"Banking77's test file": (0, 1, 5, 25, 77, 154, 385), "others": (0, 1, 5, 12, 25, 50, 100, 200)}


def learned_from(geometry: Geometry, y: np.ndarray, asked: list[int], priors: list[np.ndarray]) -> Learned:
    answers = answers_of(y, asked, int(y.max()) + 1)
    return learn(geometry, answers, DEFAULT, audits=np.empty(0, np.intp), priors=priors)


def accuracy(learned: Learned, y: np.ndarray, asked: list[int]) -> float:
    """Return how many of the tasks without an answer are predicted rightly; nothing predicted is wrong."""
    rest = np.ones(len(y), bool)
    rest[asked] = False
    return 100 * float(np.mean((learned.choices == y)[rest & (y != UNLABELED)]))


def rows_of(texts: named.NamedTexts, seeds: int) -> dict[tuple[int, str], list[float]]:
    """Return the accuracies of all sessions on one pool, by number of answers and kind of names."""
    found: dict[tuple[int, str], list[float]] = {}
    budgets = BUDGETS.get(texts.name, BUDGETS["others"])
    for seed in range(seeds):
        geometry = survey(texts.X, random_state=seed)
        asked = ask(geometry, texts.y, len(texts.names), max(budgets), seed=seed)
        started = time.perf_counter()
        priors = {"none": []} | {kind: [texts.prior(geometry, kind)] for kind in named.KINDS_OF_NAMES}
        each = (time.perf_counter() - started) / len(named.KINDS_OF_NAMES)
        for n in budgets:
            for kind, prior in priors.items():
                learned = learned_from(geometry, texts.y, asked[:n], prior)
                found.setdefault((n, kind), []).append(accuracy(learned, texts.y, asked[:n]))
    print(f"{texts.name}: {len(texts.X)} texts, {len(texts.names)} classes; a prior takes {each:.1f} s")
    return found


def main() -> None:
    """Print a table for each pool: without names, and by how much each kind of names is better."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    print(describe("scikit-learn"), f"{seeds} seeds", sep="; ")
    for texts in named.sets():
        found = rows_of(texts, seeds)
        print(
            f"{'answers':>8}{'none':>8}{'names':>8}  by which better:"
            + "".join(f"{k:>16}" for k in named.KINDS_OF_NAMES)
        )
        for n in sorted({n for n, _ in found}):
            none = np.mean(found[n, "none"])
            gains = [np.mean(found[n, kind]) - none for kind in named.KINDS_OF_NAMES]
            print(
                f"{n:>8}{none:>8.1f}{none + gains[0]:>8.1f}{'':18}" + "".join(f"{gain:>+16.1f}" for gain in gains)
            )


if __name__ == "__main__":
    main()
