"""Data as vectors: images and texts."""

import io
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image, features
from scipy.spatial.distance import pdist
from sklearn.datasets import load_digits

from exemplar.errors import TaskDataError
from exemplar.features.images import decode
from exemplar.features.images.thumbnail import LUMA_SIDE, Thumbnail
from exemplar.features.texts.words import N_COMPONENTS, TextModel, fit_text_model


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photo(width: int = 48, height: int = 32) -> Image.Image:
    """Smooth colours that differ in each corner."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([255 * x / (width - 1), 255 * y / (height - 1), 255 - 255 * x / (width - 1)], axis=2)
    return Image.fromarray(np.uint8(rgb))


def image_vector(data: bytes) -> np.ndarray:
    return Thumbnail().transform([decode(data)])[0]


def luma(vector: np.ndarray) -> np.ndarray:
    return vector[: LUMA_SIDE**2].reshape(LUMA_SIDE, LUMA_SIDE)


# ── Images: what a vector keeps ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("enlarged", [1, 2, 8])
def test_distances_between_digits_stay_those_of_their_pixels(enlarged: int) -> None:
    digits = np.uint8(load_digits().images[:60] * 255 / 16)
    vectors = [
        image_vector(encoded(Image.fromarray(np.kron(d, np.ones((enlarged,) * 2, np.uint8))))) for d in digits
    ]
    factors = pdist(vectors) / pdist(digits.reshape(60, -1))
    np.testing.assert_allclose(factors, factors.mean(), rtol=0.005)  # luma is rounded by one of 255 at most


def test_black_and_white_are_the_ends_of_the_scale() -> None:
    assert (luma(image_vector(encoded(Image.new("L", (9, 9), 0)))) == 0).all()
    assert (luma(image_vector(encoded(Image.new("L", (9, 9), 255)))) == 1).all()


def test_brightness_stays_where_it_is_in_the_image() -> None:
    image = Image.new("L", (64, 64), 0)
    image.paste(255, (32, 0, 64, 32))  # the upper right quarter
    expected = np.zeros((16, 16))
    expected[:8, 8:] = 1
    np.testing.assert_array_equal(luma(image_vector(encoded(image))), expected)


def test_colours_of_the_same_brightness_differ() -> None:
    red, green = (image_vector(encoded(Image.new("RGB", (32, 32), c))) for c in [(255, 0, 0), (0, 130, 0)])
    assert np.abs(luma(red) - luma(green)).max() < 0.01
    assert np.linalg.norm(red - green) > 1


# ── Images: all kinds ────────────────────────────────────────────────────────────────────────────────────

GREY = photo().convert("L")
OPAQUE = Image.merge("RGBA", [*photo().split(), Image.new("L", (48, 32), 255)])
SIXTEEN_BIT = Image.fromarray(np.asarray(GREY, np.uint16) * 257)
KINDS = {
    "grey": (GREY, "PNG"),
    "one bit": (GREY.convert("1"), "PNG"),
    "grey with alpha": (GREY.convert("LA"), "PNG"),
    "rgb": (photo(), "PNG"),
    "rgba": (OPAQUE, "PNG"),
    "palette": (photo().quantize(256), "PNG"),
    "16 bit": (SIXTEEN_BIT, "PNG"),
    "16 bit tiff": (SIXTEEN_BIT, "TIFF"),
    "float tiff": (Image.fromarray(np.asarray(GREY, np.float32) / 255), "TIFF"),
    "32 bit tiff": (Image.fromarray(np.asarray(GREY, np.int32) * 70_000 - 9_000_000), "TIFF"),
    "cmyk jpeg": (photo().convert("CMYK"), "JPEG"),
    "cmyk tiff": (photo().convert("CMYK"), "TIFF"),
    "jpeg": (photo(), "JPEG"),
    "webp": (photo(), "WEBP"),
    "bmp": (photo(), "BMP"),
    "gif": (photo(), "GIF"),
    "ppm": (photo(), "PPM"),
    "one pixel": (photo().crop((0, 0, 1, 1)), "PNG"),
    "a line": (photo(3000, 2).crop((0, 0, 3000, 1)), "PNG"),
    "a column": (photo(2, 3000).crop((0, 0, 1, 3000)), "PNG"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_is_a_vector(kind: str) -> None:
    vector = image_vector(encoded(*KINDS[kind]))
    assert (vector.shape, vector.dtype) == ((Thumbnail.n_features,), "float32")
    assert np.isfinite(vector).all()
    assert vector.min() >= 0
    assert vector.max() <= 1


@pytest.mark.parametrize(
    ("kind", "like", "tolerance"),
    [
        ("grey with alpha", "grey", 0),
        ("16 bit", "grey", 0.005),
        ("16 bit tiff", "grey", 0.005),
        ("float tiff", "grey", 0.005),
        ("32 bit tiff", "grey", 0.005),
        ("rgba", "rgb", 0),
        ("bmp", "rgb", 0),
        ("ppm", "rgb", 0),
        ("palette", "rgb", 0.06),
        ("gif", "rgb", 0.06),
        ("jpeg", "rgb", 0.06),
        ("webp", "rgb", 0.06),
        ("cmyk tiff", "rgb", 0.02),
        ("cmyk jpeg", "rgb", 0.06),
    ],
)
def test_the_same_picture_is_the_same_vector_in_another_kind(kind: str, like: str, tolerance: float) -> None:
    # GREY spans 0..255 only nearly: images of more than 8 bits are stretched to the full scale.
    if like == "grey" and tolerance:
        low, high = GREY.getextrema()
        other = encoded(Image.fromarray(np.uint8((np.asarray(GREY, float) - low) * 255 / (high - low))))
    else:
        other = encoded(*KINDS[like])
    np.testing.assert_allclose(image_vector(encoded(*KINDS[kind])), image_vector(other), atol=tolerance)


def test_what_is_transparent_is_white() -> None:
    assert (luma(image_vector(encoded(Image.new("RGBA", (32, 32), (0, 0, 0, 0))))) == 1).all()


def test_a_transparent_palette_colour_is_white_too() -> None:
    image = Image.new("P", (32, 32), 0)
    image.putpalette([0, 0, 0, 9, 9, 9])
    assert (luma(image_vector(encoded(image, transparency=0))) == 1).all()


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("L", (32, 32), grey) for grey in (255, 0, 60)]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=40)
    np.testing.assert_array_equal(image_vector(moving), image_vector(encoded(frames[0])))


@pytest.mark.parametrize(
    ("orientation", "undone"),
    [
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ],
)
@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 0.0), ("JPEG", 0.06)])
def test_a_rotated_photo_is_read_upright(
    orientation: int, undone: Image.Transpose, kind: str, tolerance: float
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    rotated = encoded(photo(480, 320).transpose(undone), kind, exif=exif)
    np.testing.assert_allclose(image_vector(rotated), image_vector(encoded(photo(480, 320))), atol=tolerance)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_rotated_photo_with_an_odd_tag_is_a_photo_all_the_same(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x0128] = 6, 2
    # The unit of the resolution as a long where a short belongs: Pillow reads it and cannot write it again.
    odd = exif.tobytes().replace(b"\x01\x28\x00\x03", b"\x01\x28\x00\x04")
    assert odd != exif.tobytes()
    np.testing.assert_array_equal(
        image_vector(encoded(photo(), kind, exif=odd)), image_vector(encoded(photo(), kind, exif=exif))
    )


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same() -> None:
    np.testing.assert_allclose(
        image_vector(encoded(photo(1600, 1200), "JPEG", quality=95)),
        image_vector(encoded(photo(1600, 1200))),
        atol=0.02,
    )


# ── Images that are none ─────────────────────────────────────────────────────────────────────────────────


def png_header(width: int, height: int) -> bytes:
    """A PNG of that size that has no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"<html>404</html>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"GIF89a"],
    ids=["empty", "zero", "html", "svg", "pdf", "gif header"],
)
def test_what_is_no_image_is_an_error_of_its_task(data: bytes) -> None:
    with pytest.raises(TaskDataError, match=rf"not an image that can be read \({len(data)} bytes\)"):
        image_vector(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_half_an_image_is_an_error_of_its_task(kind: str) -> None:
    whole = encoded(photo(64, 64), kind)
    with pytest.raises(TaskDataError):
        image_vector(whole[: len(whole) // 2])


@pytest.mark.parametrize("side", [10_000, 20_000, 2**30])
def test_a_decompression_bomb_is_an_error_of_its_task_and_says_so(side: int) -> None:
    with pytest.raises(TaskDataError, match="decompression bomb"):
        image_vector(png_header(side, side))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_a_spoilt_avif_is_an_error_of_its_task() -> None:
    whole = encoded(photo(64, 64), "AVIF")
    pixels = whole.index(b"mdat") + 4
    with pytest.raises(TaskDataError):
        image_vector(whole[:pixels] + bytes(len(whole) - pixels))


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it repairs; only errors are asked for here
@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO", "TGA", "PCX", "DDS", "SGI"]
)
def test_whatever_is_broken_is_a_vector_or_an_error_of_its_task(kind: str) -> None:
    rng = np.random.default_rng(0)
    whole = np.frombuffer(encoded(photo(32, 32), kind), np.uint8)
    for _ in range(150):
        broken = whole[: rng.integers(1, len(whole) + 1)].copy()
        broken[rng.integers(0, min(len(broken), 200), size=3)] = rng.integers(0, 256, size=3)
        with suppress(TaskDataError):
            assert np.isfinite(image_vector(broken.tobytes())).all()


# ── Texts ────────────────────────────────────────────────────────────────────────────────────────────────

REVIEWS = [
    "a great film with great actors",
    "great actors and a great story",
    "the parcel never arrived",
    "my parcel arrived broken",
    "parcel arrived late and broken",
]
RNG = np.random.default_rng(0)
MANY = [" ".join(f"word{w}" for w in RNG.integers(0, 300, 12)) for _ in range(200)]


@pytest.mark.parametrize("texts", [REVIEWS, MANY], ids=["few", "many"])
def test_vectors_have_unit_length(texts: list[str]) -> None:
    X = fit_text_model(texts).transform(texts)
    assert (X.dtype, len(X)) == ("float32", len(texts))
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, atol=1e-5)


def test_many_terms_are_reduced() -> None:
    assert fit_text_model(MANY).transform(MANY).shape == (200, N_COMPONENTS)


def test_texts_of_the_same_words_are_nearer_than_others() -> None:
    X = fit_text_model(REVIEWS).transform(REVIEWS)
    likeness = X @ X.T
    assert likeness[:2, :2].min() > likeness[:2, 2:].max()


@pytest.mark.parametrize("texts", [REVIEWS, MANY], ids=["few", "many"])
def test_same_texts_same_model_bit_for_bit(texts: list[str]) -> None:
    one, two = fit_text_model(texts), fit_text_model(list(texts))
    assert one.terms == two.terms
    assert one.idf.tobytes() == two.idf.tobytes()
    assert one.components.tobytes() == two.components.tobytes()
    assert one.transform(texts).tobytes() == two.transform(texts).tobytes()


@pytest.mark.parametrize("texts", [REVIEWS, MANY], ids=["few", "many"])
def test_a_model_made_again_from_its_arrays_gives_the_same_vectors(texts: list[str]) -> None:
    model = fit_text_model(texts)

    def saved_and_loaded(array: np.ndarray) -> np.ndarray:
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=False)
        stream.seek(0)
        return np.load(stream, allow_pickle=False)

    again = TextModel(tuple(model.terms), saved_and_loaded(model.idf), saved_and_loaded(model.components))
    assert again.transform(texts).tobytes() == model.transform(texts).tobytes()


def test_a_vector_does_not_depend_on_its_neighbours() -> None:
    model = fit_text_model(MANY)
    together = model.transform(MANY)
    np.testing.assert_allclose([model.transform([text])[0] for text in MANY[:20]], together[:20], atol=1e-6)


@pytest.mark.parametrize("text", ["", "   ", "zyzzyva quux", "!?", "12"])
def test_without_a_known_word_the_vector_is_zero(text: str) -> None:
    assert not fit_text_model(REVIEWS).transform([text, "great"])[0].any()


def test_no_texts_are_no_vectors() -> None:
    model = fit_text_model(REVIEWS)
    assert model.transform([]).shape == (0, model.transform(REVIEWS).shape[1])


@pytest.mark.parametrize("texts", [["?!", "!!", "??"], ["1", "2", "3"], ["😀", "😡", "😀😀"]])
def test_in_a_pool_without_words_characters_do(texts: list[str]) -> None:
    X = fit_text_model(texts).transform(texts)
    assert len(np.unique(X.round(5), axis=0)) > 1


def test_a_pool_of_one_long_text_can_be_learned() -> None:
    text = " ".join(f"word{i}" for i in range(N_COMPONENTS))
    assert np.isfinite(fit_text_model([text]).transform([text])).all()
