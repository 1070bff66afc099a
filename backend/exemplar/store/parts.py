"""The parts that snapshots share: big arrays and the tasks, in files named after the digest of their content."""

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
    """The shared parts of one project; a file is never changed, only replaced by one that is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Return the path of a part that is whole.

        Raises
        ------
        DamagedError, OSError
            If it holds something else than its name says, or cannot be read.
        """
        path = self.folder / name
        files.check_digest(path, path.stem)
        return path

    def save_array(self, array: NDArray[Any]) -> str:
        """Write an array, unless it was mapped from a part that is whole; return its file's name."""
        return self._mapped_from(array) or self._write_array(array)

    def _mapped_from(self, array: NDArray[Any]) -> str | None:
        if not isinstance(array, np.memmap) or array.filename is None:
            return None
        path = Path(array.filename)
        return path.name if path.parent == self.folder and self._holds(path.name) else None

    def _write_array(self, array: NDArray[Any]) -> str:
        draft = self.folder / ".draft.npy"
        try:
            path = self.folder / f"{files.save_array(draft, array)}.npy"
            files.move(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        return path.name

    def save_tasks(self, tasks: tuple[Task, ...], known: str | None) -> str:
        """Write the tasks without annotations, unless ``known``, the file of the last ones, holds the same."""
        if known is not None:
            with suppress(OSError, ValueError):  # damaged: written anew
                if same_but_for_annotations(tasks, read_tasks(self.path(known))):
                    return known
        return self.save_json(orjson.dumps(tasks_to_json(tasks)))

    def save_json(self, content: bytes) -> str:
        """Write some JSON, unless it is there already; return its file's name."""
        name = f"{files.digest_of_bytes(content)}.json"
        if not self._holds(name):
            files.save_bytes(self.folder / name, content)
        return name

    def keep_only(self, used: set[str]) -> None:
        """Delete the parts and drafts that nothing points to."""
        for path in self.folder.iterdir():
            if path.name not in used:
                files.remove(path)

    def _holds(self, name: str) -> bool:
        try:
            self.path(name)
        except (OSError, ValueError):
            return False
        return True
