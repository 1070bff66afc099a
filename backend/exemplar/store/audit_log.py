"""What we predicted before a person answered: the one thing here that Label Studio does not know."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson


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


class AuditLog:
    """The audit log of one project; what stands there is never changed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, entries: Iterable[AuditEntry]) -> None:
        # Each line begins anew, whatever a crash left of the last one.
        lines = b"".join(b"\n" + orjson.dumps(asdict(entry)) for entry in entries)
        with self._path.open("ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[AuditEntry]:
        """Return all that was written down, the oldest first; a line that a crash cut short is left out."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [AuditEntry(**orjson.loads(line)) for line in lines if line.startswith(b"{") and line.endswith(b"}")]
