"""What we predicted before a person answered: the one thing here that Label Studio does not know."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from exemplar.failpoints import reach
from exemplar.store import files
from exemplar.store.decoding import DamagedError, decode, encode

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """What we predicted for a task before a person answered it.

    ``kind`` is "frozen" for an audit, which is asked blind, and "seen" where the annotator saw the prediction;
    ``choice`` is a class index, -1 for none.
    """

    kind: str
    task: int
    choice: int
    confidence: float
    generation: int
    snapshot: int
    at: float


@dataclass(frozen=True)
class Written:
    """What could be read of an audit log, the oldest entry first, and the numbers of the lines that are odd."""

    entries: list[AuditEntry]
    odd_lines: list[int]


class AuditLog:
    """The audit log of one project; what stands there is never changed, an odd line neither.

    A line is odd when a crash cut it short or its checksum is wrong. It is left where it is, and counted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, entries: Iterable[AuditEntry]) -> None:
        """Write entries to the end of the log, and to the disk."""
        # Each line begins anew, whatever a crash left of the last one.
        lines = b"".join(b"\n" + encode(entry) for entry in entries)
        reach("audit.before")
        with os.fdopen(files.open_to_append(self._path), "ab") as file:
            file.write(lines[: len(lines) // 2])
            file.flush()
            reach("audit.during")
            file.write(lines[len(lines) // 2 :])
            file.flush()
            os.fsync(file.fileno())
        reach("audit.after")

    def read(self) -> Written:
        """Return all that was written down, and which lines could not be read."""
        entries, odd_lines = [], []
        for number, line in enumerate(self._lines(), start=1):
            if not line.strip():
                continue  # a line begins with its end
            try:
                entries.append(decode(AuditEntry, line))
            except DamagedError:
                odd_lines.append(number)
        return Written(entries, odd_lines)

    def trouble(self) -> str | None:
        """Say what of the log is not used, None if all is."""
        aside = [path.name for path in self._path.parent.glob(f"{self._path.name}.set-aside-*")]
        odd = self.read().odd_lines
        said = [f"{len(odd)} lines of {self._path.name} cannot be read (line {odd[0]} first)"] if odd else []
        said += [f"{name} was set aside" for name in sorted(aside)]
        return "; ".join(said) or None

    def _lines(self) -> list[bytes]:
        try:
            return self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:  # a folder, or not ours to read: the next entry sets it aside
            logger.warning("%s cannot be read, and its audits are not counted: %s", self._path, error)
            return []
