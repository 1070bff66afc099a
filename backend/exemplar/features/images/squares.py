"""Pictures of all sizes as arrays of one size, and what is computed of their brightness."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exemplar.features.images.picture import Picture


def squares(pictures: Sequence[Picture], side: int) -> NDArray[np.uint8]:
    """Return pictures squeezed into squares; uint8 of shape (n_pictures, side, side, 3)."""
    return np.array([_resized(picture, (side, side)) for picture in pictures], np.uint8).reshape(-1, side, side, 3)


def framed(pictures: Sequence[Picture], side: int) -> NDArray[np.uint8]:
    """Return pictures whole and in their shape, in squares that go on in the colour of their borders.

    Of shape (n_pictures, side, side, 3), uint8.
    """
    return np.array([_framed(picture, side) for picture in pictures], np.uint8).reshape(-1, side, side, 3)


def _framed(picture: Picture, side: int) -> NDArray[np.uint8]:
    longest = max(picture.rgb.shape[:2])
    height, width = (max(1, round(length * side / longest)) for length in picture.rgb.shape[:2])
    small = _resized(picture, (width, height))
    if height == width:
        return small
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    square = np.empty((side, side, 3), np.uint8)
    square[:] = np.median(border, axis=0)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = small
    return square


def _resized(picture: Picture, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture.rgb).resize(size, Image.Resampling.BILINEAR))


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the brightness of pixels as people see it, 0..1; shape (…, 3) becomes (…)."""
    return np.asarray((rgb @ np.array([0.299, 0.587, 0.114], np.float32)) / np.float32(255), np.float32)


def gradients(brightness: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how brightness rises to the right and downwards, both of its shape (n, side, side)."""
    padded = np.pad(brightness, ((0, 0), (1, 1), (1, 1)), "edge")
    return padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]


def shares(codes: NDArray[np.intp], n_codes: int) -> NDArray[np.float32]:
    """Return the root of each code's share of each picture; shape (n_pictures, n_codes), rows of unit length.

    Roots of shares are compared by Hellinger's distance: what is rare counts as much as it should.

    >>> shares(np.array([[0, 0, 0, 2]]), 3).round(2).tolist()
    [[0.87, 0.0, 0.5]]
    """
    n_pictures, n_pixels = len(codes), math.prod(codes.shape[1:])
    places = codes.reshape(n_pictures, n_pixels) + n_codes * np.arange(n_pictures)[:, None]
    counts = np.bincount(places.ravel(), minlength=n_pictures * n_codes).reshape(n_pictures, n_codes)
    return np.asarray(np.sqrt(counts / n_pixels), np.float32)
