"""Pictures that are drawn for tests, and copies of them in other sizes and compressions."""

import io

import numpy as np
from PIL import Image, ImageDraw


def drawing(seed: int, size: int = 200) -> Image.Image:
    """Draw a picture that no other seed draws: shapes in colours."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size * 3 // 4), tuple(rng.integers(150, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(8):
        box = np.sort(rng.integers(0, size, (2, 2)), axis=0).T.ravel()[[0, 2, 1, 3]]
        draw.ellipse([*map(int, box)], fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


def encoded(image: Image.Image, kind: str, **options: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file)


def copies(image: Image.Image) -> list[Image.Image]:
    width, height = image.size
    half = image.resize((width // 2, height // 2), Image.Resampling.LANCZOS)
    return [
        encoded(image, "JPEG", quality=40),
        encoded(image, "WEBP", quality=50),
        encoded(image.quantize(64), "PNG"),
        half,
        encoded(half, "JPEG", quality=70),
        image.resize((width * 2, height * 2), Image.Resampling.BILINEAR),
        image.resize((width * 7 // 10, height * 7 // 10), Image.Resampling.BICUBIC),
    ]
