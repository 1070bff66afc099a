"""Images that are small to send and large to decode, each in another way."""

import functools
import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

from hostile import png_chunk, png_of_zeros


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(entries: list[tuple[int, int, int, bytes]], body: bytes = b"", *, after: int = 0) -> bytes:
    """Return a TIFF of one directory: tag, type, count and value or offset of each entry."""
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHI4s", tag, kind, count, value) for tag, kind, count, value in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", after) + body


def short(tag: int, value: int) -> tuple[int, int, int, bytes]:
    return tag, 4, 1, struct.pack("<I", value)


def tags_that_name_the_same_bytes() -> bytes:
    """Sixty thousand tags of a megabyte each, which is the same megabyte."""
    n, size = 60_000, 2**20
    at = 8 + 2 + 12 * n + 4
    entries = [(1000 + tag, 7, size, struct.pack("<I", at)) for tag in range(n)]
    return tiff(entries, bytes(size))


def exif_that_names_the_same_bytes() -> bytes:
    directory = tags_that_name_the_same_bytes()
    return png_of_zeros(8, 8, extra=png_chunk(b"eXIf", directory))


def tile_larger_than_its_image() -> bytes:
    """An image of 16 × 16 in one tile of 30 000 × 30 000."""
    side = 30_000
    packer = zlib.compressobj(9)
    block = bytes(side * 100)
    packed = b"".join(packer.compress(block) for _ in range(side // 100)) + packer.flush()
    entries = [
        short(256, 16), short(257, 16), short(258, 8), short(259, 8), short(262, 1), short(277, 1),
        short(322, side), short(323, side),
        short(324, 8 + 2 + 12 * 10 + 4), short(325, len(packed)),
    ]  # fmt: skip
    return tiff(entries, packed)


def jpeg_in_several_scans(side: int, *, progressive: bool) -> bytes:
    """A JPEG whose coefficients have to be kept; as baseline, its colours come one after the other."""
    data = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=progressive, subsampling=0)
    frame = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data = data[: frame + 5] + struct.pack(">HH", side, side) + data[frame + 9 :]
    if progressive:
        return data
    scan = data.index(b"\xff\xda")
    return data[:scan] + b"\xff\xda\x00\x08\x01" + data[scan + 5 : scan + 7] + b"\x00\x3f\x00" + bytes(200)


def png_of_words() -> bytes:
    packed = zlib.compress(bytes(2**20 - 100), 9)
    words = png_chunk(b"zTXt", b"k\0\0" + packed) * 60
    return png_of_zeros(8, 8, extra=words)


def png_profile() -> bytes:
    return png_of_zeros(8, 8, extra=png_chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(2**28), 9)))


def gif_of_comments() -> bytes:
    data = encoded(Image.new("P", (8, 8)), "GIF")
    comment = b"\x21\xfe" + (b"\xff" + bytes(255)) * 60_000 + b"\0"
    return data[:13] + data[13:-1].replace(b",", comment + b",", 1) + data[-1:]


def large_webp() -> bytes:
    return encoded(Image.new("RGB", (9000, 9000)), "WEBP", lossless=True, quality=0, method=0)


def moving_webp() -> bytes:
    frames = [Image.new("RGB", (3900, 3900), colour) for colour in ("black", "red")]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], method=0)


BOMBS: dict[str, Callable[[], bytes]] = {
    "png, 89 million pixels of grey": lambda: png_of_zeros(9400, 9400, color=0),
    "png, 89 million pixels of colour": lambda: png_of_zeros(9400, 9400),
    "png, 64 million pixels of colour": lambda: png_of_zeros(8000, 8000),
    "png, 31 million pixels with alpha": lambda: png_of_zeros(5600, 5600, color=6),
    "png, a palette with a transparent colour": lambda: png_of_zeros(9400, 9400, color=3),
    "png, 29 million pixels of a palette": lambda: png_of_zeros(5400, 5400, color=3),
    "png, 16 bit": lambda: png_of_zeros(9400, 9400, color=0, depth=16),
    "png, 16 bit colour": lambda: png_of_zeros(8000, 8000, color=2, depth=16),
    "png, one bit": lambda: png_of_zeros(9408, 9400, color=0, depth=1),
    "png, more than any": lambda: png_of_zeros(60_000, 60_000, color=0, depth=1),
    "png, words": png_of_words,
    "png, profile": png_profile,
    "png, EXIF that names the same bytes": exif_that_names_the_same_bytes,
    "tiff, tags that name the same bytes": tags_that_name_the_same_bytes,
    "tiff, a tile larger than its image": tile_larger_than_its_image,
    "jpeg, progressive": lambda: jpeg_in_several_scans(9400, progressive=True),
    "jpeg, progressive, 41 million pixels": lambda: jpeg_in_several_scans(6400, progressive=True),
    "jpeg, one colour a scan": lambda: jpeg_in_several_scans(9400, progressive=False),
    "gif, comments": gif_of_comments,
    "gif, 89 million pixels": lambda: encoded(Image.new("P", (9400, 9400)), "GIF"),
    "webp, 81 million pixels": large_webp,
    "webp, moving": moving_webp,
    "jpeg 2000": lambda: encoded(Image.new("RGB", (3100, 3100)), "JPEG2000"),
    "avif": lambda: encoded(Image.new("RGB", (4600, 4600)), "AVIF", speed=10),
    "bmp": lambda: encoded(Image.new("RGB", (4600, 4600)), "BMP"),
}


@functools.cache
def bomb(kind: str) -> bytes:
    return BOMBS[kind]()
