"""Texts whose classes have names, as our encoder sees both: Banking77, and the standard library's own functions."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import data
import numpy as np

from exemplar.engine import Geometry, prior_of_names, similarities
from exemplar.features.texts.use import UniversalSentenceEncoder
from exemplar.features.texts.wordllama import WordLlama
from exemplar.labelstudio.label_config import Labeling
from exemplar.project.priors import words_of

# Packages of functions, and how many of each.
N_PACKAGES, N_EACH = 10, 200
KINDS_OF_NAMES = ("names", "A, B, C", "class 7", "exchanged", "random vectors")


@dataclass(frozen=True)
class NamedTexts:
    """A pool of texts whose classes have names: vectors, class indices, names."""

    name: str
    X: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]

    def prior(self, geometry: Geometry, kind: str = "names") -> np.ndarray:
        """Return what names of a kind say of the pool, as the product finds it."""
        return prior_of_names(geometry, similarities(self.X, self._vectors(kind)))

    def _vectors(self, kind: str) -> np.ndarray:
        n = len(self.names)
        if kind == "random vectors":
            return np.random.default_rng(0).standard_normal((n, self.X.shape[1]), np.float32)
        if kind == "exchanged":
            return self._vectors("names")[np.random.default_rng(0).permutation(n)]
        letters = tuple(chr(65 + i % 26) + chr(65 + i // 26) * (i > 25) for i in range(n))
        said = {"names": self.names, "A, B, C": letters, "class 7": tuple(f"class {i}" for i in range(n))}[kind]
        words = words_of(Labeling("class", "text", "text", "text", said))
        vectors = np.zeros((n, self.X.shape[1]), np.float32)
        named = [i for i, word in enumerate(words) if word]
        if named:
            vectors[named] = embed([words[i] for i in named])
        return vectors


def embed(texts: Sequence[str]) -> np.ndarray:
    """Return the texts as two sentence encoders see them, side by side, each of unit length."""
    return np.hstack([encoder.transform(texts) for encoder in _encoders()])


@cache
def _encoders() -> tuple[UniversalSentenceEncoder, WordLlama]:
    return UniversalSentenceEncoder(), WordLlama()


def sets() -> Iterator[NamedTexts]:
    """Yield the pools."""
    if data.is_there("banking77"):
        texts, categories = data.banking_texts("test")
        yield _named("Banking77's test file", texts, categories)
    yield _named("stdlib functions by package", *functions_by_package())


def _named(name: str, texts: Sequence[str], categories: Sequence[str]) -> NamedTexts:
    names = sorted(set(categories))
    return NamedTexts(name, embed(texts), np.array([names.index(one) for one in categories]), tuple(names))


def functions_by_package() -> tuple[list[str], list[str]]:
    """Return sources of functions of the standard library, and the packages that they are of."""
    root = Path(ast.__file__).parent
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.py")):
        package = path.relative_to(root).parts[0]
        if package.endswith(".py") or package in LEFT_OUT or {"test", "tests"} & set(path.parts):
            continue
        found.setdefault(package, []).extend(_functions(path))
    rng = np.random.default_rng(0)
    texts, packages = [], []
    for package in sorted(found, key=lambda package: -len(found[package]))[:N_PACKAGES]:
        for i in rng.permutation(len(found[package]))[:N_EACH]:
            texts.append(found[package][i])
            packages.append(package)
    order = rng.permutation(len(texts))
    return [texts[i] for i in order], [packages[i] for i in order]


LEFT_OUT = {"site-packages", "dist-packages", "test", "idlelib", "lib2to3", "turtledemo", "__pycache__"}


def _functions(path: Path) -> Iterator[str]:
    try:
        source = path.read_text()
        tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_source_segment(source, node)
            if text and 80 < len(text) < 2000:
                yield text
