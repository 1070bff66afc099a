"""An image as a small vector: what a thumbnail of it shows.

Like JPEG, it keeps brightness finer than colour: 16 × 16 luma values and 4 × 4 of each chroma, all in 0..1.
Small images are enlarged without smoothing, so that the distances between them stay those of their pixels.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from exemplar.errors import TaskDataError

LUMA_SIDE = 16
CHROMA_SIDE = 4
N_FEATURES = LUMA_SIDE**2 + 2 * CHROMA_SIDE**2
# Part of every snapshot: vectors of another kind are never mixed with these.
IDENTITY = f"ycbcr-thumbnail-{LUMA_SIDE}-{CHROMA_SIDE}-1"

# More would take half a gigabyte to decode; a picture of that size is more likely an attack.
MAX_PIXELS = 89_000_000
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def image_vector(data: bytes) -> NDArray[np.float32]:
    """Return the vector of an encoded image, float32 of shape (N_FEATURES,), values in 0..1.

    Raises
    ------
    TaskDataError
        If Pillow cannot read it.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise TaskDataError(f"{image.width} × {image.height} pixels, more than {MAX_PIXELS}")
            image.draft("RGB", (8 * LUMA_SIDE, 8 * LUMA_SIDE))  # JPEG decodes smaller, 4× faster
            planes = _ycbcr(_upright(image)).split()
    except TaskDataError:
        raise
    except Exception as error:  # broken bytes make Pillow's decoders raise nearly anything
        raise TaskDataError(f"not an image that can be read ({len(data)} bytes): {error}") from error
    sides = (LUMA_SIDE, CHROMA_SIDE, CHROMA_SIDE)
    thumbnails = (plane.resize((side, side), _filter(plane)) for plane, side in zip(planes, sides, strict=True))
    vector = np.concatenate([np.asarray(thumbnail, np.float32).ravel() for thumbnail in thumbnails])
    return np.asarray(vector / 255, np.float32)


def _upright(image: Image.Image) -> Image.Image:
    """Turn a photo as its EXIF orientation says.

    Not ``ImageOps.exif_transpose``: it also writes the EXIF back, and fails on tags that cameras got wrong.
    """
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # an EXIF block that cannot be read says nothing
        turn = None
    return image if turn is None else image.transpose(turn)


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
