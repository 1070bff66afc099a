"""How much of a picture has which colour, wherever it is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exemplar.features.images.picture import Picture
from exemplar.features.images.squares import shares, squares

SIDE = 64
N_HUES, N_SATURATIONS, N_VALUES = 12, 3, 4
# Besides the colours there are as many greys as there are degrees of brightness.
N_COLOURS = N_VALUES + N_HUES * N_SATURATIONS * N_VALUES


class Colours:
    """A histogram of hue, saturation and brightness.

    References
    ----------
    Swain & Ballard (1991), "Color indexing".
    """

    name = "colours"
    identity = f"hsv-{SIDE}-{N_HUES}-{N_SATURATIONS}-{N_VALUES}-1"
    kinds = ("image",)
    n_features = N_COLOURS
    batch_size = 64
    per_second = 900
    about = "how much of a picture has which colour"

    def transform(self, values: Sequence[Picture]) -> NDArray[np.float32]:
        """Return a row of unit length for each picture."""
        hsv = [np.asarray(Image.fromarray(rgb).convert("HSV"), np.intp) for rgb in squares(values, SIDE)]
        return shares(_colours(np.array(hsv, np.intp).reshape(-1, SIDE, SIDE, 3)), N_COLOURS)


def _colours(hsv: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the number of each pixel's colour; the first are the greys."""
    hue = (hsv[..., 0] * N_HUES + 128) // 256 % N_HUES  # red is the middle of the first
    saturation = hsv[..., 1] * (N_SATURATIONS + 1) // 256
    value = hsv[..., 2] * N_VALUES // 256
    return np.where(saturation == 0, value, ((hue * N_SATURATIONS + saturation - 1) + 1) * N_VALUES + value)
