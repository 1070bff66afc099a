"""What could not be read of tasks, and how far reading is: the folder ``reading``.

::

    reading/left-out.json   the tasks that are left out, why, and when they are tried again

A cache like all else here: what is missing or broken is read again.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from exemplar.store.files import make_folder, read_record, write_record


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

    ``allowed`` are the hosts that were allowed at the time. ``fresh_since`` is when the first vector was made that
    no snapshot has yet.
    """

    tasks: dict[int, LeftOut] = field(default_factory=dict)
    n_unread: int = 0
    hosts: dict[str, float] = field(default_factory=dict)
    allowed: tuple[str, ...] = ()
    fresh_since: float | None = None


class ReadingStore:
    """The folder of one project's reading."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "reading"

    def notes(self) -> Notes:
        """Return what was noted last."""
        return read_record(self._notes_path, Notes) or Notes()

    def save_notes(self, notes: Notes) -> None:
        """Note what is left out, unless that stands there already."""
        if notes != self.notes():
            make_folder(self._folder)
            write_record(self._notes_path, notes)

    def note_joined(self) -> None:
        """Note that all that was embedded stands in a snapshot now."""
        self.save_notes(replace(self.notes(), fresh_since=None))

    @property
    def _notes_path(self) -> Path:
        return self._folder / "left-out.json"
