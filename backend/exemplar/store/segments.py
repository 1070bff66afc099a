"""Tables of records that are only ever added to, in files that may be cut, damaged or gone at any moment.

A record is a key, a checksum and a payload; all of a table have one length, so that it is known without a header
where each begins. A file has one writer, who holds its lock; the end of a record that a kill cut off is overwritten
by the next one. Of a key's records the newest counts. What is damaged is not found: whoever looked makes it again.
"""

import fcntl
import os
import secrets
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.failpoints import reach
from exemplar.store import files

KEY_BYTES = 16
HEAD_BYTES = KEY_BYTES + 4
# A file that has grown so large is followed by another one: the oldest go one by one.
SEGMENT_BYTES = 64 * 2**20
# Records read at once: those that lie near each other, up to so many bytes.
RUN_BYTES, GAP = 2**22, 4
# Rows that were added are sorted in once there are so many.
UNSORTED = 4096
# A file's time tells when it was last of use, to the hour.
TOUCH_EVERY = 3600.0
SUFFIX = ".records"
Payloads = NDArray[np.uint8]


class Table:
    """The records of one folder.

    Parameters
    ----------
    folder : Path
    n_bytes : int
        Length of a payload.
    """

    def __init__(self, folder: Path, n_bytes: int) -> None:
        self.folder = folder
        self.n_bytes = n_bytes
        self._record = HEAD_BYTES + n_bytes
        self._segments: dict[str, _Segment] = {}
        self._writing: tuple[Path, int] | None = None
        self._lock = threading.Lock()

    def has(self, keys: Sequence[bytes]) -> NDArray[np.bool_]:
        """Return which keys have a record; whether it is whole is seen when it is read."""
        with self._lock:
            found = np.zeros(len(keys), bool)
            for _, wanted, _ in self._find(keys):
                found[wanted] = True
            return found

    def count(self) -> int:
        """Return how many records there are, damaged ones and those of the same key too."""
        sizes = (path.stat().st_size for path in segments_in(self.folder))
        return sum(size // self._record for size in sizes)

    def read(self, keys: Sequence[bytes], out: Payloads) -> NDArray[np.bool_]:
        """Read payloads into the rows of ``out``, shape (n_keys, n_bytes); return which were there."""
        done = np.zeros(len(keys), bool)
        with self._lock:
            places = list(self._find(keys))
        for segment, wanted, rows in places:
            whole = segment.read(keys, wanted, rows, out)
            done[wanted[whole]] = True
            with self._lock:
                segment.forget(rows[~whole])
        return done

    def add(self, keys: Sequence[bytes], payloads: Payloads) -> None:
        """Add records."""
        content = b"".join(_records(keys, payloads))
        with self._lock:
            while content:
                file, size = self._file_to_append_to()
                room = max(1, (SEGMENT_BYTES - size) // self._record) * self._record
                _append(file, content[:room], size)
                content = content[room:]

    def _find(self, keys: Sequence[bytes]) -> Iterator[tuple["_Segment", NDArray[np.intp], NDArray[np.intp]]]:
        """Yield each file with which of the keys it has, and in which of its rows; the newest file has the word."""
        if not keys:
            return
        self._look()
        prefixes = np.frombuffer(b"".join(key[:8] for key in keys), np.uint64)
        left = np.arange(len(keys))
        for name in sorted(self._segments, reverse=True):
            if not len(left):
                return
            rows = self._segments[name].rows_of(prefixes[left])
            is_here = rows >= 0
            if is_here.any():
                yield self._segments[name], left[is_here], rows[is_here]
                left = left[~is_here]

    def _look(self) -> None:
        """Take in what came and went since the last look, by this process or others."""
        there = {path.name for path in segments_in(self.folder)}
        self._segments = {name: segment for name, segment in self._segments.items() if name in there}
        for name in there:
            segment = self._segments.setdefault(name, _Segment(self.folder / name, self._record))
            segment.look()

    def _file_to_append_to(self) -> tuple[int, int]:
        """Return a file that is ours alone, with room at its end, and its size."""
        if self._writing is not None:
            path, file = self._writing
            found = os.fstat(file)
            with suppress(OSError):
                if os.path.samestat(found, path.stat()) and found.st_size + self._record <= SEGMENT_BYTES:
                    return file, found.st_size // self._record * self._record
            os.close(file)
            self._writing = None
        files.make_folder(self.folder)
        names = [path.name for path in segments_in(self.folder)]
        for path in [*(self.folder / name for name in sorted(names)[-1:]), self._new_path(names)]:
            mine = _locked(path)
            if mine is None:
                continue
            size = os.fstat(mine).st_size // self._record * self._record
            if size + self._record <= SEGMENT_BYTES:
                self._writing = (path, mine)
                return mine, size
            os.close(mine)
        raise OSError(f"{self.folder}: no file can be written to")

    def _new_path(self, names: Sequence[str]) -> Path:
        """Return the path of a file that is newer than all others, whatever the clock says."""
        newest = max((int(name.partition("-")[0]) for name in names), default=0)
        return self.folder / f"{max(time.time_ns(), newest + 1):020d}-{secrets.token_hex(3)}{SUFFIX}"


class _Segment:
    """One file: where in it which key stands, as far as it was there when somebody looked."""

    def __init__(self, path: Path, record: int) -> None:
        self.path = path
        self._record = record
        self._state: tuple[int, int] = (0, 0)
        self._touched = 0.0
        self._sort(np.empty(0, np.uint64))

    def _sort(self, keys: NDArray[np.uint64]) -> None:
        """Index the file's keys, in the order of its rows; the first eight bytes tell them apart well enough."""
        self._keys = keys
        self._rows = np.argsort(keys, kind="stable")
        self._sorted = keys[self._rows]
        self._added: dict[int, int] = {}
        self._unsorted: list[NDArray[np.uint64]] = []

    def look(self) -> None:
        """Take in what was added."""
        try:
            found = self.path.stat()
            inode, n_rows = found.st_ino, found.st_size // self._record
            if (inode, n_rows) == self._state:
                return
            if inode != self._state[0] or n_rows < self._state[1]:
                self._sort(self._keys[:0])
                self._state = (inode, 0)
            n_known = self._state[1]
            added = self._keys_from(n_known, n_rows)
            self._state = (inode, n_rows)
        except OSError:
            self._sort(self._keys[:0])
            self._state = (0, 0)
            return
        self._unsorted.append(added)
        self._added |= dict(zip(added.tolist(), range(n_known, n_rows), strict=True))
        if n_rows - len(self._keys) > UNSORTED:
            self._sort(np.concatenate([self._keys, *self._unsorted]))

    def _keys_from(self, first: int, n_rows: int) -> NDArray[np.uint64]:
        keys = []
        with self.path.open("rb") as file:
            file.seek(first * self._record)
            for start in range(first, n_rows, step := max(1, RUN_BYTES // self._record)):
                n = min(step, n_rows - start)
                content = np.fromfile(file, np.uint8, n * self._record)
                if len(content) < n * self._record:
                    raise OSError(f"{self.path} became shorter")
                keys.append(content.reshape(n, self._record)[:, :8].copy().view(np.uint64)[:, 0])
        return np.concatenate(keys) if keys else np.empty(0, np.uint64)

    def rows_of(self, prefixes: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Return the row of each key, the last where there are several; -1 for none."""
        rows = np.full(len(prefixes), -1)
        if len(self._sorted):
            at = np.searchsorted(self._sorted, prefixes, side="right") - 1
            rows = np.where(self._sorted[at] == prefixes, self._rows[at], -1)
        if self._added:
            added = np.array([self._added.get(prefix, -1) for prefix in prefixes.tolist()])
            rows = np.where(added >= 0, added, rows)
        return rows

    def forget(self, rows: NDArray[np.intp]) -> None:
        """Do not find these again: they are damaged."""
        if len(rows):
            self._rows = np.where(np.isin(self._rows, rows), -1, self._rows)
            damaged = set(rows.tolist())
            self._added = {prefix: row for prefix, row in self._added.items() if row not in damaged}

    def read(
        self, keys: Sequence[bytes], wanted: NDArray[np.intp], rows: NDArray[np.intp], out: Payloads
    ) -> NDArray[np.bool_]:
        """Read the wanted keys' payloads from their rows into ``out``; return which were whole."""
        whole = np.zeros(len(wanted), bool)
        order = np.argsort(rows, kind="stable")
        with suppress(OSError), self.path.open("rb", buffering=0) as file:
            for run in _runs(rows[order], max(1, RUN_BYTES // self._record)):
                members = order[run]
                first, last = int(rows[members[0]]), int(rows[members[-1]])
                content = os.pread(file.fileno(), (last - first + 1) * self._record, first * self._record)
                for i in members:
                    at = (int(rows[i]) - first) * self._record
                    payload = _payload(content[at : at + self._record], keys[wanted[i]], self._record)
                    if payload is not None:
                        out[wanted[i]] = np.frombuffer(payload, np.uint8)
                        whole[i] = True
            self._touch(file.fileno())
        return whole

    def _touch(self, file: int) -> None:
        if time.time() - self._touched > TOUCH_EVERY:
            self._touched = time.time()
            os.utime(file)


def segments_in(folder: Path) -> list[Path]:
    """Return the files of a table; what else lies in its folder is none of ours."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(SUFFIX) and entry.is_file()]
    except OSError:  # not there, or no folder
        return []
    return [folder / name for name in names if name.partition("-")[0].isdecimal()]


def _locked(path: Path) -> int | None:
    """Return the descriptor of a file that nobody else writes to, or None."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it
        os.close(file)
        return None
    return file


def _append(file: int, content: bytes, size: int) -> None:
    """Write at the end of what is whole; on an error nothing of it stays."""
    half = len(content) // 2
    try:
        reach("vectors.before")
        written = 0
        while written < len(content):
            if written >= half:
                reach("vectors.during")
            end = half if written < half else len(content)
            written += os.pwrite(file, content[written:end], size + written)
    except BaseException:
        os.ftruncate(file, size)
        raise
    reach("vectors.after")


def _records(keys: Sequence[bytes], payloads: Payloads) -> Iterator[bytes]:
    for key, payload in zip(keys, payloads, strict=True):
        content = payload.tobytes()
        yield key + zlib.crc32(content, zlib.crc32(key)).to_bytes(4, "little") + content


def _payload(record: bytes, key: bytes, n_bytes: int) -> bytes | None:
    """Return a record's payload, if it is whole and that of the key."""
    if len(record) < n_bytes or record[:KEY_BYTES] != key:
        return None
    payload = record[HEAD_BYTES:]
    check = int.from_bytes(record[KEY_BYTES:HEAD_BYTES], "little")
    return payload if zlib.crc32(payload, zlib.crc32(key)) == check else None


def _runs(rows: NDArray[Any], at_most: int) -> Iterator[slice]:
    """Yield slices of rising rows that are read at once: near each other, and not too many."""
    first = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i] - rows[i - 1] > GAP or rows[i] - rows[first] >= at_most:
            yield slice(first, i)
            first = i
