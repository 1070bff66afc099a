"""The demo's data: scikit-learn's 8 × 8 digits as PNG files, with the truth in the file's name.

The first 1 400 are the pool that is uploaded; the last 397 are held out to measure the classifier.
"""

import base64
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

import exemplar
from exemplar.demo.dataset import Dataset, NumberedFiles
from exemplar.demo.processes import DemoError

POOL = range(1400)
HELD_OUT = range(1400, 1797)
_INK = 16  # the digits' intensities are whole numbers from 0 to this
_SIDE = 64
_FILES = NumberedFiles("digit", "png")


@cache
def pixels() -> NDArray[np.float32]:
    """Return the intensities of all digits, of shape (1797, 64), from 0 to 16."""
    return np.asarray(load_digits().data, dtype=np.float32)


@cache
def truth() -> NDArray[np.intp]:
    """Return which digit each image shows, of shape (1797,)."""
    return np.asarray(load_digits().target, dtype=np.intp)


def png(index: int) -> bytes:
    """Return one digit as a grey PNG of 64 × 64; ``round(grey * 16 / 255)`` gives its intensities back."""
    grey = np.rint(pixels()[index].reshape(8, 8) * 255 / _INK).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).resize((_SIDE, _SIDE), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def file_name(index: int) -> str:
    """Return the name of one digit's file.

    >>> file_name(7)
    'digit-0007.png'
    """
    return _FILES.name(index)


def true_digit(task_data: Mapping[str, object]) -> int:
    """Return the digit that a task's image shows."""
    return int(truth()[_FILES.index_of(task_data)])


def dataset() -> Dataset:
    """Return them as the demo's data."""
    return Dataset(
        name="digits",
        title="Digits",
        examples="digits",
        label_config=_label_config(),
        truth=tuple(str(digit) for digit in truth().tolist()),
        n_pool=len(POOL),
        data=lambda index: {"image": "data:image/png;base64," + base64.b64encode(png(index)).decode()},
        imported=lambda indices: _FILES.imported(indices, png),
        index_of=_FILES.index_of,
        textbook="pixels",
        textbook_vectors=pixels,
    )


def _label_config() -> str:
    """Return the digits' label config: in an installed package it lies inside, in a checkout at the root."""
    for folder in (Path(exemplar.__file__).parent, Path(__file__).parents[3]):
        if (folder / "label_config.xml").exists():
            return (folder / "label_config.xml").read_text()
    raise DemoError("label_config.xml: expected inside the package exemplar or at the checkout's root")
