"""The data sets of the benchmarks: digits comes with scikit-learn, the others from EXEMPLAR_BENCH_DATA."""

import csv
import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

FOLDER = Path(os.environ.get("EXEMPLAR_BENCH_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


@dataclass(frozen=True)
class Split:
    """A pool and held-out data: X float32, y class indices."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray

    @property
    def n_classes(self) -> int:
        return int(max(self.y.max(), self.y_test.max())) + 1


def is_there(name: str) -> bool:
    """Return whether a data set is at hand, and say so if it is not."""
    if name == "digits" or any(FOLDER.glob(f"{name}*")):
        return True
    print(f"{name}: no files {FOLDER.name}/{name}* (set EXEMPLAR_BENCH_DATA); left out")
    return False


def digits_of_the_book() -> Split:
    X, y = _digits()
    return Split(X[:1400], y[:1400], X[1400:], y[1400:])


def digits(seed: int) -> Split:
    return split(*_digits(), 1400, seed)


def one_rare_class(seed: int, *, rare: int = 8, share: float = 0.05) -> Split:
    """Return digits as "is it an 8", with so many eights taken away that they are 5 % of pool and test."""
    X, y = _digits()
    rng = np.random.default_rng(seed)
    others, rares = np.flatnonzero(y != rare), rng.permutation(np.flatnonzero(y == rare))
    rows = np.concatenate([others, rares[: round(share / (1 - share) * len(others))]])
    return split(X[rows], (y[rows] == rare).astype(int), round(len(rows) * 1400 / 1797), seed)


def mnist(seed: int, n_pool: int = 8000) -> Split:
    images = gzip.decompress((FOLDER / "mnist-10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((FOLDER / "mnist-10k-labels-idx1-ubyte.gz").read_bytes())
    X = np.frombuffer(images[16:], np.uint8).reshape(-1, 784).astype(np.float32) / 255
    return split(X, np.frombuffer(labels[8:], np.uint8).astype(int), n_pool, seed)


def banking() -> Split:
    """Return Banking77, its own train and test, as sentence vectors of all-MiniLM-L6-v2."""
    parts = {}
    for part in ("train", "test"):
        _, names = banking_texts(part)
        parts[part] = np.load(FOLDER / f"banking77-{part}-minilm-float16.npy").astype(np.float32), names
    classes = {name: i for i, name in enumerate(sorted(set(parts["train"][1])))}
    y, y_test = (np.array([classes[name] for name in parts[part][1]]) for part in ("train", "test"))
    return Split(parts["train"][0], y, parts["test"][0], y_test)


def banking_texts(part: str) -> tuple[list[str], list[str]]:
    """Return the messages of Banking77's train or test file, and the names of their classes."""
    with gzip.open(FOLDER / f"banking77-{part}.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["category"] for row in rows]


def embeddings(n_tasks: int, n_features: int, *, n_groups: int = 300, n_directions: int = 32) -> np.ndarray:
    """Return overlapping Gaussian groups in a few directions, and noise in all."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((n_groups, n_directions), dtype=np.float32)
    directions = rng.standard_normal((n_directions, n_features), dtype=np.float32) / np.float32(n_features**0.5)
    latent = centers[rng.integers(n_groups, size=n_tasks)]
    latent += np.float32(0.6) * rng.standard_normal(latent.shape, dtype=np.float32)
    noise = rng.standard_normal((n_tasks, n_features), dtype=np.float32)
    return latent @ directions + np.float32(0.05) * noise


def _digits() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return X.astype(np.float32), y


def split(X: np.ndarray, y: np.ndarray, n_pool: int, seed: int) -> Split:
    """Return a pool drawn at random, and the rest as held-out data."""
    order = np.random.default_rng(seed).permutation(len(X))
    pool, test = order[:n_pool], order[n_pool:]
    return Split(X[pool], y[pool], X[test], y[test])
