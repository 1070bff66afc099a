"""An encoded image as a picture: upright, on white, and no larger than the embedders of images need."""

import io
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from exemplar.errors import TaskDataError
from exemplar.features.images.decoding import decoded

# Pixels of the shorter side, and at most of the other one: a strip of a million pixels is squeezed.
SIDE, LONG_SIDE = 256, 1024
# A larger image is made smaller before all else, in whatever mode it is.
LARGE = 4_000_000
# Cameras write less; to read many times as much is what a spoilt block is for.
MAX_EXIF = 2**16
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, eq=False)
class Picture:
    """What embedders of images take: ``rgb``, uint8 of shape (height, width, 3)."""

    rgb: NDArray[np.uint8]


def decode(data: bytes | BinaryIO) -> Picture:
    """Return the picture in an encoded image; of an animation the first frame.

    Raises
    ------
    TaskDataError
        If it cannot be read, or only with more memory or time than an image is given.
    """
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        return decoded(file, _picture, draft=(SIDE, SIDE))
    except TaskDataError:
        raise
    except Exception as error:  # broken bytes make Pillow's decoders raise nearly anything
        n_bytes = file.seek(0, io.SEEK_END)
        raise TaskDataError(f"not an image that can be read ({n_bytes} bytes): {error}") from error


def _picture(image: Image.Image) -> Picture:
    turn = _turn(image)
    small = _small(image) if image.width * image.height > LARGE else image
    plain = _rgb(small if turn is None else small.transpose(turn))
    return Picture(np.array(plain.resize(_size(plain), Image.Resampling.BOX)))


def _size(image: Image.Image) -> tuple[int, int]:
    """Return the width and height that an image is given: its own, if they are small."""
    scale = min(1.0, SIDE / min(image.size))
    width, height = (min(LONG_SIDE, max(1, round(side * scale))) for side in image.size)
    return width, height


def _small(image: Image.Image) -> Image.Image:
    """Make a large image smaller, so that what follows takes no memory to speak of."""
    if image.mode == "1":
        plain = image.convert("L")
    elif image.mode in ("P", "PA"):
        plain = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode.startswith("I;16"):
        plain = image.convert("I")
    elif "transparency" in image.info:  # one colour of an image without alpha
        plain = image.convert("RGBA")
    else:
        plain = image
    return plain.resize(_size(plain), Image.Resampling.BOX)


def _has_plain_exif(image: Image.Image) -> bool:
    """Return whether an image's EXIF block is no larger than one that a camera writes."""
    blocks = (image.info.get(name, b"") for name in ("exif", "Raw profile type exif"))
    return sum(len(block) for block in blocks) <= MAX_EXIF


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return how to turn a photo as its EXIF orientation says.

    Not ``ImageOps.exif_transpose``: it also writes the EXIF back, and fails on tags that cameras got wrong.
    """
    if not _has_plain_exif(image):
        return None
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # an EXIF block that cannot be read says nothing
        return None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # more than 8 bits: PIL would clip them
        values = np.nan_to_num(np.asarray(image, np.float64))
        values -= values.min()
        image = Image.fromarray(np.uint8(values * (255 / (values.max() or 1))))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")
