"""Pictures for features.py: drawings in colour, clothes, digits written by hand, scikit-learn's tiny ones."""

import csv
import gzip
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from data import FOLDER
from sklearn.datasets import load_digits

from exemplar.features.images import Picture, decode

# ``auto`` is the product's default; then each kind by itself, and what serves where the network cannot be had.
RECIPES = ("auto", "thumbnail", "hog", "colours", "textures", "lite0", "hog + 0.7*colours + textures")


@dataclass(frozen=True)
class Pictures:
    """Pictures and their classes; those from n_pool on are the test set."""

    values: list[Picture]
    y: np.ndarray
    budgets: tuple[int, ...]
    n_pool: int | None = None


def sets() -> dict[str, tuple[str, Callable[[], Pictures]]]:
    """Return for each set what its files begin with, and how it is read."""
    return {
        "clipart": ("clipart", clipart),
        "fashion 3000": ("fashion", lambda: of_28_pixels("fashion", 3000)),
        "mnist 3000": ("mnist", lambda: of_28_pixels("mnist", 3000)),
        "mnist 8000": ("mnist", lambda: of_28_pixels("mnist", 8000)),
        "digits, book": ("digits", digits_of_the_book),
    }


def clipart() -> Pictures:
    with zipfile.ZipFile(FOLDER / "clipart.zip") as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("labels.csv"))))
        values = [decode(archive.read(row["file"])) for row in rows]
    y = np.unique([row["label"] for row in rows], return_inverse=True)[1]
    return Pictures(values, y, (50, 100))


def of_28_pixels(name: str, n: int) -> Pictures:
    """Return so many of ten thousand grey pictures, drawn at random."""
    images = gzip.decompress((FOLDER / f"{name}-10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((FOLDER / f"{name}-10k-labels-idx1-ubyte.gz").read_bytes())
    grey = np.frombuffer(images[16:], np.uint8).reshape(-1, 28, 28)
    rows = np.random.default_rng(0).permutation(len(grey))[:n]
    return Pictures(in_colour(grey[rows]), np.frombuffer(labels[8:], np.uint8).astype(int)[rows], (50, 100))


def digits_of_the_book() -> Pictures:
    X, y = load_digits(return_X_y=True)
    grey = np.uint8(X.reshape(-1, 8, 8) * (255 / 16))
    return Pictures(in_colour(grey), y, (15, 30, 50), n_pool=1400)


def in_colour(grey: np.ndarray) -> list[Picture]:
    return [Picture(np.repeat(image[:, :, None], 3, axis=2)) for image in grey]
