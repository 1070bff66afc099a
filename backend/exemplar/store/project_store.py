"""The folder of one project.

::

    connection.json      how Label Studio and we reach each other; readable by the owner alone
    webhooks, orders     one byte for each webhook and each Start Training: their sizes are the dirty numbers
    introduced           its time tells when Label Studio last introduced the project
    annotated            its time tells when an annotator was last at work
    lock                 held while a refresh runs; the system frees it when the process dies
    done.json            how far the dirty numbers are done, the sync has read and the rows have followed
    status.json          what the worker is doing, or what went wrong last
    audit.jsonl          what we predicted before a person answered; with the next, all that cannot be rebuilt
    accept/000001.json   predictions that were frozen for the accept rule, and which of them were drawn
    CURRENT              the name of the snapshot that is served
    snapshots/000012/    facts.json, annotations.json and the small arrays
    parts/<digest>.npy   big arrays that snapshots share
    parts/<digest>.json  the tasks without their annotations, shared as well
"""

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from exemplar.labelstudio.tasks import Task
from exemplar.store.accept_set import AcceptSet, accept_set_from_json, accept_set_to_json
from exemplar.store.arrays import GEOMETRY, SHARED, arrays_of, assemble, mapped, read_geometry, read_tasks
from exemplar.store.snapshot import (
    FORMAT,
    Facts,
    Snapshot,
    annotations_to_json,
    facts_from_json,
    facts_to_json,
    same_but_for_annotations,
    tasks_to_json,
    with_annotations,
)

logger = logging.getLogger(__name__)

