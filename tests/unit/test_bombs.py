"""Images that would take gigabytes: each is a vector or an error of its task, within a budget."""

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bombs import BOMBS, bomb, encoded
from exemplar.errors import TaskDataError
from exemplar.features.images import decode, decoding
from exemplar.features.images.decoding import MAX_DECODING, MAX_OPEN, Budget
from exemplar.features.images.thumbnail import Thumbnail

MIB = 2**20
# A child reads all files that are named, by eight threads, and says how far its memory rose above what it was.
CHILD = """
import sys, threading
from pathlib import Path
from exemplar.errors import TaskDataError
from exemplar.features.images import decode

def memory(name):
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1]) * 1024

def read(path):
    try:
        with open(path, "rb") as file:
            decode(file)
        print("read", path)
    except TaskDataError as error:
        print(error)

paths = sys.argv[1:]
read(paths.pop(0))
idle = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
threads = [threading.Thread(target=read, args=(path,)) for path in paths]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("rose by", memory("VmHWM") - idle)
"""


def image_vector(data: bytes) -> np.ndarray:
    return Thumbnail().transform([decode(data)])[0]


def rise(folder: Path, *images: bytes) -> tuple[int, str]:
    """Return by how many bytes a process grows that reads images at once, and what it said of them."""
    paths = [folder / f"{n}.image" for n in range(len(images) + 1)]
    for path, image in zip(paths, [encoded(Image.new("RGB", (64, 64)), "PNG"), *images], strict=True):
        path.write_bytes(image)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, *map(str, paths)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r"rose by (-?\d+)", done.stdout)
    assert found, done.stdout
    return int(found[1]), done.stdout


@pytest.mark.parametrize("kind", BOMBS)
def test_no_image_takes_more_than_the_budget(kind: str, tmp_path: Path) -> None:
    grown, said = rise(tmp_path, bomb(kind))
    assert grown < MAX_OPEN + MAX_DECODING, said


def test_all_of_them_at_once_take_no_more(tmp_path: Path) -> None:
    grown, said = rise(tmp_path, *map(bomb, BOMBS))
    assert grown < MAX_OPEN + MAX_DECODING + 64 * MIB, said


@pytest.mark.parametrize("kind", BOMBS)
def test_each_is_a_vector_or_an_error_of_its_task_in_time(kind: str) -> None:
    started = time.monotonic()
    try:
        image_vector(bomb(kind))
    except TaskDataError as error:
        assert len(str(error)) < 300
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("L", "PNG", {}),
        ("RGB", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("LA", "PNG", {}),
        ("P", "PNG", {}),
        ("P", "PNG", {"transparency": 3}),
        ("1", "PNG", {}),
        ("CMYK", "TIFF", {}),
        ("L", "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("RGB", "WEBP", {"lossless": True, "method": 0}),
    ],
)
def test_a_large_image_is_the_vector_of_the_same_picture_made_small(
    mode: str, kind: str, options: dict[str, object]
) -> None:
    rng = np.random.default_rng(0)
    tones = Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)).resize(
        (2400, 1900), Image.Resampling.BICUBIC
    )
    large = tones.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    if kind != "TIFF":
        options = {**options, "exif": exif}
    small = large.convert("RGBA" if mode in ("LA", "P") else "RGB" if mode != "1" else "L")
    if "transparency" in options:
        large.info["transparency"] = 3
        small = large.convert("RGBA")
    small = small.resize((600, 475), Image.Resampling.BOX)
    expected = image_vector(encoded(small, "PNG", **({"exif": exif} if kind != "TIFF" else {})))
    np.testing.assert_allclose(image_vector(encoded(large, kind, **options)), expected, atol=0.02)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "PCX", "TGA", "ICO", "DDS", "SGI", "MSP", "XBM"])
def test_formats_that_nobody_labels_are_not_opened(kind: str) -> None:
    with pytest.raises(TaskDataError, match="not an image that can be read"):
        image_vector(encoded(Image.new("1" if kind in ("MSP", "XBM") else "L", (16, 16)), kind))


def test_a_phones_photo_of_several_pictures_is_read() -> None:
    photo = Image.effect_noise((4000, 3000), 80).convert("RGB")
    assert image_vector(encoded(photo, "MPO", save_all=True, append_images=[photo.resize((400, 300))])).any()


def test_what_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "SECONDS", 0.0)
    with pytest.raises(TaskDataError, match="takes longer than 0 s to decode"):
        image_vector(encoded(Image.effect_noise((2000, 2000), 80), "PNG"))


def test_a_budget_is_shared_and_given_back() -> None:
    budget, held, most, lock = Budget(100), [0], [0], threading.Lock()

    def use(n_bytes: int) -> None:
        with budget.take(n_bytes):
            with lock:
                held[0] += min(n_bytes, 100)
                most[0] = max(most[0], held[0])
            time.sleep(0.001)
            with lock:
                held[0] -= min(n_bytes, 100)

    threads = [threading.Thread(target=use, args=(n,)) for n in [10, 60, 100, 1000, 30, 0] * 10]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert held == [0]
    assert 0 < most[0] <= 100
