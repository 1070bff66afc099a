"""What vectors are worth: accuracy after so many labels by the recipe that made them; and what they cost.

Each set goes through the very functions that the product calls: values are embedded, blocks weighted, and sessions
run as in accuracy.py. Accuracy is of the rest of the pool, or of a test set where there is one.

    .venv/bin/python benchmarks/features.py pictures [--seeds 3] [--only clipart …] [--recipes "lite0 + 0.5*hog" …]
    .venv/bin/python benchmarks/features.py texts
    .venv/bin/python benchmarks/features.py speed

Data: EXEMPLAR_BENCH_DATA. Writes benchmarks/results/features.csv, where what this run left out stays.
"""

import argparse
import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import features_pictures
import features_speed
import features_texts
import numpy as np
from data import is_there
from machine import describe
from sessions import ask, learned_from, test_classes
from threadpoolctl import threadpool_limits

from exemplar.engine import survey
from exemplar.features.blocks import scaled
from exemplar.features.registry import choose, decoder
from exemplar.recipes import read_recipe

COLUMNS = ["part", "set", "recipe", "seed", "labels", "accuracy"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Sets of one kind of values, and the recipes that are compared on them; ``auto`` is the product's default."""

    kind: str
    recipes: tuple[str, ...]
    sets: Callable[[], dict[str, tuple[str, Callable[[], Any]]]]


PARTS = {
    "pictures": Part("image", features_pictures.RECIPES, features_pictures.sets),
    "texts": Part("text", features_texts.RECIPES, features_texts.sets),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("part", choices=[*PARTS, "speed"])
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--only", nargs="*", help="sets")
    options.add_argument("--recipes", nargs="*")
    given = options.parse_args()
    print(describe("numpy", "scikit-learn", "onnxruntime", "pillow"), "\n")
    with threadpool_limits(1):
        if given.part == "speed":
            for line in features_speed.lines():
                print(line, flush=True)
        else:
            write(compared(given.part, given.only, given.recipes, range(given.seeds)))


def compared(part: str, only: Sequence[str] | None, recipes: Sequence[str] | None, seeds: range) -> Iterable[Row]:
    """Print a line for each set and recipe, and yield a row for each session and budget."""
    for name, (there, load) in PARTS[part].sets().items():
        if (only and name not in only) or not is_there(there):
            continue
        given = load()
        embedded: dict[str, np.ndarray] = {}
        for recipe in recipes or PARTS[part].recipes:
            X = vectors(PARTS[part].kind, given.values, recipe, embedded)
            found = np.array([session(X, given, seed) for seed in seeds])
            means = zip(given.budgets, 100 * found.mean(axis=0), 100 * found.std(axis=0), strict=True)
            cells = "   ".join(f"{budget}: {mean:.1f} ± {std:.1f}" for budget, mean, std in means)
            print(f"{name:14} {recipe:44} {cells}", flush=True)
            for seed, accuracies in zip(seeds, found, strict=True):
                for labels, accuracy in zip(given.budgets, accuracies, strict=True):
                    yield dict(zip(COLUMNS, (part, name, recipe, seed, labels, accuracy), strict=True))


def vectors(kind: str, values: Sequence[Any], recipe: str, embedded: dict[str, np.ndarray]) -> np.ndarray:
    """Return X as the product makes it; what an embedder has seen once is kept in ``embedded``."""
    choice = choose(kind, read_recipe(recipe))
    for embedder in choice.embedders:
        if embedder.identity not in embedded:
            model = embedder.fit(values) if hasattr(embedder, "fit") else embedder
            n = getattr(embedder, "batch_size", len(values))
            batches = [model.transform(values[start : start + n]) for start in range(0, len(values), n)]
            embedded[embedder.identity] = np.concatenate(batches)
    found = [embedded[embedder.identity] for embedder in choice.embedders]
    if len(found) == 1 and getattr(choice.embedders[0], "keeps_length", False):
        return found[0]
    weights = choice.weights_in(values) if decoder(kind) is None else choice.weights_among(found)
    return np.concatenate([scaled(X, weight) for X, weight in zip(found, weights, strict=True)], axis=1)


def session(X: np.ndarray, given: Any, seed: int) -> list[float]:
    """Return the accuracy at each budget of one session."""
    y, n_pool = given.y, given.n_pool or len(given.y)
    n_classes = int(y.max()) + 1
    geometry = survey(X[:n_pool], random_state=seed)
    asked = ask(geometry, y[:n_pool], n_classes, max(given.budgets), seed=seed)
    accuracies = []
    for budget in given.budgets:
        learned = learned_from(geometry, y[:n_pool], asked[:budget], n_classes)
        if n_pool < len(y):
            right = test_classes(geometry, learned, X[n_pool:]) == y[n_pool:]
        else:
            rest = np.setdiff1d(np.arange(n_pool), asked[:budget])
            right = learned.choices[rest] == y[rest]
        accuracies.append(float(right.mean()))
    return accuracies


def write(rows: Iterable[Row]) -> None:
    """Write the rows, and those of former runs that measured something else."""
    path = Path(__file__).parent / "results" / "features.csv"
    path.parent.mkdir(exist_ok=True)
    new = list(rows)
    measured = {(row["part"], row["set"], row["recipe"]) for row in new}
    if path.exists():
        with path.open(newline="") as file:
            before = list(csv.DictReader(file))
        new = [row for row in before if (row["part"], row["set"], row["recipe"]) not in measured] + new
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(new)


if __name__ == "__main__":
    main()