KEPT_SNAPSHOTS = 3


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How Label Studio and we reach each other for one project.

    ``key`` is Label Studio's full name of the project, ``<id>.<created>``; ``seen_as`` the host and port
    under which Label Studio reaches us; ``before`` the project's settings as they were before we changed
    them; ``managed`` is set once we have; ``closed`` when the project has disconnected us.
    """

    key: str
    url: str
    access_token: str = ""
    seen_as: str = ""
    extra_params: dict[str, Any] = field(default_factory=dict)
    webhook_secret: str = ""
    before: dict[str, Any] | None = None
    managed: bool = False
    closed: bool = False

    @property
    def project_id(self) -> int:
        return int(self.key.partition(".")[0])

    @property
    def created(self) -> int:
        return int(self.key.partition(".")[2])


@dataclass(frozen=True, kw_only=True)
class Done:
    """How far we are: dirty numbers that are taken in, the newest change that the sync has read (an ISO
    time, as Label Studio wrote it), and the snapshot that all rows in Label Studio follow.
    """

    webhooks: int = 0
    orders: int = 0
    cursor: str = ""
    reconciled: str = ""


@dataclass(frozen=True, kw_only=True)
class Status:
    """What the worker is doing for a project (``doing``), or what went wrong last (``problem``)."""

    state: str = "starting"
    doing: str | None = None
    problem: str | None = None
    pending_rows: int = 0


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


class ProjectStore:
    """Everything that is kept of one project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # -- connection and status --------------------------------------------------------------------------

    def connection(self) -> Connection | None:
        raw = _read_json(self.folder / "connection.json")
        return Connection(**raw) if raw else None

    def save_connection(self, connection: Connection) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_atomically(self.folder / "connection.json", orjson.dumps(asdict(connection)))

    def update_connection(self, **changes: Any) -> None:
        connection = self.connection()
        if connection is not None:
            self.save_connection(replace(connection, **changes))

    def status(self) -> Status:
        raw = _read_json(self.folder / "status.json")
        return Status(**raw) if raw else Status()

    def save_status(self, status: Status) -> None:
        _write_atomically(self.folder / "status.json", orjson.dumps(asdict(status)))

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
        raw = _read_json(self.folder / "done.json")
        return Done(**raw) if raw else Done()

    def save_done(self, done: Done) -> None:
        _write_atomically(self.folder / "done.json", orjson.dumps(asdict(done)))

    # -- audit log --------------------------------------------------------------------------------------

    def append_audits(self, entries: Iterable[AuditEntry]) -> None:
        """Append to the audit log; what stands there is never changed."""
        # Each line begins anew, whatever a crash left of the last one.
        lines = b"".join(b"\n" + orjson.dumps(asdict(entry)) for entry in entries)
        with (self.folder / "audit.jsonl").open("ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def audit_log(self) -> list[AuditEntry]:
        """Return all that was written down, the oldest first; a line that a crash cut short is left out."""
        try:
            lines = (self.folder / "audit.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [AuditEntry(**orjson.loads(line)) for line in lines if line.startswith(b"{") and line.endswith(b"}")]

    # -- accept rule ------------------------------------------------------------------------------------

    def save_accept_set(self, accept_set: AcceptSet) -> None:
        path = self._accept_path(accept_set.attempt)
        path.parent.mkdir(exist_ok=True)
        _write_atomically(path, orjson.dumps(accept_set_to_json(accept_set)))

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
        try:
            return (self.folder / "CURRENT").read_text().strip()
        except FileNotFoundError:
            return ""

    def current(self) -> Snapshot | None:
        """Load the snapshot that is served; None if there is none that this version can read."""
        name = self.current_name()
        if not name:
            return None
        try:
            return self._load(self.folder / "snapshots" / name)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            logger.warning("Snapshot %s of %s cannot be read and is rebuilt: %s", name, self.folder.name, error)
            return None

    def facts(self) -> Facts | None:
        """Load only the facts of the snapshot that is served."""
        raw = _read_json(self.folder / "snapshots" / self.current_name() / "facts.json")
        return facts_from_json(raw["facts"]) if raw and raw.get("format") == FORMAT else None

    def next_number(self) -> int:
        taken = [int(path.name) for path in (self.folder / "snapshots").glob("[0-9]*")]
        return 1 + max(taken, default=0)

    def save(self, snapshot: Snapshot) -> None:
        """Write the snapshot whole, then point CURRENT at it; on any error the old one stays."""
        snapshots = self.folder / "snapshots"
        (self.folder / "parts").mkdir(parents=True, exist_ok=True)
        snapshots.mkdir(exist_ok=True)
        name = f"{snapshot.facts.number:06d}"
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=snapshots))
        try:
            parts = {"tasks": self._save_tasks(snapshot.tasks)}
            for part, array in arrays_of(snapshot).items():
                if part in SHARED:
                    parts[part] = self._part_of(array) or self._save_part(array)
                else:
                    _save_array(draft / f"{part}.npy", array)
            if snapshot.text_model:
                terms = {"analyzer": snapshot.text_model.analyzer, "terms": snapshot.text_model.terms}
                _write_atomically(draft / "terms.json", orjson.dumps(terms))
            _write_atomically(draft / "annotations.json", orjson.dumps(annotations_to_json(snapshot.tasks)))
            facts = {
                "format": FORMAT,
                "facts": facts_to_json(snapshot.facts),
                "recall": snapshot.geometry.graph.recall,
                "parts": parts,
            }
            _write_atomically(draft / "facts.json", orjson.dumps(facts))
            draft.rename(snapshots / name)
            _write_atomically(self.folder / "CURRENT", name.encode())
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        self._prune()

    def _save_part(self, array: NDArray[Any]) -> str:
        content = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16)
        content.update(f"{array.dtype.str}{array.shape}".encode())
        path = self.folder / "parts" / f"{content.hexdigest()}.npy"
        if not _holds(path, array):
            draft = path.with_suffix(".draft")
            try:
                _save_array(draft, array)
                draft.rename(path)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
        return path.name

    def _part_of(self, array: NDArray[Any]) -> str | None:
        """Return the part that an array was mapped from, which need not be written again."""
        if not isinstance(array, np.memmap) or array.filename is None:
            return None
        path = Path(array.filename)
        return path.name if path.parent == self.folder / "parts" and _holds(path, array) else None

    def _save_tasks(self, tasks: tuple[Task, ...]) -> str:
        current = _read_json(self.folder / "snapshots" / self.current_name() / "facts.json")
        if current and current.get("format") == FORMAT:
            known: Path = self.folder / "parts" / current["parts"]["tasks"]
            with suppress(OSError, ValueError):  # spoilt by a crash: written anew
                if same_but_for_annotations(tasks, read_tasks(known)):
                    return known.name
        content = orjson.dumps(tasks_to_json(tasks))
        path = self.folder / "parts" / f"{hashlib.blake2b(content, digest_size=16).hexdigest()}.json"
        if not path.exists() or path.stat().st_size != len(content):
            _write_atomically(path, content)
        return path.name

    def _load(self, folder: Path) -> Snapshot:
        raw = orjson.loads((folder / "facts.json").read_bytes())
        if raw["format"] != FORMAT:
            raise ValueError(f"format {raw['format']}, this version reads {FORMAT}")
        parts = {part: self.folder / "parts" / name for part, name in raw["parts"].items()}
        geometry = read_geometry(tuple((part, parts[part]) for part in GEOMETRY if part in parts), raw["recall"])
        arrays = {path.stem: mapped(path) for path in folder.glob("*.npy")}
        if "text_components" in parts:
            arrays["text_components"] = mapped(parts["text_components"])
        return assemble(
            facts_from_json(raw["facts"]),
            with_annotations(read_tasks(parts["tasks"]), orjson.loads((folder / "annotations.json").read_bytes())),
            orjson.loads((folder / "terms.json").read_bytes()) if "text_idf" in arrays else None,
            arrays,
            geometry,
        )

    def _prune(self) -> None:
        """Delete all but the newest snapshots, and the parts and drafts that nothing points to."""
        snapshots = sorted((self.folder / "snapshots").glob("[0-9]*"), key=lambda path: int(path.name))
        for folder in [*snapshots[:-KEPT_SNAPSHOTS], *(self.folder / "snapshots").glob(".draft-*")]:
            shutil.rmtree(folder, ignore_errors=True)
        kept = [_read_json(folder / "facts.json") or {} for folder in snapshots[-KEPT_SNAPSHOTS:]]
        used = {name for raw in kept for name in raw.get("parts", {}).values()}
        for path in (self.folder / "parts").iterdir():
            if path.name not in used:
                path.unlink()


def _save_array(path: Path, array: NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def _holds(path: Path, array: NDArray[Any]) -> bool:
    """Return whether a file is there and whole; its name tells the content."""
    try:
        shape: tuple[int, ...] = np.load(path, mmap_mode="r", allow_pickle=False).shape
        return shape == array.shape
    except (OSError, EOFError, ValueError):
        return False


def _read_json(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except orjson.JSONDecodeError:
        logger.warning("%s is broken and is written anew", path)
        return None


def _write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step, readable by the owner alone; a crash leaves the old or the new one."""
    file, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
