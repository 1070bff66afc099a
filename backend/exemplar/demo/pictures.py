"""The demo's pictures: signs in changing shape, pose, colour and light, before pieces of two photographs.

A class has several shapes, all have all colours, and the backgrounds say nothing. The shapes are glyphs of DejaVu
Sans, as matplotlib brings it (the fonts' own free licence, Bitstream Vera's); the photographs are the two that
scikit-learn brings, china.jpg and flower.jpg (Creative Commons BY 2.0, danielbuechele and vultilion on Flickr).
"""

import base64
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from sklearn.datasets import load_sample_images

from exemplar.demo.dataset import Dataset, NumberedFiles

N_POOL, N_HELD_OUT = 1000, 200
SHAPES: Mapping[str, str] = MappingProxyType(
    {
        "chess piece": "♔♕♖♗♘♙♚♛♜♝♞♟",
        "face": "☹☺☻😀😁😃😇😎😐😠😢😮",
        "hand": "☚☛☜☝☞☟✌✍",
        "music": "♩♪♫♬♭♯",
        "scissors": "✁✂✃✄",
        "flower": "✿❀❁✾❃✽",
        "pencil": "✎✏✐✑✒",
        "snowflake": "❄❅❆",
        "die": "⚀⚁⚂⚃⚄⚅",
        "phone": "☎☏✆",
    }
)
_SIDE = 128
_GLYPH_SIDE = 96
_FILES = NumberedFiles("picture", "jpeg")

Random = np.random.Generator


@cache
def truth() -> tuple[str, ...]:
    """Return the class of each picture."""
    return tuple(np.random.default_rng(0).choice([*SHAPES], N_POOL + N_HELD_OUT).tolist())


@cache
def jpeg(index: int) -> bytes:
    """Return one picture as a JPEG of 128 × 128; the same at each call."""
    random = np.random.default_rng([1, index])
    glyph = random.choice([*SHAPES[truth()[index]]])
    file = io.BytesIO()
    _picture(str(glyph), random).save(file, "JPEG", quality=80)
    return file.getvalue()


# ── Drawing ──────────────────────────────────────────────────────────────────────────────────────────────


def _picture(glyph: str, random: Random) -> Image.Image:
    dark = random.random() < 0.5
    picture, shape = _background(random, pale=dark), _shape(glyph, random)
    colours = [_colour(random, dark=dark) for _ in range(2)]
    if random.random() < 0.6:  # a shadow, or else the sign lies flat
        shadow = Image.new("RGB", picture.size, (0, 0, 0) if not dark else (255, 255, 255))
        picture.paste(shadow, (3, 3), shape.filter(ImageFilter.GaussianBlur(4)).point(lambda a: a // 2))
    one, other = (Image.new("RGB", picture.size, colour) for colour in colours)
    fill = Image.composite(one, other, _ramp(random))
    picture.paste(fill, (0, 0), shape)
    return _photographed(picture, random)


def _background(random: Random, *, pale: bool) -> Image.Image:
    """Return a piece of a photograph, of any size, turned, and tinted by a pale colour or a dark one."""
    photographs = _photographs()
    photograph = photographs[random.integers(len(photographs))]
    side = int(random.integers(60, 300))
    left, top = (int(random.integers(0, length - side)) for length in photograph.size)
    piece = photograph.crop((left, top, left + side, top + side)).resize((_SIDE, _SIDE))
    piece = piece.transpose(Image.Transpose(int(random.integers(0, 7))))
    tint = Image.new("RGB", piece.size, _colour(random, dark=not pale))
    return Image.blend(piece, tint, float(random.uniform(0.4, 0.85)))


def _shape(glyph: str, random: Random) -> Image.Image:
    """Return where a glyph covers the picture: anywhere, of any size, turned, sheared, perhaps mirrored."""
    font = ImageFont.truetype(_font(), _GLYPH_SIDE)
    left, top, right, bottom = font.getbbox(glyph)
    mask = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(mask).text((-left, -top), glyph, fill=255, font=font)
    longer = random.uniform(64, 104)
    width, height = (max(8, round(longer * length / max(mask.size))) for length in mask.size)
    mask = mask.resize((width, height), Image.Resampling.LANCZOS)
    if random.random() < 0.5:
        mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mask = mask.rotate(float(random.uniform(-35, 35)), Image.Resampling.BICUBIC, expand=True)
    placed = Image.new("L", (_SIDE, _SIDE))
    left, top = (int(random.integers(0, max(1, _SIDE - length))) for length in mask.size)
    placed.paste(mask, (left, top))
    sheared = (1, float(random.uniform(-0.25, 0.25)), 0, 0, 1, 0)
    return placed.transform(placed.size, Image.Transform.AFFINE, sheared, Image.Resampling.BICUBIC)


def _photographed(picture: Image.Image, random: Random) -> Image.Image:
    """Return a picture as a poor camera takes it: out of focus, in some light, with noise."""
    blurred = picture.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 1.2))))
    light = random.uniform(0.7, 1.2, (1, 1, 3))
    noise = random.normal(0, random.uniform(0, 14), (_SIDE, _SIDE, 3))
    pixels = np.asarray(blurred, np.float64) * light + noise
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _colour(random: Random, *, dark: bool) -> tuple[int, ...]:
    low, high = (0, 110) if dark else (140, 256)
    return tuple(random.integers(low, high, 3).tolist())


def _ramp(random: Random) -> Image.Image:
    """Return a ramp from black to white in some direction."""
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : _SIDE * 1j, -1 : 1 : _SIDE * 1j]
    return Image.fromarray(np.clip(127 + 127 * (x * np.cos(angle) + y * np.sin(angle)), 0, 255).astype(np.uint8))


@cache
def _photographs() -> list[Image.Image]:
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def _font() -> str:
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


# ── The demo's data ──────────────────────────────────────────────────────────────────────────────────────


def dataset() -> Dataset:
    """Return them as the demo's data."""
    return Dataset(
        name="pictures",
        title="Pictures",
        examples="pictures",
        label_config=_label_config(),
        truth=truth(),
        n_pool=N_POOL,
        data=lambda index: {"image": "data:image/jpeg;base64," + base64.b64encode(jpeg(index)).decode()},
        imported=lambda indices: _FILES.imported(indices, jpeg),
        index_of=_FILES.index_of,
        textbook="grey pixels",
        textbook_vectors=_grey_pixels,
    )


def _label_config() -> str:
    choices = "\n".join(f'    <Choice value="{name}"/>' for name in SHAPES)
    return f"""<View>
  <Header value="What is in the picture?"/>
  <Image name="image" value="$image" zoom="true" maxWidth="256px"/>
  <Choices name="sign" toName="image" choice="single-radio" showInline="true">
{choices}
  </Choices>
</View>
"""


def _grey_pixels() -> NDArray[np.float32]:
    """Return the pictures as 16 × 16 greys, of shape (n_pictures, 256)."""
    opened = [Image.open(io.BytesIO(jpeg(index))) for index in range(len(truth()))]
    return np.array([np.asarray(one.convert("L").resize((16, 16)), np.float32).ravel() for one in opened])
