"""The vectors of values that were embedded once: the folder ``.vectors`` of MODEL_DIR, shared by all projects.

::

    .vectors/<digest of an identity>-<n_features>/…   by the key of a value, its vector; float32
    .vectors/addresses/…                              by a file's address, the key of what it holds

A cache: it may be deleted, and what is missing or damaged is embedded again. One process writes, any number read.
An address is that of one Label Studio and one organization of it: others would get another file by it, or none.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exemplar.store.segments import KEY_BYTES, Table, segments_in

FOLDER = ".vectors"  # no host is called so, whose folder it would be
ADDRESSES = "addresses"
Matrix = NDArray[np.float32]


class Vectors:
    """All vectors that are kept in a folder.

    Parameters
    ----------
    folder : Path
    max_bytes : int
        What was not used for longest goes where there is more.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._tables: dict[str, Table] = {}

    def has(self, identity: str, n_features: int, keys: Sequence[bytes]) -> NDArray[np.bool_]:
        """Return of which values the vectors are there."""
        return self._vectors(identity, n_features).has(keys)

    def read(self, identity: str, keys: Sequence[bytes], out: Matrix) -> NDArray[np.bool_]:
        """Read vectors into the rows of ``out``, shape (n_keys, n_features); return which were there."""
        return self._vectors(identity, out.shape[1]).read(keys, out.view(np.uint8))

    def add(self, identity: str, keys: Sequence[bytes], X: Matrix) -> None:
        """Keep vectors; OSError if there is no room for them."""
        if len(keys):
            payloads = np.ascontiguousarray(X, "<f4").view(np.uint8)
            self._vectors(identity, X.shape[1]).add(keys, payloads)

    def contents(self, whose: str, addresses: Sequence[str]) -> list[bytes | None]:
        """Return the keys of what files held when they were last read, None for those that never were."""
        keys = [_address_key(whose, address) for address in addresses]
        found = np.zeros((len(keys), KEY_BYTES), np.uint8)
        is_known = self._addresses().read(keys, found)
        return [row.tobytes() if known else None for row, known in zip(found, is_known, strict=True)]

    def note_contents(self, whose: str, contents: Mapping[str, bytes]) -> None:
        """Keep what files hold, by their address."""
        if contents:
            keys = [_address_key(whose, address) for address in contents]
            held = np.frombuffer(b"".join(contents.values()), np.uint8).reshape(len(keys), KEY_BYTES)
            self._addresses().add(keys, held)

    def trim(self) -> None:
        """Delete the files that were not used for longest, until the rest is no more than is allowed."""
        found = []
        for folder in self._folder.glob("*"):
            for path in segments_in(folder):
                try:
                    state = path.stat()
                except OSError:
                    continue
                found.append((state.st_mtime, state.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _vectors(self, identity: str, n_features: int) -> Table:
        digest = hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()
        return self._table(f"{digest}-{n_features}", 4 * n_features)

    def _addresses(self) -> Table:
        return self._table(ADDRESSES, KEY_BYTES)

    def _table(self, name: str, n_bytes: int) -> Table:
        return self._tables.setdefault(name, Table(self._folder / name, n_bytes))


@lru_cache(8)
def vectors_of(model_dir: Path, max_bytes: int) -> Vectors:
    """Return the vectors that are kept in MODEL_DIR: a process has them once."""
    return Vectors(model_dir / FOLDER, max_bytes)


def _address_key(whose: str, address: str) -> bytes:
    return hashlib.blake2b(f"{whose}\0{address}".encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()
