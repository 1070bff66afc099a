"""The folder of one project.

::

    connection.json      how Label Studio and we reach each other; readable by the owner alone
    webhooks, orders     one byte for each webhook and each Start Training: their sizes are the dirty numbers
    introduced           its time tells when Label Studio last introduced the project
    annotated            when each annotation came in, 8 bytes each
    lock                 held while a refresh runs; the system frees it when the process dies
    done.json            how far the dirty numbers are done, the sync has read and the rows have followed
    status.json          what the worker is doing, or what went wrong last
    import.json          a bulk import that is under way, or was cut off
    audit.jsonl          what we predicted before a person answered; with the next, all that cannot be rebuilt
    accept/000001.json   predictions that were frozen for the accept rule, and which of them were drawn
    CURRENT              the name of the snapshot that is served
    snapshots/000012/    facts.json, annotations.json and the small arrays
    parts/<digest>.npy   big arrays that snapshots share
    parts/<digest>.json  the tasks without their annotations, shared as well
"""

import fcntl
import os
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson

from exemplar.store import files
from exemplar.store.accept_set import AcceptSet, accept_set_from_json, accept_set_to_json
from exemplar.store.audit_log import AuditEntry, AuditLog
from exemplar.store.records import Connection, Done, Importing, Status
from exemplar.store.snapshot import Facts, Snapshot
from exemplar.store.snapshot_folder import SnapshotFolder

# So many of the last annotations tell at what rhythm annotators work.
N_RECENT = 6


class ProjectStore:
    """Everything that is kept of one project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._snapshots = SnapshotFolder(folder)
        self._audits = AuditLog(folder / "audit.jsonl")

    # -- connection and status --------------------------------------------------------------------------

    def connection(self) -> Connection | None:
        raw = files.read_json(self.folder / "connection.json")
        return Connection(**raw) if raw else None

    def save_connection(self, connection: Connection) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_atomically(self.folder / "connection.json", orjson.dumps(asdict(connection)))

    def update_connection(self, **changes: Any) -> None:
        connection = self.connection()
        if connection is not None:
            self.save_connection(replace(connection, **changes))

    def status(self) -> Status:
        raw = files.read_json(self.folder / "status.json")
        return Status(**raw) if raw else Status()

    def save_status(self, status: Status) -> None:
        files.write_atomically(self.folder / "status.json", orjson.dumps(asdict(status)))

    def note(self, **changes: Any) -> None:
        """Change parts of the status."""
        self.save_status(replace(self.status(), **changes))

    # -- dirty numbers ----------------------------------------------------------------------------------

    def raise_number(self, kind: str) -> int:
        """Raise the dirty number ``webhooks`` or ``orders``; return its new value.

        Appending a byte is atomic, needs no lock, survives the process and takes microseconds: the answer
        to a webhook, inside an annotator's Submit, waits for nothing else.
        """
        file = os.open(self.folder / kind, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, b"+")
            return os.fstat(file).st_size
        finally:
            os.close(file)

    def touch(self, name: str) -> None:
        """Remember when something last happened, as the time of an empty file."""
        (self.folder / name).touch()

    def note_annotation(self) -> None:
        """Remember that an annotator has just submitted."""
        file = os.open(self.folder / "annotated", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, struct.pack("<d", time.time()))
        finally:
            os.close(file)

    def annotated_at(self) -> list[float]:
        """Return when the last annotations came in, at most ``N_RECENT``, in seconds since the epoch.

        What cannot be so (a file cut short, a clock that was set back) is left out.
        """
        try:
            with (self.folder / "annotated").open("rb") as file:
                whole = os.fstat(file.fileno()).st_size // 8 * 8
                file.seek(max(0, whole - 8 * N_RECENT))
                recent = [time_ for (time_,) in struct.iter_unpack("<d", file.read(min(whole, 8 * N_RECENT)))]
        except OSError:
            return []
        now = time.time()
        return sorted(time_ for time_ in recent if 0 < time_ <= now)

    def number(self, kind: str) -> int:
        try:
            return (self.folder / kind).stat().st_size
        except FileNotFoundError:
            return 0

    def raised_at(self, kind: str) -> float:
        """Return when a number was last raised or a file touched, in seconds since the epoch; 0 for never."""
        try:
            return (self.folder / kind).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def done(self) -> Done:
        raw = files.read_json(self.folder / "done.json")
        return Done(**raw) if raw else Done()

    def save_done(self, done: Done) -> None:
        files.write_atomically(self.folder / "done.json", orjson.dumps(asdict(done)))

    # -- bulk import ------------------------------------------------------------------------------------

    def importing(self) -> Importing | None:
        """Return the bulk import of which Label Studio has not said how it ended."""
        raw = files.read_json(self.folder / "import.json")
        return Importing(**raw) if raw else None

    def note_import(self, importing: Importing) -> None:
        """Write down that an import begins."""
        files.write_atomically(self.folder / "import.json", orjson.dumps(asdict(importing)))

    def end_import(self) -> None:
        """Write down that it has ended, one way or the other."""
        (self.folder / "import.json").unlink(missing_ok=True)

    # -- audit log --------------------------------------------------------------------------------------

    def append_audits(self, entries: Iterable[AuditEntry]) -> None:
        """Append to the audit log."""
        self._audits.append(entries)

    def audit_log(self) -> list[AuditEntry]:
        """Return all that was written down, the oldest first."""
        return self._audits.read()

    # -- accept rule ------------------------------------------------------------------------------------

    def save_accept_set(self, accept_set: AcceptSet) -> None:
        path = self._accept_path(accept_set.attempt)
        path.parent.mkdir(exist_ok=True)
        files.write_atomically(path, orjson.dumps(accept_set_to_json(accept_set)))

    def accept_attempt(self) -> int:
        """Return the number of the last set that was put to the accept rule, 0 before the first."""
        return max((int(path.stem) for path in (self.folder / "accept").glob("[0-9]*.json")), default=0)

    def accept_set(self) -> AcceptSet | None:
        """Load the last set that was put to the accept rule."""
        attempt = self.accept_attempt()
        return accept_set_from_json(orjson.loads(self._accept_path(attempt).read_bytes())) if attempt else None

    def _accept_path(self, attempt: int) -> Path:
        return self.folder / "accept" / f"{attempt:06d}.json"

    # -- lock -------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the project's lock; yields False if another process holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    # -- snapshots --------------------------------------------------------------------------------------

    def current_name(self) -> str:
        """Return the name of the snapshot that is served, or an empty string."""
        return self._snapshots.current_name()

    def current(self) -> Snapshot | None:
        """Load the snapshot that is served; None if there is none that this version can read."""
        return self._snapshots.current()

    def facts(self) -> Facts | None:
        """Load only the facts of the snapshot that is served."""
        return self._snapshots.facts()

    def next_number(self) -> int:
        """Return the number of the next snapshot."""
        return self._snapshots.next_number()

    def save(self, snapshot: Snapshot) -> None:
        """Write the snapshot whole, then let it be served; on any error the old one stays."""
        self._snapshots.save(snapshot)
