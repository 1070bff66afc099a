"""The folder of one project.

::

    connection.json      how Label Studio and we reach each other; readable by the owner alone; with a copy
    webhooks, orders     one byte for each webhook and each Start Training: their sizes are the dirty numbers
    asking               there while Label Studio is asked which of its model connections leads to us
    annotated            when each annotation came in, 8 bytes each
    lock                 held while a refresh runs; the system frees it when the process dies
    done.json            how far the dirty numbers are done, the sync has read and the rows have followed
    status.json          what the worker is doing, or what went wrong last
    import.json          a bulk import that is under way, or was cut off
    shown.json           which generation Label Studio shows, since when, and when rows of others may go
    audit.jsonl          what we predicted before a person answered; with the next, all that cannot be rebuilt
    own.json, own/       the vectors that somebody gave for the tasks in a file (store/own_vectors.py)
    accept/000001.json   predictions that were frozen for the accept rule, and which of them were drawn; with a copy
    reading/             what was read of tasks' files and is in no snapshot yet, and what is left out
    CURRENT              the name of the snapshot that is served
    snapshots/000012/    annotations.json, the small arrays, and facts.json with the digests of all
    parts/<digest>.npy   big arrays that snapshots share
    parts/<digest>.json  the tasks without their annotations, shared as well

Any of them may be missing, damaged, or something else than it should be: what can be made anew then is, what
cannot (the connection, the accept sets) is kept twice, and the audit log goes on without its odd lines.
"""

import fcntl
import os
import re
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from exemplar.failpoints import reach
from exemplar.store import files
from exemplar.store.accept_set import AcceptSet
from exemplar.store.audit_log import AuditEntry, AuditLog
from exemplar.store.own_vectors import OwnVectorStore
from exemplar.store.reading import ReadingStore
from exemplar.store.records import Connection, Done, Importing, Shown, Status
from exemplar.store.snapshot import Facts, Snapshot
from exemplar.store.snapshot_folder import SnapshotFolder

# So many of the last annotations tell at what rhythm annotators work.
N_RECENT = 6
# Of a shared folder, the clock that dates the files may run ahead of ours by so many seconds.
CLOCKS_DIFFER = 2.0
_ATTEMPT = re.compile(r"\d{6,}")


