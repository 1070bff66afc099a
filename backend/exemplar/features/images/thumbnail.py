"""A picture as a small vector: what a thumbnail of it shows.

Like JPEG, it keeps brightness finer than colour: 16 × 16 luma values and 4 × 4 of each chroma, all in 0..1.
Small pictures are enlarged without smoothing, so that the distances between them stay those of their pixels.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from exemplar.features.embedder import Vectors
from exemplar.features.images.picture import Picture

LUMA_SIDE = 16
CHROMA_SIDE = 4


class Thumbnail:
    """Brightness and colour of a picture, where they are in it."""

    name = "thumbnail"
    identity = f"ycbcr-thumbnail-{LUMA_SIDE}-{CHROMA_SIDE}-2"
    kinds = ("image",)
    n_features = LUMA_SIDE**2 + 2 * CHROMA_SIDE**2
    batch_size = 64
    per_second = 1100
    about = "brightness and colour of a thumbnail of 16 × 16 pixels"
    keeps_length = True

    def transform(self, values: Sequence[Picture]) -> Vectors:
        """Return the pictures' vectors, values in 0..1."""
        X = np.empty((len(values), self.n_features), np.float32)
        for row, picture in zip(X, values, strict=True):
            row[:] = _thumbnail(picture)
        return X


def _thumbnail(picture: Picture) -> Vectors:
    planes = Image.fromarray(picture.rgb).convert("YCbCr").split()
    sides = (LUMA_SIDE, CHROMA_SIDE, CHROMA_SIDE)
    thumbnails = (plane.resize((side, side), _filter(plane)) for plane, side in zip(planes, sides, strict=True))
    vector = np.concatenate([np.asarray(thumbnail, np.float32).ravel() for thumbnail in thumbnails])
    return np.asarray(vector / 255, np.float32)


def _filter(plane: Image.Image) -> Image.Resampling:
    return Image.Resampling.BOX if min(plane.size) >= LUMA_SIDE else Image.Resampling.NEAREST
