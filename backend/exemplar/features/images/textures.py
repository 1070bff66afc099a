"""What surfaces look like from near, wherever they are in a picture: small patterns of brightness, and edges."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exemplar.features.images.picture import Picture
from exemplar.features.images.squares import gradients, luma, shares, squares

# Patterns of neighbouring pixels are looked for at two scales.
SIDES = (64, 32)
AROUND = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
# Of the brightness 0..1: a neighbour that is so little brighter is as bright.
TOLERANCE = 0.02
N_DIRECTIONS = 18
# Edges of such a strength and more are another kind each.
STRENGTHS = (0.03, 0.1, 0.3)
N_EDGES = 1 + len(STRENGTHS) * N_DIRECTIONS


def _uniform() -> NDArray[np.intp]:
    """Return the number of each pattern of eight bits; all that change more than twice around share the last."""
    bits = np.arange(256)[:, None] >> np.arange(8) & 1
    few = np.count_nonzero(bits != np.roll(bits, 1, axis=1), axis=1) <= 2
    return np.where(few, np.cumsum(few) - 1, np.count_nonzero(few))


PATTERNS = _uniform()
N_PATTERNS = int(PATTERNS.max()) + 1


class Textures:
    """Histograms of local binary patterns at two scales, and of edges by strength and direction.

    References
    ----------
    Ojala, Pietikäinen & Mäenpää (2002), "Multiresolution gray-scale and rotation invariant texture classification
    with local binary patterns".
    """

    name = "textures"
    identity = f"lbp-{'-'.join(map(str, SIDES))}-edges-{N_DIRECTIONS}-1"
    kinds = ("image",)
    n_features = len(SIDES) * N_PATTERNS + N_EDGES
    batch_size = 64
    per_second = 550
    about = "small patterns and edges, wherever they are"

    def transform(self, values: Sequence[Picture]) -> NDArray[np.float32]:
        """Return a row for each picture; of each histogram the square is one in sum."""
        pictures = [luma(squares(values, side)) for side in SIDES]
        patterns = [shares(_patterns(brightness), N_PATTERNS) for brightness in pictures]
        return np.concatenate([*patterns, shares(_edges(pictures[0]), N_EDGES)], axis=1)


def _patterns(brightness: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the pattern around each pixel: which of its eight neighbours are brighter."""
    height, width = brightness.shape[1:]
    padded = np.pad(brightness, ((0, 0), (1, 1), (1, 1)), "edge")
    codes = np.zeros(brightness.shape, np.intp)
    for bit, (down, right) in enumerate(AROUND):
        neighbour = padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        codes |= (neighbour - brightness > TOLERANCE).astype(np.intp) << bit
    return PATTERNS[codes]


def _edges(brightness: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the kind of edge at each pixel: none, or its strength and direction."""
    right, down = gradients(brightness)
    strength = np.digitize(np.hypot(right, down), STRENGTHS)
    direction = (np.arctan2(down, right) / np.pi * N_DIRECTIONS).astype(np.intp) % N_DIRECTIONS
    return np.where(strength == 0, 0, 1 + (strength - 1) * N_DIRECTIONS + direction)
