"""The snapshots of one project, each an immutable folder, and the pointer to the one that is served."""

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path

import orjson

from exemplar.failpoints import reach
from exemplar.store import files
from exemplar.store.arrays import (
    DUPLICATES,
    GEOMETRY,
    PRIOR,
    arrays_of,
    assemble,
    is_shared,
    kept_models,
    mapped,
    model_part,
    models_of,
    read_geometry,
    read_tasks,
)
from exemplar.store.decoding import DamagedError, decode, encode
from exemplar.store.parts import Parts
from exemplar.store.snapshot import (
    FORMAT,
    Contents,
    Facts,
    KeptModel,
    Snapshot,
    annotations_to_json,
    with_annotations,
)

logger = logging.getLogger(__name__)

KEPT_SNAPSHOTS = 3
_NAME = re.compile(r"\d{6,}")


@dataclass(frozen=True)
class _Format:
    """What is read of ``facts.json`` first: another version's may have anything else."""

    format: int


class SnapshotFolder:
    """The snapshots in a project's folder."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._folder = project / "snapshots"
        self._parts = Parts(project / "parts")

    def current_name(self) -> str:
        """Return the name of the snapshot that is to be served, or an empty string."""
        try:
            name = (self._project / "CURRENT").read_bytes().decode("ascii", "replace").strip()
        except OSError:
            return ""
        return name if _NAME.fullmatch(name) else ""

    def current(self) -> Snapshot | None:
        """Load the snapshot that is served: the current one, or the newest before it that is whole."""
        for name in self._candidates():
            try:
                return self._load(self._folder / name)
            except Exception as error:  # whatever a damaged file brings about
                project = self._project.name
                logger.warning("Snapshot %s of %s cannot be read and is rebuilt: %s", name, project, error)
        return None

    def facts(self) -> Facts | None:
        """Load only the facts of the snapshot that is served."""
        for name in self._candidates():
            try:
                return self._contents(self._folder / name).facts
            except (OSError, DamagedError):
                continue  # loading it says why
        return None

    def next_number(self) -> int:
        """Return the number of the next snapshot."""
        return 1 + max(map(int, self._names()), default=0)

    def save(self, snapshot: Snapshot) -> None:
        """Write the snapshot whole, then point CURRENT at it; on any error the old one stays."""
        files.make_folder(self._parts.folder)
        files.make_folder(self._folder)
        name = f"{snapshot.facts.number:06d}"
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self._folder))
        try:
            contents = self._write(snapshot, draft)
            reach("snapshot.before")
            draft = draft.rename(self._folder / name)
            reach("snapshot.after")
            files.write_atomically(self._project / "CURRENT", name.encode())
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        self._prune(contents)

    def _write(self, snapshot: Snapshot, draft: Path) -> Contents:
        """Write all of a snapshot's files; ``facts.json``, which names the others, comes last."""
        parts = {"tasks": self._parts.save_tasks(snapshot.tasks, self._current_tasks())}
        own = {}
        for part, array in arrays_of(snapshot).items():
            if is_shared(part):
                parts[part] = self._parts.save_array(array)
            else:
                own[f"{part}.npy"] = files.save_array(draft / f"{part}.npy", array)
        for number, model in enumerate(kept_models(snapshot.models)):
            parts[model_part(number)] = self._parts.save_json(encode(model))
        annotations = orjson.dumps(annotations_to_json(snapshot.tasks))
        own["annotations.json"] = files.save_bytes(draft / "annotations.json", annotations)
        recall = snapshot.geometry.graph.recall
        contents = Contents(format=FORMAT, facts=snapshot.facts, recall=recall, parts=parts, files=own)
        files.write_record(draft / "facts.json", contents)
        return contents

    def _current_tasks(self) -> str | None:
        """Return the name of the part with the tasks of the snapshot that is served."""
        try:
            return self._contents(self._folder / self.current_name()).parts["tasks"]
        except (OSError, DamagedError):
            return None

    def _contents(self, folder: Path) -> Contents:
        raw = (folder / "facts.json").read_bytes()
        found = decode(_Format, raw).format
        if found != FORMAT:
            raise DamagedError(f"format {found}, this version reads {FORMAT}")
        return decode(Contents, raw)

    def _load(self, folder: Path) -> Snapshot:
        contents = self._contents(folder)
        for name, digest in contents.files.items():
            files.check_digest(folder / name, digest)
        parts = {part: self._parts.path(name) for part, name in contents.parts.items()}
        geometry = read_geometry({part: parts[part] for part in GEOMETRY if part in parts}, contents.recall)
        arrays = {Path(name).stem: mapped(folder / name) for name in contents.files if name.endswith(".npy")}
        arrays |= {part: mapped(path) for part, path in parts.items() if part.startswith((PRIOR, *DUPLICATES))}
        return assemble(
            contents.facts,
            with_annotations(read_tasks(parts["tasks"]), (folder / "annotations.json").read_bytes()),
            models_of(self._kept_models(parts), parts),
            arrays,
            geometry,
        )

    def _kept_models(self, parts: dict[str, Path]) -> list[KeptModel]:
        named = takewhile(lambda part: part in parts, map(model_part, count()))
        return [decode(KeptModel, parts[part].read_bytes()) for part in named]

    def _candidates(self) -> Iterator[str]:
        """Yield the current snapshot's name and then those before it; of an unreadable pointer, all."""
        current = self.current_name()
        if current:
            yield current
        for name in reversed(self._names()):
            if not current or int(name) < int(current):
                yield name

    def _names(self) -> list[str]:
        """Return the names of all snapshots, the oldest first."""
        try:
            names = [path.name for path in self._folder.iterdir()]
        except OSError:
            return []
        return sorted(filter(_NAME.fullmatch, names), key=int)

    def _prune(self, contents: Contents) -> None:
        """Delete all but the newest snapshots, and the parts and drafts that nothing points to."""
        names, used = self._names(), set(contents.parts.values())
        reach("prune.before")
        for folder in [self._folder / name for name in names[:-KEPT_SNAPSHOTS]] + [*self._folder.glob(".draft-*")]:
            files.remove(folder)
        reach("prune.during")
        for name in names[-KEPT_SNAPSHOTS:]:
            try:
                used |= set(self._contents(self._folder / name).parts.values())
            except (OSError, DamagedError):
                continue  # nobody will read it
        self._parts.keep_only(used)
        reach("prune.after")
