"""The vectors of a file that somebody gave for a project: no cache, for nobody here could make them again.

::

    own.json                     which file's vectors are used, and by what their tasks are known; with a copy
    own/<token>/<length>/…       by the name of a task, the vector that the file has for it; float32

A file's vectors are written whole before ``own.json`` names their folder. Each has a checksum of its own, so that
damage costs those that it hits.
"""

import hashlib
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exemplar.store import files
from exemplar.store.segments import KEY_BYTES, Table

Vector = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class GivenFile:
    """A file of vectors: its name, and how many are kept of it, of which lengths.

    ``by`` is the field of the tasks' data in which their names stand; empty: they are the tasks' numbers.
    """

    name: str
    by: str
    token: str
    n: int
    lengths: tuple[int, ...]
    given_at: float


class OwnVectorStore:
    """The vectors that were given for one project."""

    def __init__(self, project: Path) -> None:
        self._record = project / "own.json"
        self._folder = project / "own"

    def given(self) -> GivenFile | None:
        """Return which file is used; None if none is, or nobody can tell any more."""
        return files.read_either(self._record, GivenFile)

    def write(self, name: str, by: str, batches: Iterable[Mapping[str, Vector]]) -> GivenFile:
        """Write a file's vectors by the names of their tasks, each name once; nobody uses them yet."""
        token = secrets.token_hex(8)
        tables: dict[int, Table] = {}
        n = 0
        try:
            for batch in batches:
                for length, names in _by_length(batch).items():
                    X = np.ascontiguousarray([batch[name] for name in names], "<f4")
                    table = tables.setdefault(length, Table(self._folder / token / str(length), 4 * length))
                    table.add([_key(name) for name in names], X.view(np.uint8))
                    n += len(names)
        except BaseException:
            files.remove(self._folder / token)
            raise
        return GivenFile(name=name, by=by, token=token, n=n, lengths=tuple(sorted(tables)), given_at=time.time())

    def use(self, given: GivenFile) -> None:
        """Let these be used, by whoever holds the project's lock; those of the file before are deleted."""
        files.write_twice(self._record, given)
        self._delete_others(given.token)

    def drop(self, given: GivenFile) -> None:
        """Delete what was written and is not to be used."""
        files.remove(self._folder / given.token)

    def mend(self) -> None:
        """Make anew what is kept twice and is damaged once, by whoever holds the project's lock."""
        files.mend(self._record, GivenFile)

    def forget(self) -> None:
        """Delete all, by whoever holds the project's lock."""
        for path in (self._record, files.copy_of(self._record), self._folder):
            files.remove(path)

    def read(self, given: GivenFile, names: Sequence[str]) -> tuple[list[Vector | None], NDArray[np.bool_]]:
        """Return the vectors of tasks by their names, None where there is none; and which of these are damaged."""
        found: list[Vector | None] = [None] * len(names)
        is_damaged = np.zeros(len(names), bool)
        keys = [_key(name) for name in names]
        tables, damaged = self._tables(given)
        for table in tables:
            out = np.zeros((len(names), table.n_bytes), np.uint8)
            is_there = table.has(keys)
            is_whole = table.read(keys, out)
            # A table does not find a second time what it has seen to be damaged.
            damaged |= {key for key, lost in zip(keys, is_there & ~is_whole, strict=True) if lost}
            for row in np.flatnonzero(is_whole).tolist():
                found[row] = out[row].view("<f4").astype(np.float32)
        if damaged:
            is_damaged[:] = [key in damaged for key in keys]
        return found, is_damaged

    def n_kept(self, given: GivenFile) -> int:
        """Return how many vectors of a file are there, damaged or not."""
        return sum(table.count() for table in self._tables(given)[0])

    def _tables(self, given: GivenFile) -> tuple[list[Table], set[bytes]]:
        return _tables(self._folder / given.token, given.lengths)

    def _delete_others(self, token: str) -> None:
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.name != token:
                files.remove(path)


@lru_cache(8)
def _tables(folder: Path, lengths: tuple[int, ...]) -> tuple[list[Table], set[bytes]]:
    """Return the tables of a file's vectors, whose index is read once, and the keys that are damaged."""
    return [Table(folder / str(length), 4 * length) for length in lengths], set()


def _by_length(batch: Mapping[str, Vector]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name, vector in batch.items():
        found.setdefault(len(vector), []).append(name)
    return found


def _key(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()
