"""The demo's data: scikit-learn's 8 × 8 digits as PNG files, with the truth in the file's name.

The first 1 400 are the pool that is uploaded; the last 397 are held out to measure the classifier.
"""

import io
import re
from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

POOL = range(1400)
HELD_OUT = range(1400, 1797)
_INK = 16  # the digits' intensities are whole numbers from 0 to this
_SIDE = 64
_FILE_NAME = re.compile(r"digit-(\d{4})\.png$")


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
    return f"digit-{index:04d}.png"


def index_of(task_data: Mapping[str, object]) -> int:
    """Return which of the digits a task shows, by its file's name; Label Studio puts a prefix before it.

    >>> index_of({"image": "/data/upload/1/ea10b01a-digit-0007.png"})
    7
    """
    address = str(task_data.get("image", ""))
    name = _FILE_NAME.search(address)
    if name is None:
        raise ValueError(f"image={address!r}: expected a file that was uploaded as digit-NNNN.png")
    return int(name[1])


def true_digit(task_data: Mapping[str, object]) -> int:
    """Return the digit that a task's image shows."""
    return int(truth()[index_of(task_data)])
