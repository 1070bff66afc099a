"""Near-duplicates: of copies that are made, how many are found; of what is there, what is put together.

EXEMPLAR_BENCH_DATA=… .venv/bin/python benchmarks/duplicates.py
"""

import csv
import gzip
import io
import random
import zipfile
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from data import FOLDER, banking_texts, is_there
from machine import describe
from PIL import Image

from exemplar.features.images import Picture
from exemplar.features.signatures import Print, same_pictures, same_texts, text_keys

Copy = Callable[[Image.Image], Image.Image]
N_COPIED = 400


def resized(share: float, resampling: Image.Resampling = Image.Resampling.LANCZOS) -> Copy:
    return lambda image: image.resize([max(1, round(share * side)) for side in image.size], resampling)


def compressed(kind: str, quality: int) -> Copy:
    def copy(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, kind, quality=quality)
        return Image.open(file).convert("RGB")

    return copy


COPIES: dict[str, Copy] = {
    "JPEG 90": compressed("JPEG", 90),
    "JPEG 50": compressed("JPEG", 50),
    "JPEG 30": compressed("JPEG", 30),
    "WebP 50": compressed("WEBP", 50),
    "64 colours": lambda image: image.quantize(64).convert("RGB"),
    "× 2": resized(2, Image.Resampling.BICUBIC),
    "× 1.5, JPEG 75": lambda image: compressed("JPEG", 75)(resized(1.5, Image.Resampling.BILINEAR)(image)),
    "× 0.7": resized(0.7, Image.Resampling.BICUBIC),
    "× 0.5": resized(0.5),
    "× 0.5, JPEG 60": lambda image: compressed("JPEG", 60)(resized(0.5)(image)),
}
TEXTS: dict[str, Callable[[str, random.Random], str]] = {
    "upper case": lambda text, _: text.upper(),
    "spaces": lambda text, _: f"  {text.replace(' ', '  ')}\n",
    "punctuation": lambda text, _: f"“{text.rstrip('.?!')}!!”",
    "another number": lambda text, rng: _with_number(text, str(rng.randrange(10_000))),
}


def _with_number(text: str, number: str) -> str:
    words = text.split()
    return " ".join([*words[: len(words) // 2], number, *words[len(words) // 2 :]])


def main() -> None:
    print(describe("numpy", "pillow"))
    print(f"\n{'set':12}{'tasks':>7}{'groups':>8}{'in them':>9}{'of two classes':>16}   copies found, %")
    if is_there("banking77"):
        for part in ("train", "test"):
            texts, labels = banking_texts(part)
            _texts(f"banking77-{part}"[:11], texts, labels)
    if is_there("clipart"):
        _pictures("clipart", *_clipart())
    for name in ("mnist", "fashion"):
        if is_there(name):
            _pictures(name, *_idx(name))


def _texts(name: str, texts: Sequence[str], labels: Sequence[str]) -> None:
    leaders, rng = same_texts(text_keys(texts)), random.Random(0)
    found = {}
    for how, copy in TEXTS.items():
        # Texts that get a number are copies of ones that have another.
        of = [_with_number(text, "12.50") if "number" in how else text for text in texts]
        both = same_texts(text_keys([*of, *(copy(text, rng) for text in texts)]))
        found[how] = float((both[len(texts) :] == both[: len(texts)]).mean())
    _line(name, leaders, labels, found)


def _pictures(name: str, images: list[Image.Image], labels: Sequence[str]) -> None:
    copied = np.random.default_rng(1).choice(len(images), min(N_COPIED, len(images)), replace=False)
    prints, found = _prints(images), {}
    for how, copy in COPIES.items():
        both = same_pictures(np.concatenate([prints, _prints([copy(images[row]) for row in copied])]))
        found[how] = float((both[len(images) :] == both[copied]).mean())
    _line(name, same_pictures(prints), labels, found)


def _prints(images: Sequence[Image.Image]) -> np.ndarray:
    return Print().transform([Picture(np.asarray(image)) for image in images])


def _line(name: str, leaders: np.ndarray, labels: Sequence[str], found: dict[str, float]) -> None:
    classes, sizes = defaultdict(set), np.bincount(leaders)
    for leader, label in zip(leaders.tolist(), labels, strict=True):
        classes[leader].add(label)
    n_mixed = sum(len(some) > 1 for some in classes.values())
    copies = ", ".join(f"{how} {100 * share:.1f}" for how, share in found.items())
    n_groups, n_in = np.count_nonzero(sizes > 1), sizes[sizes > 1].sum()
    print(f"{name:12}{len(leaders):7}{n_groups:8}{n_in:9}{n_mixed:16}   {copies}")


def _clipart() -> tuple[list[Image.Image], list[str]]:
    with zipfile.ZipFile(FOLDER / "clipart.zip") as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("labels.csv"))))
        images = [Image.open(io.BytesIO(archive.read(row["file"]))).convert("RGB") for row in rows]
    return images, [row["label"] for row in rows]


def _idx(name: str) -> tuple[list[Image.Image], list[str]]:
    pixels = gzip.decompress((FOLDER / f"{name}-10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((FOLDER / f"{name}-10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28)
    return [Image.fromarray(image).convert("RGB") for image in images], [str(label) for label in labels]


if __name__ == "__main__":
    main()
