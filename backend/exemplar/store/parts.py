"""The parts that snapshots share: big arrays and the tasks, in files named after their content."""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from exemplar.labelstudio.tasks import Task
from exemplar.store import files
from exemplar.store.arrays import read_tasks
from exemplar.store.snapshot import same_but_for_annotations, tasks_to_json


class Parts:
    """The shared parts of one project; a file is never changed once it bears its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_array(self, array: NDArray[Any]) -> str:
        """Write an array, unless it is there; return its file's name."""
        return self._mapped_from(array) or self._write_array(array)

    def _write_array(self, array: NDArray[Any]) -> str:
        content = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16)
        content.update(f"{array.dtype.str}{array.shape}".encode())
        path = self.folder / f"{content.hexdigest()}.npy"
        if not _holds(path, array):
            draft = path.with_suffix(".draft")
            try:
                files.save_array(draft, array)
                draft.rename(path)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
        return path.name

    def _mapped_from(self, array: NDArray[Any]) -> str | None:
        """Return the part that an array was mapped from, which need not be written again."""
        if not isinstance(array, np.memmap) or array.filename is None:
            return None
        path = Path(array.filename)
        return path.name if path.parent == self.folder and _holds(path, array) else None

    def save_tasks(self, tasks: tuple[Task, ...], known: str | None) -> str:
        """Write the tasks without annotations, unless ``known``, the file of the last ones, holds the same."""
        if known is not None:
            with suppress(OSError, ValueError):  # spoilt by a crash: written anew
                if same_but_for_annotations(tasks, read_tasks(self.folder / known)):
                    return known
        content = orjson.dumps(tasks_to_json(tasks))
        path = self.folder / f"{hashlib.blake2b(content, digest_size=16).hexdigest()}.json"
        if not path.exists() or path.stat().st_size != len(content):
            files.write_atomically(path, content)
        return path.name

    def keep_only(self, used: set[str]) -> None:
        """Delete the parts and drafts that nothing points to."""
        for path in self.folder.iterdir():
            if path.name not in used:
                path.unlink()


def _holds(path: Path, array: NDArray[Any]) -> bool:
    """Return whether a file is there and whole; its name tells the content."""
    try:
        shape: tuple[int, ...] = np.load(path, mmap_mode="r", allow_pickle=False).shape
        return shape == array.shape
    except (OSError, EOFError, ValueError):
        return False
