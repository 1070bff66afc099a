"""What was read of tasks' files since the last snapshot, and what could not be: the folder ``reading``.

::

    reading/1718000000000.npz   vectors that no snapshot has yet, one file for each round of reading
    reading/left-out.json       the tasks that are left out, why, and when they are tried again

A cache like all else here: what is missing or broken is read again.
"""

import io
import logging
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exemplar.store.files import make_folder, read_record, write_atomically, write_record

logger = logging.getLogger(__name__)

Vector = NDArray[np.float32]
_BROKEN = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class LeftOut:
    """Why a task is left out: for as long as its data is the same, or until it is tried again."""

    digest: str
    why: str
    tries: int = 0
    again_at: float | None = None


@dataclass(frozen=True)
class Notes:
    """All that is left out, by task id; what is yet to be read; hosts that are left alone, and until when.

    ``allowed`` are the hosts that were allowed at the time.
    """

    tasks: dict[int, LeftOut] = field(default_factory=dict)
    n_unread: int = 0
    hosts: dict[str, float] = field(default_factory=dict)
    allowed: tuple[str, ...] = ()


class ReadingStore:
    """The folder of one project's reading."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "reading"

    def keep(self, features: str, vectors: Mapping[int, tuple[str, Vector]]) -> None:
        """Keep vectors by task id, each with the digest of its task's data."""
        if not vectors:
            return
        content = io.BytesIO()
        np.savez(
            content,
            features=np.array(features),
            task_ids=np.array(list(vectors), np.int64),
            digests=np.array([digest for digest, _ in vectors.values()]),
            X=np.stack([vector for _, vector in vectors.values()]),
        )
        make_folder(self._folder)
        write_atomically(self._folder / f"{time.time_ns()}.npz", content.getvalue())

    def vectors(self, features: str) -> dict[int, tuple[str, Vector]]:
        """Return the vectors of that kind that were kept."""
        found: dict[int, tuple[str, Vector]] = {}
        for path in self._rounds():
            try:
                with np.load(path, allow_pickle=False) as kept:
                    if str(kept["features"]) == features:
                        rows = zip(kept["digests"].tolist(), np.asarray(kept["X"], np.float32), strict=True)
                        found.update(zip(kept["task_ids"].tolist(), rows, strict=True))
            except _BROKEN as error:
                logger.warning("%s is broken; its files are read again: %s", path, error)
        return found

    def kept_for(self) -> float:
        """Return for how many seconds the oldest vectors have been kept."""
        rounds = self._rounds()
        return time.time() - int(rounds[0].stem) / 1e9 if rounds else 0.0

    def forget_vectors(self) -> None:
        """Delete the vectors, which stand in a snapshot now."""
        for path in self._rounds():
            path.unlink(missing_ok=True)

    def notes(self) -> Notes:
        """Return what was noted last."""
        return read_record(self._notes_path, Notes) or Notes()

    def save_notes(self, notes: Notes) -> None:
        """Note what is left out, unless that stands there already."""
        if notes != self.notes():
            make_folder(self._folder)
            write_record(self._notes_path, notes)

    @property
    def _notes_path(self) -> Path:
        return self._folder / "left-out.json"

    def _rounds(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*.npz") if path.stem.isdecimal())
