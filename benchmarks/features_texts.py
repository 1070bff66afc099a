"""Texts for features.py: messages of customers, and code."""

import ast
import csv
import gzip
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from data import FOLDER

# ``auto`` is the product's default; then each kind by itself, and what serves where no pretrained model can be had.
RECIPES = ("auto", "words", "ngrams", "wordllama", "use", "use + wordllama", "use + 0.5*ngrams", "use + ngrams")
# As in named.py.
N_PACKAGES, N_OF_A_PACKAGE, FEWEST, MOST_CHARACTERS = 10, 200, 80, 2_000
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "__phello__"}


@dataclass(frozen=True)
class Texts:
    """Texts and their classes; the whole of them is the pool."""

    values: list[str]
    y: np.ndarray
    budgets: tuple[int, ...]
    n_pool: int | None = None


def sets() -> dict[str, tuple[str, Callable[[], Texts]]]:
    """Return for each set what its files begin with (none are needed for those of "digits"), and how it is read."""
    return {
        "banking77": ("banking77", banking),
        "stdlib": ("digits", functions_by_package),
    }


def banking() -> Texts:
    with gzip.open(FOLDER / "banking77-train.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    return _texts([(row["text"], row["category"]) for row in rows], (77, 154, 385))


def functions_by_package() -> Texts:
    """Return functions of the standard library; their class is the top-level package that they are of."""
    rng = np.random.default_rng(0)
    packages: dict[str, list[str]] = {}
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if len(parts) > 1 and not LEFT_OUT.intersection(parts):
            packages.setdefault(parts[0], []).extend(_functions(path))
    largest = sorted(packages, key=lambda package: -len(packages[package]))[:N_PACKAGES]
    drawn = {package: rng.permutation(len(packages[package]))[:N_OF_A_PACKAGE] for package in largest}
    return _texts([(packages[package][i], package) for package in largest for i in drawn[package]], (50, 200))


def _functions(path: Path) -> Iterator[str]:
    try:
        source = path.read_text(encoding="utf-8")
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_source_segment(source, node) or ""
            if FEWEST < len(text) < MOST_CHARACTERS:
                yield text


def _texts(pairs: list[tuple[str, str]], budgets: tuple[int, ...]) -> Texts:
    """Return each text once, in an order drawn at random."""
    pairs = list(dict(pairs).items())
    order = np.random.default_rng(0).permutation(len(pairs))
    y = np.unique([pairs[i][1] for i in order], return_inverse=True)[1]
    return Texts([pairs[i][0] for i in order], y, budgets)
