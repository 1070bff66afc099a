"""An image as a small vector: what a thumbnail of it shows.

Like JPEG, it keeps brightness finer than colour: 16 × 16 luma values and 4 × 4 of each chroma, all in 0..1.
Small images are enlarged without smoothing, so that the distances between them stay those of their pixels.
"""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from exemplar.errors import TaskDataError

LUMA_SIDE = 16
CHROMA_SIDE = 4
N_FEATURES = LUMA_SIDE**2 + 2 * CHROMA_SIDE**2
# Part of every snapshot: vectors of another kind are never mixed with these.
IDENTITY = f"ycbcr-thumbnail-{LUMA_SIDE}-{CHROMA_SIDE}-1"


def image_vector(data: bytes) -> NDArray[np.float32]:
    """Return the vector of an encoded image, float32 of shape (N_FEATURES,), values in 0..1.

    Raises
    ------
    TaskDataError
        If Pillow cannot read it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                image.draft("RGB", (8 * LUMA_SIDE, 8 * LUMA_SIDE))  # JPEG decodes smaller, 4× faster
                planes = _ycbcr(ImageOps.exif_transpose(image)).split()
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise TaskDataError(f"not an image that can be read ({len(data)} bytes): {error}") from error
    sides = (LUMA_SIDE, CHROMA_SIDE, CHROMA_SIDE)
    thumbnails = (plane.resize((side, side), _filter(plane)) for plane, side in zip(planes, sides, strict=True))
    vector = np.concatenate([np.asarray(thumbnail, np.float32).ravel() for thumbnail in thumbnails])
    return np.asarray(vector / 255, np.float32)


def _ycbcr(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # more than 8 bits: PIL would clip them
        values = np.asarray(image, np.float64)
        values -= values.min()
        image = Image.fromarray(np.uint8(values * (255 / (values.max() or 1))))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB").convert("YCbCr")


def _filter(plane: Image.Image) -> Image.Resampling:
    return Image.Resampling.BOX if min(plane.size) >= LUMA_SIDE else Image.Resampling.NEAREST
