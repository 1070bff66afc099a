"""The ways in which files are read and written here.

A crash leaves the old or the new one, never half of one. Whatever stands where a file or folder of ours should be
is moved aside and kept, never deleted. Digests tell what was written from what a disk or a person made of it.
"""

import errno
import hashlib
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from exemplar.failpoints import reach
from exemplar.store.decoding import DamagedError, decode, encode

logger = logging.getLogger(__name__)

T = TypeVar("T")

# So many files are known by their digests.
KEPT_DIGESTS = 10_000
_OBSTACLES = (errno.EISDIR, errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO)


class Signature(NamedTuple):
    """What tells one state of a file from another without reading it; a renamed file keeps it."""

    device: int
    inode: int
    size: int
    changed: int


_digests: dict[Signature, str] = {}
_complained: set[tuple[Path, Signature | None]] = set()
_whole: set[tuple[Signature | None, Signature | None]] = set()


def signature_of(path: Path) -> Signature:
    """Return by what a file is told from any other, and from itself once it was touched."""
    found = path.stat()
    return Signature(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _state_of(path: Path) -> Signature | None:
    try:
        return signature_of(path)
    except OSError:
        return None


def digest_of(path: Path) -> str:
    """Return the digest of a file's content; a process reads each once, for as long as nobody touches it."""
    signature = signature_of(path)
    found = _digests.get(signature)
    if found is None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()[:32]
        _remember(signature, found)
    return found


def digest_of_bytes(content: bytes) -> str:
    """Return the digest of some content, as ``digest_of`` gives a file's."""
    return hashlib.sha256(content).hexdigest()[:32]


def check_digest(path: Path, expected: str) -> None:
    """Make sure that a file holds what was written into it.

    Raises
    ------
    DamagedError
        If it does not.
    """
    found = digest_of(path)
    if found != expected:
        raise DamagedError(f"the digest of {path.name} is {found}, expected {expected}")


def _remember(signature: Signature, digest: str) -> None:
    if len(_digests) >= KEPT_DIGESTS:
        _digests.clear()
    _digests[signature] = digest


# -- records --------------------------------------------------------------------------------------------------


def read_record(path: Path, kind: type[T]) -> T | None:
    """Return the record in a file; None if there is none, or it is damaged, which is logged once."""
    try:
        return decode(kind, path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, DamagedError) as error:
        _complain(path, error)
        return None


def write_record(path: Path, record: Any) -> None:
    """Replace a record in one step."""
    write_atomically(path, encode(record))


def read_either(path: Path, kind: type[T]) -> T | None:
    """Return a record of which a copy is kept: from the file, or else from the copy."""
    found = read_record(path, kind)
    return found if found is not None else read_record(copy_of(path), kind)


def write_twice(path: Path, record: Any) -> None:
    """Replace a record that nobody could make anew, and its copy."""
    write_record(copy_of(path), record)
    write_record(path, record)


def mend(path: Path, kind: type[T]) -> None:
    """Make a record or its copy anew where the other one is whole; by whoever holds the project's lock."""
    state = (_state_of(path), _state_of(copy_of(path)))
    if state in _whole:
        return
    record, copy = read_record(path, kind), read_record(copy_of(path), kind)
    if (record is None) != (copy is None):
        write_twice(path, record if record is not None else copy)
    _whole.add((_state_of(path), _state_of(copy_of(path))))


def copy_of(path: Path) -> Path:
    """Return where the copy of a record is kept."""
    return path.with_suffix(f".copy{path.suffix}")


def _complain(path: Path, error: Exception) -> None:
    state = (path, _state_of(path))
    if state not in _complained:
        _complained.add(state)
        logger.warning("%s is damaged and is not used: %s", path, error)


# -- writing --------------------------------------------------------------------------------------------------


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step, readable by the owner alone."""
    reach("write.before", path.name)
    file, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    draft, half = Path(name), len(content) // 2
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(content[:half])
            stream.flush()
            reach("write.during", path.name)
            stream.write(content[half:])
            stream.flush()
            os.fsync(stream.fileno())
        reach("write.written", path.name)
        move(draft, path)
        reach("write.after", path.name)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def save_bytes(path: Path, content: bytes) -> str:
    """Write a file of a snapshot; return its digest."""
    write_atomically(path, content)
    digest = digest_of_bytes(content)
    _remember(signature_of(path), digest)
    return digest


def save_array(path: Path, array: NDArray[Any]) -> str:
    """Write an array; return the digest of the file."""
    reach("array.before", path.name)
    with path.open("wb") as file:
        writer = _Digesting(file)
        np.save(writer, array, allow_pickle=False)
        file.flush()
        reach("array.during", path.name)
        os.fsync(file.fileno())
    reach("array.after", path.name)
    digest = writer.digest.hexdigest()[:32]
    _remember(signature_of(path), digest)
    return digest


class _Digesting:
    """A file that is digested as it is written."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, chunk: Any) -> None:
        self.digest.update(chunk)
        self._file.write(chunk)


def move(source: Path, target: Path) -> None:
    """Let a file take the place of another one, whatever stands there."""
    try:
        source.replace(target)
    except (IsADirectoryError, PermissionError):
        if not target.is_dir():
            raise
        set_aside(target)
        source.replace(target)


def open_to_append(path: Path) -> int:
    """Open a file to append to, made if need be, readable by the owner alone; return its descriptor."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno not in _OBSTACLES or not os.path.lexists(path):
            raise
        set_aside(path)
        return os.open(path, flags, 0o600)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, whatever stands there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        for place in (path, *path.parents):
            if os.path.lexists(place) and not place.is_dir():
                set_aside(place)
        path.mkdir(parents=True, exist_ok=True)


def set_aside(path: Path) -> None:
    """Move away what is in the way; it is kept, since nobody here knows what it is."""
    aside = path.with_name(f"{path.name}.set-aside-{time.time_ns()}")
    path.rename(aside)
    logger.warning("%s was in the way and is now %s", path, aside.name)


def remove(path: Path) -> None:
    """Delete a file or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
