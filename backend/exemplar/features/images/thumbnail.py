"""An image as a small vector: what a thumbnail of it shows.

Like JPEG, it keeps brightness finer than colour: 16 × 16 luma values and 4 × 4 of each chroma, all in 0..1.
Small images are enlarged without smoothing, so that the distances between them stay those of their pixels.
"""

import io
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from exemplar.errors import TaskDataError
from exemplar.features.images.decoding import opened

LUMA_SIDE = 16
CHROMA_SIDE = 4
N_FEATURES = LUMA_SIDE**2 + 2 * CHROMA_SIDE**2
# Part of every snapshot: vectors of another kind are never mixed with these.
IDENTITY = f"ycbcr-thumbnail-{LUMA_SIDE}-{CHROMA_SIDE}-1"

# A larger image is made smaller before all else: to a multiple of what is kept, so that the averages stay the same.
SMALL_SIDE = 8 * LUMA_SIDE
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


def image_vector(data: bytes | BinaryIO) -> NDArray[np.float32]:
    """Return the vector of an encoded image, float32 of shape (N_FEATURES,), values in 0..1.

    Raises
    ------
    TaskDataError
        If it cannot be read, or only with more memory or time than an image is given.
    """
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        with opened(file, draft=(SMALL_SIDE, SMALL_SIDE)) as image:
            turn = _turn(image)
            small = _small(image)
            planes = _ycbcr(small if turn is None else small.transpose(turn)).split()
    except TaskDataError:
        raise
    except Exception as error:  # broken bytes make Pillow's decoders raise nearly anything
        n_bytes = file.seek(0, io.SEEK_END)
        raise TaskDataError(f"not an image that can be read ({n_bytes} bytes): {error}") from error
    sides = (LUMA_SIDE, CHROMA_SIDE, CHROMA_SIDE)
    thumbnails = (plane.resize((side, side), _filter(plane)) for plane, side in zip(planes, sides, strict=True))
    vector = np.concatenate([np.asarray(thumbnail, np.float32).ravel() for thumbnail in thumbnails])
    return np.asarray(vector / 255, np.float32)


def _small(image: Image.Image) -> Image.Image:
    """Make a large image smaller, so that what follows takes no memory to speak of."""
    if image.width * image.height <= LARGE:
        return image
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
    return plain.resize((min(image.width, SMALL_SIDE), min(image.height, SMALL_SIDE)), Image.Resampling.BOX)


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


def _ycbcr(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # more than 8 bits: PIL would clip them
        values = np.nan_to_num(np.asarray(image, np.float64))
        values -= values.min()
        image = Image.fromarray(np.uint8(values * (255 / (values.max() or 1))))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB").convert("YCbCr")


def _filter(plane: Image.Image) -> Image.Resampling:
    return Image.Resampling.BOX if min(plane.size) >= LUMA_SIDE else Image.Resampling.NEAREST