class ProjectStore:
    """Everything that is kept of one project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reading = ReadingStore(folder)
        self.own_vectors = OwnVectorStore(folder)
        self._snapshots = SnapshotFolder(folder)
        self._audits = AuditLog(folder / "audit.jsonl")

    @property
    def project_id(self) -> int:
        """Label Studio's number of the project; the folder bears its full name."""
        return int(self.folder.name.partition(".")[0])

    # -- connection and status --------------------------------------------------------------------------

    def connection(self) -> Connection | None:
        """Return how to reach the project; None if it is not known, or what is known is damaged."""
        return files.read_either(self._connection_path, Connection)

    def save_connection(self, connection: Connection) -> None:
        """Keep how the project was introduced."""
        files.make_folder(self.folder)
        files.write_twice(self._connection_path, connection)

    def update_connection(self, **changes: Any) -> None:
        """Change parts of how the project was introduced, if it was."""
        connection = self.connection()
        if connection is not None:
            self.save_connection(replace(connection, **changes))

    def status(self) -> Status:
        """Return how the project stands."""
        return files.read_record(self.folder / "status.json", Status) or Status()

    def save_status(self, status: Status) -> None:
        """Keep how the project stands."""
        files.write_record(self.folder / "status.json", status)

    def note(self, **changes: Any) -> None:
        """Change parts of the status."""
        self.save_status(replace(self.status(), **changes))

    @property
    def _connection_path(self) -> Path:
        return self.folder / "connection.json"

    # -- dirty numbers ----------------------------------------------------------------------------------

    def raise_number(self, kind: str) -> int:
        """Raise the dirty number ``webhooks`` or ``orders``; return its new value.

        Appending a byte is atomic, needs no lock, survives the process and takes microseconds: the answer
        to a webhook, inside an annotator's Submit, waits for nothing else.
        """
        reach("number.before", kind)
        file = files.open_to_append(self.folder / kind)
        try:
            os.write(file, b"+")
            reach("number.after", kind)
            return os.fstat(file).st_size
        finally:
            os.close(file)

    def touch(self, name: str) -> None:
        """Remember when something last happened, as the time of an empty file."""
        file = files.open_to_append(self.folder / name)
        try:
            os.utime(file)
        finally:
            os.close(file)

    def note_annotation(self) -> None:
        """Remember that an annotator has just submitted."""
        file = files.open_to_append(self.folder / "annotated")
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
        """Return a dirty number, 0 before the first webhook or order."""
        try:
            return (self.folder / kind).stat().st_size
        except OSError:
            return 0

    def raised_at(self, kind: str) -> float:
        """Return when a number was last raised or a file touched, in seconds since the epoch; 0 for never.

        A time that is still to come (a clock was set back, a file was copied) tells nothing.
        """
        try:
            at = (self.folder / kind).stat().st_mtime
        except OSError:
            return 0.0
        return at if at <= time.time() + CLOCKS_DIFFER else 0.0

    def done(self) -> Done:
        """Return how far we are."""
        return files.read_record(self.folder / "done.json", Done) or Done()

    def save_done(self, done: Done) -> None:
        """Keep how far we are."""
        files.write_record(self.folder / "done.json", done)

    # -- bulk import ------------------------------------------------------------------------------------

    def importing(self) -> Importing | None:
        """Return the bulk import of which Label Studio has not said how it ended."""
        return files.read_record(self.folder / "import.json", Importing)

    def note_import(self, importing: Importing) -> None:
        """Write down that an import begins."""
        files.write_record(self.folder / "import.json", importing)

    def end_import(self) -> None:
        """Write down that it has ended, one way or the other."""
        files.remove(self.folder / "import.json")

    # -- generations ------------------------------------------------------------------------------------

    def shown(self) -> Shown | None:
        """Return which generation Label Studio shows, as far as it was written down."""
        return files.read_record(self.folder / "shown.json", Shown)

    def note_shown(self, shown: Shown) -> None:
        """Write down which generation Label Studio shows."""
        files.write_record(self.folder / "shown.json", shown)

    # -- audit log --------------------------------------------------------------------------------------

    def append_audits(self, entries: Iterable[AuditEntry]) -> None:
        """Append to the audit log."""
        self._audits.append(entries)

    def audit_log(self) -> list[AuditEntry]:
        """Return all that was written down and can be read, the oldest first."""
        return self._audits.read().entries

    def audit_trouble(self) -> str | None:
        """Say what of the audit log is not used, None if all is."""
        return self._audits.trouble()

    # -- accept rule ------------------------------------------------------------------------------------

    def save_accept_set(self, accept_set: AcceptSet) -> None:
        """Keep a frozen set under the number of its attempt."""
        path = self._accept_path(accept_set.attempt)
        files.make_folder(path.parent)
        files.write_twice(path, accept_set)

    def accept_attempt(self) -> int:
        """Return the number of the last set that was put to the accept rule, 0 before the first."""
        names = (path.name.partition(".")[0] for path in (self.folder / "accept").glob("[0-9]*.json"))
        return max((int(name) for name in names if _ATTEMPT.fullmatch(name)), default=0)

    def accept_set(self) -> AcceptSet | None:
        """Load the last set that was put to the accept rule; None if there is none that can be read."""
        attempt = self.accept_attempt()
        return files.read_either(self._accept_path(attempt), AcceptSet) if attempt else None

    def _accept_path(self, attempt: int) -> Path:
        return self.folder / "accept" / f"{attempt:06d}.json"

    def mend(self) -> None:
        """Make anew what is kept twice and is damaged once."""
        files.mend(self._connection_path, Connection)
        self.own_vectors.mend()
        if attempt := self.accept_attempt():
            files.mend(self._accept_path(attempt), AcceptSet)

    # -- lock -------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the project's lock; yields False if another process holds it."""
        files.make_folder(self.folder)
        with os.fdopen(files.open_to_append(self.folder / "lock"), "ab") as file:
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
        """Load the snapshot that is served: the current one or, if it is damaged, one before it."""
        return self._snapshots.current()

    def is_current(self, snapshot: Snapshot) -> bool:
        """Return whether a snapshot is the current one, and not one before it."""
        return self.current_name() == f"{snapshot.facts.number:06d}"

    def facts(self) -> Facts | None:
        """Load only the facts of the snapshot that is served."""
        return self._snapshots.facts()

    def next_number(self) -> int:
        """Return the number of the next snapshot."""
        return self._snapshots.next_number()

    def save(self, snapshot: Snapshot) -> None:
        """Write the snapshot whole, then let it be served; on any error the old one stays."""
        self._snapshots.save(snapshot)
