"""How fast values are decoded and embedded, and what that costs over the bare library; for features.py."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image
from stopwatch import interleaved

from exemplar.features.images import Picture, decode
from exemplar.features.images.efficientnet import SIDE
from exemplar.features.registry import embedder

N_PICTURES = 64
IMAGE_EMBEDDERS = ("thumbnail", "hog", "colours", "textures", "lite0")


def lines() -> Iterator[str]:
    yield from of_pictures()


def of_pictures() -> Iterator[str]:
    """Yield how many photos a second are decoded, and seen by each embedder, on one thread."""
    files = photos()
    seen = [decode(file) for file in files]
    yield f"pictures a second, one thread, photos of 480 × 320 ({N_PICTURES} at a time, median of 5)"
    (seconds,) = interleaved(5, lambda: [decode(file) for file in files])
    yield f"  {'decode':10} {N_PICTURES / seconds:8.0f}"
    for name in IMAGE_EMBEDDERS:
        yield _line(name, seen, bare_lite0 if name == "lite0" else None)


def _line(name: str, seen: list[Picture], bare: Callable[[Any, list[Picture]], object] | None) -> str:
    there: Any = embedder(name)
    there.transform(seen[:8])
    if bare is None:
        (ours,) = interleaved(5, lambda: there.transform(seen))
        return f"  {name:10} {N_PICTURES / ours:8.0f}"
    ours, theirs = interleaved(5, lambda: there.transform(seen), lambda: bare(there, seen))
    return f"  {name:10} {N_PICTURES / ours:8.0f}   {ours / theirs:.2f} × the bare library's time (must: 1.15)"


def bare_lite0(there: Any, seen: list[Picture]) -> object:
    """Resize and run, and nothing else, as many at a time as suits."""
    for start in range(0, len(seen), 4):
        images = [Image.fromarray(picture.rgb) for picture in seen[start : start + 4]]
        pixels = np.stack([image.resize((SIDE, SIDE), Image.Resampling.BILINEAR) for image in images])
        there._session.run(None, {"pixels": pixels})
    return None


def photos() -> list[bytes]:
    """Return JPEG files: parts of two photos."""
    rng = np.random.default_rng(0)
    files = []
    for n in range(N_PICTURES):
        photo = Image.fromarray(load_sample_image(("china.jpg", "flower.jpg")[n % 2]))
        left, top = int(rng.integers(photo.width - 480)), int(rng.integers(photo.height - 320))
        file = io.BytesIO()
        photo.crop((left, top, left + 480, top + 320)).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files
