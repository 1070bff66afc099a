"""From which confidence on is a tick right? Sessions after few answers, with names of the classes and without.

.venv/bin/python benchmarks/shown.py [--seeds 3]

Of the tasks that nobody has answered: how many are ticked with a floor, and how many of these are right. The
default of EXEMPLAR_SHOWN_FROM is the lowest floor (in steps of 5 %) with which 70 % are right, of each set and
after each number of answers.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import data
import named
import numpy as np
from machine import describe
from sessions import DEFAULT, answers_of, ask

from exemplar.engine import UNLABELED, Geometry, survey
from exemplar.project.learn import learn

BUDGETS = (0, 1, 5, 10, 20, 50)
FLOORS = (0.0, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Seen:
    """The tasks without an answer at one moment of a session: how sure we were of each, and whether rightly."""

    name: str
    n_answers: int
    confidence: np.ndarray
    right: np.ndarray


def pools(seed: int) -> Iterator[tuple[str, Geometry, np.ndarray, list[np.ndarray]]]:
    """Yield each pool with its truth and its priors."""
    for name, split in vectors(seed):
        yield name, survey(split.X, random_state=seed), split.y, []
    for texts in named.sets():
        geometry = survey(texts.X, random_state=seed)
        yield f"{texts.name}, no names", geometry, texts.y, []
        yield f"{texts.name}, names", geometry, texts.y, [texts.prior(geometry)]


def vectors(seed: int) -> Iterator[tuple[str, data.Split]]:
    """Yield what has no names that an encoder knows: pictures, and sentence vectors of another encoder."""
    yield "digits", data.digits(seed)
    if data.is_there("mnist"):
        yield "MNIST, 3 000", data.mnist(seed, 3000)
    if data.is_there("banking77"):
        yield "Banking77, MiniLM", data.banking()


def session(name: str, geometry: Geometry, y: np.ndarray, priors: list[np.ndarray], seed: int) -> Iterator[Seen]:
    """Yield what one session saw after each number of answers."""
    n_classes = int(y.max()) + 1
    asked = ask(geometry, y, n_classes, max(BUDGETS), seed=seed)
    for n in BUDGETS:
        answers = answers_of(y, asked[:n], n_classes)
        learned = learn(geometry, answers, DEFAULT, audits=np.empty(0, np.intp), priors=priors)
        rest = (answers.y == UNLABELED) & (learned.choices != UNLABELED)
        confidence = learned.inference.distributions[np.arange(len(y)), np.maximum(learned.choices, 0)]
        yield Seen(name, n, confidence[rest], (learned.choices == y)[rest])


def line(seen: list[Seen]) -> str:
    """Return for each floor how many of the ticks are right, and how many tasks are ticked."""
    confidence = np.concatenate([one.confidence for one in seen])
    right = np.concatenate([one.right for one in seen])
    cells = []
    for floor in FLOORS:
        shown = confidence >= floor
        cells.append(f"{right[shown].mean():5.0%} of {shown.mean():4.0%}" if shown.any() else f"{'–':>13}")
    return "  ".join(cells)


def main() -> None:
    """Print the table: right ticks of all ticks, of all tasks that are ticked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    print(describe("scikit-learn"))
    print(
        f"{'ticks that are right, of so many tasks ticked':<44}"
        + "  ".join(f"{f'from {f:.0%}':>13}" for f in FLOORS)
    )
    by_set: dict[str, list[Seen]] = defaultdict(list)
    by_budget: dict[int, list[Seen]] = defaultdict(list)
    for seed in range(seeds):
        for name, geometry, y, priors in pools(seed):
            for seen in session(name, geometry, y, priors, seed):
                by_set[name].append(seen)
                by_budget[seen.n_answers].append(seen)
    for name, found in by_set.items():
        for n in BUDGETS:
            at = [seen for seen in found if seen.n_answers == n and len(seen.right)]
            if at:
                print(f"{name:<28}{n:>3} answers    {line(at)}")
        print(f"{name:<28}all{'':<12} {line(found)}\n")
    for n, found in by_budget.items():
        print(f"{'all sets':<28}{n:>3} answers    {line(found)}")
    print(f"{'all':<44}{line([seen for found in by_set.values() for seen in found])}")


if __name__ == "__main__":
    main()
