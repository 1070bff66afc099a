"""Images from people nobody knows: what is decoded, and how much memory that may take.

A file of kilobytes can hold an image of gigabytes. What decoding takes is known from the header: so many bytes a
pixel, measured for each format with Pillow 13, and all images that are decoded at once share one budget. Formats
that run other programs, or that no browser shows, are not read at all.
"""

import ctypes
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import clear_frames
from typing import Any, BinaryIO, TypeVar

from PIL import Image, PngImagePlugin

from exemplar.errors import TaskDataError

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
# Bytes a pixel that a format's decoder takes beside the image itself; JPEG's does so if it comes in several scans.
DECODER = {"WEBP": 12, "AVIF": 8, "JPEG2000": 21}
# Bytes a pixel of the image and of what is made of it before it is small.
IMAGE = {"1": 2, "L": 1, "P": 9, "PA": 9, "LA": 8, "RGBA": 8, "I;16": 6, "I;16B": 6, "I;16L": 6}
EVERY_OTHER = 4
TRANSPARENT_COLOUR = 8
# More is refused, by Pillow as well.
MAX_PIXELS = 89_000_000
MAX_DECODING = 256 * 2**20
# A file's blocks (colour profile, EXIF, …) are held once more while it is open; so much for all that are.
MAX_OPEN = 128 * 2**20
SECONDS = 20.0

# Words in a picture are not read; Pillow's own limit is 64 MiB of them for each.
PngImagePlugin.MAX_TEXT_MEMORY = 2**20

T = TypeVar("T")


class Budget:
    """Memory that is shared: who wants more than is left waits.

    Files are opened from one budget and decoded from another: nobody waits for memory that only waiters hold.
    """

    def __init__(self, total: int) -> None:
        self._total = self._left = total
        self._changed = threading.Condition()

    @contextmanager
    def take(self, n_bytes: int) -> Iterator[None]:
        """Hold so many bytes, or all that there are."""
        n_bytes = min(n_bytes, self._total)
        with self._changed:
            self._changed.wait_for(lambda: n_bytes <= self._left)
            self._left -= n_bytes
        try:
            yield
        finally:
            with self._changed:
                self._left += n_bytes
                self._changed.notify_all()


# A block of so many bytes or more goes back to the system as soon as it is freed.
LARGE_BLOCK = 4 * 2**20
M_MMAP_THRESHOLD = -3  # of malloc.h


def _give_large_blocks_back() -> None:
    """Keep glibc from holding on to freed images.

    By itself it keeps blocks of up to 32 MiB for the thread that had them: with eight readers twice the budget.
    """
    try:
        c_library = ctypes.CDLL(None)
    except OSError:
        return
    if hasattr(c_library, "mallopt"):
        c_library.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


_give_large_blocks_back()
_opening, _decoding = Budget(MAX_OPEN), Budget(MAX_DECODING)


def decoded(file: BinaryIO, make: Callable[[Image.Image], T], *, draft: tuple[int, int]) -> T:
    """Return what ``make`` makes of an image whose decoding fits; the memory for it is held meanwhile.

    JPEG is decoded no larger than needed for ``draft``.

    Raises
    ------
    TaskDataError
        If it is too large, or takes too long.
    """
    n_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    with _opening.take(2 * n_bytes):
        metered: Any = _Metered(file, at_most=4 * n_bytes + 2**20)
        image = Image.open(metered, formats=FORMATS)
        with _decoding.take(_takes(image, metered, draft)):
            metered.allow(SECONDS)
            try:
                return make(image)
            except Exception as error:
                clear_frames(error.__traceback__)  # they hold the image
                raise
            finally:
                image.close()
                del image  # and with it its decoder, which may hold as much


def _takes(image: Image.Image, metered: "_Metered", draft: tuple[int, int]) -> int:
    """Return how many bytes it takes to decode an image, of a JPEG as small as will do."""
    n_pixels = image.width * image.height
    if n_pixels > MAX_PIXELS:
        raise TaskDataError(f"{image.width} × {image.height} pixels, more than {MAX_PIXELS}")
    takes = n_pixels * _decoder_bytes(image, metered)
    image.draft("RGB", draft)
    a_pixel = IMAGE.get(image.mode, EVERY_OTHER) + TRANSPARENT_COLOUR * ("transparency" in image.info)
    takes += max(image.width * image.height, _tile_pixels(image)) * a_pixel
    if takes > MAX_DECODING:
        raise TaskDataError(
            f"{n_pixels} pixels of {image.format} ({image.mode}) take {takes >> 20} MiB to decode, "
            f"more than {MAX_DECODING >> 20}"
        )
    return takes


def _decoder_bytes(image: Image.Image, metered: "_Metered") -> int:
    """Return what a format's decoder takes beside the image, in bytes a pixel."""
    if image.format in ("JPEG", "MPO") and not _is_one_scan(image, metered):
        return 2 * len(image.getbands())  # all coefficients are kept until the last scan
    return DECODER.get(image.format or "", 0)


def _is_one_scan(image: Image.Image, metered: "_Metered") -> bool:
    """Return whether a JPEG's first scan holds all of it; one that is oddly built is none."""
    if image.info.get("progressive"):
        return False
    here = metered.tell()
    metered.seek(2)
    try:
        while True:
            marker, length = metered.read(2), int.from_bytes(metered.read(2), "big")
            if marker == b"\xff\xda":
                return metered.read(1) == bytes([len(image.getbands())])
            if marker[:1] != b"\xff" or marker[1:] < b"\xc0" or b"\xd0" <= marker[1:] <= b"\xd9" or length < 2:
                return False
            metered.seek(length - 2, io.SEEK_CUR)
    finally:
        metered.seek(here)


def _tile_pixels(image: Image.Image) -> int:
    """Return the pixels of a TIFF's tile, which may be larger than the image."""
    tags: Any = getattr(image, "tag_v2", {})
    sides = [tags.get(tag, 0) for tag in (322, 323)]
    return int(sides[0] * sides[1]) if all(isinstance(side, int) for side in sides) else MAX_PIXELS


class _Metered:
    """A file of which no more is read than is allowed, and not for longer.

    A directory of tags can name the same kilobytes thousands of times. It has no ``fileno`` on purpose: a decoder
    would read past it.
    """

    def __init__(self, file: BinaryIO, *, at_most: int) -> None:
        self._file, self._left = file, at_most
        self.allow(SECONDS)

    def allow(self, seconds: float) -> None:
        """Let the file be read for so long from now on."""
        self._until = time.monotonic() + seconds

    def read(self, size: int = -1) -> bytes:
        if time.monotonic() > self._until:
            raise TaskDataError(f"an image that takes longer than {SECONDS:.0f} s to decode")
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise TaskDataError("an image that names the same bytes again and again")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
