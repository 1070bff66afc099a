"""Which way the edges run in each part of a picture: shapes are told apart by them where colours say nothing."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exemplar.features.images.alikeness import falling, mean_cosine
from exemplar.features.images.picture import Picture
from exemplar.features.images.squares import framed, gradients, luma

SIDE, CELL, N_ORIENTATIONS = 32, 4, 9
N_CELLS = SIDE // CELL
# Of the brightness 0..1: the gradients of an even surface's noise are no edges.
FAINT = 0.01
# Measured mean cosines of pools: drawings, clothes and digits .33 to .48, tiny pictures of one spot .59, digits of
# 8 × 8 pixels enlarged to squares .67; even surfaces, of which noise is all that it sees, .82.
TELLS_UP_TO, NOISE_FROM = 0.7, 0.8


class Hog:
    """Histograms of oriented gradients of 8 × 8 cells, each against the strength of the edges around it.

    References
    ----------
    Dalal & Triggs (2005), "Histograms of oriented gradients for human detection". A cell is normalised once, not in
    each of four blocks: Felzenszwalb et al. (2010), "Object detection with discriminatively trained part-based
    models", find that four say little more.
    """

    name = "hog"
    identity = f"hog-{SIDE}-{CELL}-{N_ORIENTATIONS}-2"
    kinds = ("image",)
    n_features = N_CELLS**2 * N_ORIENTATIONS
    batch_size = 64
    per_second = 1200
    about = "which way the edges run in each part of a picture"

    def transform(self, values: Sequence[Picture]) -> NDArray[np.float32]:
        """Return a row for each picture; zeros for one of a single brightness."""
        cells = _in_cells(_by_orientation(luma(framed(values, SIDE))))
        around = np.sqrt(_around(np.square(cells).sum(axis=3, keepdims=True)) + np.float32(FAINT**2))
        return np.asarray(np.minimum(cells / around, 1), np.float32).reshape(len(values), self.n_features)

    def weight_among(self, vectors: NDArray[np.float32]) -> float:
        """Return how much it counts in a pool: less, the more alike all edges are, as noise is.

        >>> told_apart, alike = np.eye(4, dtype=np.float32), np.ones((4, 4), np.float32)
        >>> Hog().weight_among(told_apart), Hog().weight_among(alike)
        (1.0, 0.0)
        """
        return falling(mean_cosine(vectors), whole=TELLS_UP_TO, least=NOISE_FROM)


def _by_orientation(brightness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each pixel's gradient, shared by the two orientations nearest to it; shape (n, SIDE, SIDE, 9)."""
    right, down = gradients(brightness)
    strength = np.hypot(right, down)
    place = np.mod(np.arctan2(down, right) / np.float32(np.pi) * N_ORIENTATIONS - 0.5, N_ORIENTATIONS)
    below = np.floor(place).astype(np.intp)
    share = (place - below).astype(np.float32)
    votes = np.zeros((*strength.shape, N_ORIENTATIONS), np.float32)
    np.put_along_axis(votes, below[..., None] % N_ORIENTATIONS, (strength * (1 - share))[..., None], axis=3)
    np.put_along_axis(votes, (below[..., None] + 1) % N_ORIENTATIONS, (strength * share)[..., None], axis=3)
    return votes


def _in_cells(votes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean vote of each cell, of which a pixel's goes to the four nearest."""
    n = len(votes)
    away = (np.arange(SIDE) + 0.5) / CELL - 0.5 - np.arange(N_CELLS)[:, None]
    weights = (np.maximum(0, 1 - np.abs(away)) / CELL).astype(np.float32)
    rows = weights @ votes.reshape(n, SIDE, SIDE * N_ORIENTATIONS)
    return np.asarray(weights @ rows.reshape(n, N_CELLS, SIDE, N_ORIENTATIONS), np.float32)


def _around(energy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of each cell and the eight around it."""
    padded = np.pad(energy, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    nine = (padded[:, y : y + N_CELLS, x : x + N_CELLS] for y in range(3) for x in range(3))
    return np.asarray(sum(nine) / np.float32(9), np.float32)
