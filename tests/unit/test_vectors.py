"""The cache of vectors: what is kept is found, by whoever looks; what is damaged, cut or gone is made again."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exemplar.store import segments
from exemplar.store.segments import HEAD_BYTES, SUFFIX
from exemplar.store.vectors import FOLDER, Vectors, vectors_of

N_FEATURES = 6
RECORD = HEAD_BYTES + 4 * N_FEATURES
GIB = 2**30


def keys_of(n: int, start: int = 0) -> list[bytes]:
    rng = np.random.default_rng(7)
    return [key.tobytes() for key in rng.integers(0, 256, (start + n, 16), np.uint8)[start:]]


def matrix(n: int, seed: int = 0, n_features: int = N_FEATURES) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, n_features)).astype(np.float32)


def kept(folder: Path, keys: list[bytes], *, identity: str = "use-1", max_bytes: int = GIB) -> np.ndarray:
    """Return what another process finds, NaN where it finds nothing."""
    out = np.full((len(keys), N_FEATURES), np.nan, np.float32)
    vectors = Vectors(folder, max_bytes)
    found = vectors.read(identity, keys, out)
    assert (np.isnan(out).any(axis=1) == ~found).all()
    return out


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*{SUFFIX}"))


def add(folder: Path, keys: list[bytes], X: np.ndarray) -> Path:
    """Let one process keep vectors and end; return its file."""
    before = set(files_in(folder))
    Vectors(folder, GIB).add("use-1", keys, X)
    new = set(files_in(folder)) - before
    return new.pop() if new else files_in(folder)[-1]


# ── Kept and found ───────────────────────────────────────────────────────────────────────────────────────


def test_what_was_kept_is_found_bit_for_bit_in_any_order_by_others(tmp_path: Path) -> None:
    keys, X = keys_of(500), matrix(500)
    vectors = Vectors(tmp_path, GIB)
    for first in range(0, 500, 7):
        vectors.add("use-1", keys[first : first + 7], X[first : first + 7])
        assert vectors.has("use-1", N_FEATURES, keys).sum() == min(500, first + 7)
    order = np.random.default_rng(1).permutation(500)
    np.testing.assert_array_equal(kept(tmp_path, [keys[i] for i in order]), X[order])
    assert Vectors(tmp_path, GIB).has("use-1", N_FEATURES, [*keys, *keys_of(3, 500)]).sum() == 500


def test_vectors_of_two_identities_or_widths_never_mix(tmp_path: Path) -> None:
    vectors, keys = Vectors(tmp_path, GIB), keys_of(2)
    vectors.add("use-1", keys, matrix(2))
    assert not vectors.has("use-2", N_FEATURES, keys).any()
    assert not vectors.has("use-1", N_FEATURES + 1, keys).any()


def test_of_a_key_that_was_kept_twice_the_newest_counts(tmp_path: Path) -> None:
    keys, X = keys_of(3), matrix(6)
    vectors = Vectors(tmp_path, GIB)
    vectors.add("use-1", keys, X[:3])
    vectors.add("use-1", keys[:2], X[3:5])
    add(tmp_path, keys[:1], X[5:])
    np.testing.assert_array_equal(kept(tmp_path, keys), X[[5, 4, 2]])


def test_a_reader_sees_what_a_writer_adds_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 50 * RECORD)
    monkeypatch.setattr(segments, "UNSORTED", 20)
    keys, X = keys_of(300), matrix(300)
    writer, reader = Vectors(tmp_path, GIB), Vectors(tmp_path, GIB)
    for first in range(0, 300, 30):
        some = keys[first : first + 30]
        assert not reader.has("use-1", N_FEATURES, some).any()
        writer.add("use-1", some, X[first : first + 30])
        out = np.zeros((first + 30, N_FEATURES), np.float32)
        assert reader.read("use-1", keys[: first + 30], out).all()
        np.testing.assert_array_equal(out, X[: first + 30])
    assert len(files_in(tmp_path)) == 6
    assert max(path.stat().st_size for path in files_in(tmp_path)) == 50 * RECORD


def test_nothing_is_nothing(tmp_path: Path) -> None:
    vectors = Vectors(tmp_path / "missing", GIB)
    assert vectors.has("use-1", N_FEATURES, []).shape == (0,)
    assert vectors.contents("a", []) == []
    vectors.add("use-1", [], matrix(0))
    vectors.note_contents("a", {})
    vectors.trim()
    assert not (tmp_path / "missing").exists()


# ── Addresses ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_address_is_known_to_its_own_label_studio_alone(tmp_path: Path) -> None:
    vectors, (first, second) = Vectors(tmp_path, GIB), keys_of(2)
    vectors.note_contents("http://one 1", {"/data/upload/1.png": first, "/data/upload/2.png": second})
    vectors.note_contents("http://one 1", {"/data/upload/2.png": first})
    others = Vectors(tmp_path, GIB)
    addresses = ["/data/upload/1.png", "/data/upload/2.png", "/data/upload/3.png", "\ud83d"]
    assert others.contents("http://one 1", addresses) == [first, first, None, None]
    assert others.contents("http://one 2", addresses) == [None] * 4
    assert others.contents("http://two 1", addresses) == [None] * 4


# ── Damage ───────────────────────────────────────────────────────────────────────────────────────────────


def cut_off(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(path.stat().st_size - RECORD // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4 * RECORD + HEAD_BYTES + 3] ^= 1
    path.write_bytes(content)


def odd_byte_in_the_middle(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: 5 * RECORD] + b"?" + content[5 * RECORD :])


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def file_instead_of_its_folder(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("odd")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "odd": lambda path: path.write_bytes(os.urandom(path.stat().st_size + 3)),
    "cut off": cut_off,
    "a flipped bit": flip,
    "an odd byte": odd_byte_in_the_middle,
    "a folder": folder_instead,
    "a file instead of its folder": file_instead_of_its_folder,
    "without the folder": lambda path: shutil.rmtree(path.parent),
    "without all": lambda path: shutil.rmtree(path.parents[1]),
}


@pytest.mark.parametrize("is_running", [True, False], ids=["running", "started anew"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_not_found_and_can_be_kept_again(damage: str, is_running: bool, tmp_path: Path) -> None:
    folder, keys, X = tmp_path / FOLDER, keys_of(10), matrix(10)
    vectors = Vectors(folder, GIB)
    vectors.add("use-1", keys, X)
    DAMAGE[damage](files_in(folder)[0])
    vectors = vectors if is_running else Vectors(folder, GIB)
    out = np.full_like(X, np.nan)
    found = vectors.read("use-1", keys, out)
    assert not found.all()
    np.testing.assert_array_equal(out[found], X[found])  # never another value's
    lost = ~vectors.has("use-1", N_FEATURES, keys)
    assert (lost | found).all()  # what was not whole is said to be missing from then on
    vectors.add("use-1", [key for key, is_lost in zip(keys, lost, strict=True) if is_lost], X[lost])
    assert vectors.has("use-1", N_FEATURES, keys).all()
    np.testing.assert_array_equal(kept(folder, keys), X)
    out = np.zeros_like(X)
    assert vectors.read("use-1", keys, out).all()
    np.testing.assert_array_equal(out, X)


def test_on_a_full_disk_nothing_of_a_batch_stays_and_the_rest_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, X = keys_of(20), matrix(20)
    vectors = Vectors(tmp_path, GIB)
    vectors.add("use-1", keys[:10], X[:10])
    n_left = [3 * RECORD]
    write = os.pwrite

    def full(file: int, content: bytes, at: int) -> int:
        if not n_left[0]:
            raise OSError(28, "No space left on device")
        written = write(file, content[: n_left[0]], at)
        n_left[0] -= written
        return written

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        vectors.add("use-1", keys[10:], X[10:])
    monkeypatch.setattr(os, "pwrite", write)
    assert vectors.has("use-1", N_FEATURES, keys).sum() == 10
    vectors.add("use-1", keys[10:], X[10:])
    np.testing.assert_array_equal(kept(tmp_path, keys), X)


KILLED = """
import sys
from pathlib import Path
import numpy as np
from exemplar.store.vectors import Vectors
folder, n = Path(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(7)
keys = [key.tobytes() for key in rng.integers(0, 256, (n, 16), np.uint8)]
X = np.random.default_rng(0).normal(size=(n, 6)).astype(np.float32)
vectors = Vectors(folder, 2**30)
for first in range(0, n, 10):
    vectors.add("use-1", keys[first:first + 10], X[first:first + 10])
    print(first, flush=True)
"""


@pytest.mark.parametrize("point", ["vectors.before", "vectors.during", "vectors.after"])
def test_a_kill_at_any_point_leaves_what_is_whole(point: str, tmp_path: Path) -> None:
    folder, points = tmp_path / "kept", tmp_path / "points"
    points.mkdir()
    command = [sys.executable, "-c", KILLED, str(folder), "20000"]
    environment = {**os.environ, "FAILPOINTS": str(points)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) == 40:
                (tmp_path / "armed").write_text("kill")
                (tmp_path / "armed").rename(points / point)
                break
        n_done = 50 + 10 * len(child.stdout.readlines())
    assert child.returncode == -9
    keys, X = keys_of(20_000), matrix(20_000)
    found = kept(folder, keys)
    assert not np.isnan(found[:n_done]).any()
    there = ~np.isnan(found).any(axis=1)
    np.testing.assert_array_equal(found[there], X[there])
    add(folder, keys, X)
    np.testing.assert_array_equal(kept(folder, keys), X)


# ── Several at once ──────────────────────────────────────────────────────────────────────────────────────


def test_two_writers_use_two_files_and_a_third_goes_on_where_one_ended(tmp_path: Path) -> None:
    keys, X = keys_of(30), matrix(30)
    one, two = Vectors(tmp_path, GIB), Vectors(tmp_path, GIB)
    one.add("use-1", keys[:10], X[:10])
    two.add("use-1", keys[10:20], X[10:20])
    assert len(files_in(tmp_path)) == 2
    del one, two
    command = [sys.executable, "-c", KILLED, str(tmp_path), "30"]
    for _ in range(3):
        subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_array_equal(kept(tmp_path, keys), X)
    assert len(files_in(tmp_path)) == 3  # two descriptors are still open here; the children share one


def test_threads_add_and_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 64 * RECORD)
    keys, X = keys_of(800), matrix(800)
    vectors, wrong = Vectors(tmp_path, GIB), []

    def work(part: int) -> None:
        for first in range(part * 200, (part + 1) * 200, 20):
            vectors.add("use-1", keys[first : first + 20], X[first : first + 20])
            out = np.zeros_like(X)
            found = vectors.read("use-1", keys, out)
            if not found[part * 200 : first + 20].all() or (out[found] != X[found]).any():
                wrong.append(first)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    np.testing.assert_array_equal(kept(tmp_path, keys), X)


# ── Bounds ───────────────────────────────────────────────────────────────────────────────────────────────


def test_where_there_is_more_than_is_allowed_what_was_not_used_for_longest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 10 * RECORD)
    keys, X = keys_of(50), matrix(50)
    vectors = Vectors(tmp_path, 30 * RECORD)
    vectors.add("use-1", keys, X)
    for age, path in enumerate(reversed(files_in(tmp_path))):
        os.utime(path, (time.time() - 7200 * (age + 1),) * 2)
    Vectors(tmp_path, GIB).read("use-1", keys[:10], np.zeros((10, N_FEATURES), np.float32))  # the oldest is of use
    vectors.trim()
    assert vectors.has("use-1", N_FEATURES, keys).tolist() == [True] * 10 + [False] * 20 + [True] * 20
    vectors.add("use-1", keys, X)  # where it has written before is gone, or goes on
    assert vectors.has("use-1", N_FEATURES, keys).all()


def test_zero_bytes_allowed_keep_nothing(tmp_path: Path) -> None:
    vectors = Vectors(tmp_path, 0)
    vectors.add("use-1", keys_of(5), matrix(5))
    vectors.trim()
    assert files_in(tmp_path) == []


def test_a_process_has_the_vectors_of_a_folder_once(tmp_path: Path) -> None:
    assert vectors_of(tmp_path, GIB) is vectors_of(tmp_path, GIB)
    assert vectors_of(tmp_path, GIB) is not vectors_of(tmp_path / "other", GIB)


def test_a_whole_pool_is_looked_up_in_seconds(tmp_path: Path) -> None:
    n, n_features = 100_000, 512
    keys = [key.tobytes() for key in np.random.default_rng(3).integers(0, 256, (n, 16), np.uint8)]
    X = np.random.default_rng(4).random((4096, n_features), np.float32)
    vectors = Vectors(tmp_path, GIB)
    for first in range(0, n, 4096):
        some = keys[first : first + 4096]
        vectors.add("use-1", some, X[: len(some)])
    others, out = Vectors(tmp_path, GIB), np.zeros((n, n_features), np.float32)
    started = time.process_time()
    assert others.has("use-1", n_features, keys).all()
    assert others.read("use-1", keys, out).all()
    assert time.process_time() - started < 5
    np.testing.assert_array_equal(out[-1], X[(n - 1) % 4096])
