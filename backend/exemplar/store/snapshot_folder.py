"""The snapshots of one project, each an immutable folder, and the pointer to the one that is served."""

import logging
import shutil
import tempfile
from pathlib import Path

import orjson

from exemplar.store import files
from exemplar.store.arrays import GEOMETRY, SHARED, arrays_of, assemble, mapped, read_geometry, read_tasks
from exemplar.store.parts import Parts
from exemplar.store.snapshot import (
    FORMAT,
    Facts,
    Snapshot,
    annotations_to_json,
    facts_from_json,
    facts_to_json,
    with_annotations,
)

logger = logging.getLogger(__name__)

KEPT_SNAPSHOTS = 3


class SnapshotFolder:
    """The snapshots in a project's folder."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._folder = project / "snapshots"
        self._parts = Parts(project / "parts")

    def current_name(self) -> str:
        """Return the name of the snapshot that is served, or an empty string."""
        try:
            return (self._project / "CURRENT").read_text().strip()
        except FileNotFoundError:
            return ""

    def current(self) -> Snapshot | None:
        """Load the snapshot that is served; None if there is none that this version can read."""
        name = self.current_name()
        if not name:
            return None
        try:
            return self._load(self._folder / name)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            logger.warning("Snapshot %s of %s cannot be read and is rebuilt: %s", name, self._project.name, error)
            return None

    def facts(self) -> Facts | None:
        """Load only the facts of the snapshot that is served."""
        raw = files.read_json(self._folder / self.current_name() / "facts.json")
        return facts_from_json(raw["facts"]) if raw and raw.get("format") == FORMAT else None

    def next_number(self) -> int:
        taken = [int(path.name) for path in self._folder.glob("[0-9]*")]
        return 1 + max(taken, default=0)

    def save(self, snapshot: Snapshot) -> None:
        """Write the snapshot whole, then point CURRENT at it; on any error the old one stays."""
        self._parts.folder.mkdir(parents=True, exist_ok=True)
        self._folder.mkdir(exist_ok=True)
        name = f"{snapshot.facts.number:06d}"
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self._folder))
        try:
            parts = {"tasks": self._parts.save_tasks(snapshot.tasks, self._current_tasks())}
            for part, array in arrays_of(snapshot).items():
                if part in SHARED:
                    parts[part] = self._parts.save_array(array)
                else:
                    files.save_array(draft / f"{part}.npy", array)
            if snapshot.text_model:
                terms = {"analyzer": snapshot.text_model.analyzer, "terms": snapshot.text_model.terms}
                files.write_atomically(draft / "terms.json", orjson.dumps(terms))
            files.write_atomically(draft / "annotations.json", orjson.dumps(annotations_to_json(snapshot.tasks)))
            facts = {
                "format": FORMAT,
                "facts": facts_to_json(snapshot.facts),
                "recall": snapshot.geometry.graph.recall,
                "parts": parts,
            }
            files.write_atomically(draft / "facts.json", orjson.dumps(facts))
            draft.rename(self._folder / name)
            files.write_atomically(self._project / "CURRENT", name.encode())
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        self._prune()

    def _current_tasks(self) -> str | None:
        """Return the name of the part with the tasks of the snapshot that is served."""
        raw = files.read_json(self._folder / self.current_name() / "facts.json")
        return raw["parts"]["tasks"] if raw and raw.get("format") == FORMAT else None

    def _load(self, folder: Path) -> Snapshot:
        raw = orjson.loads((folder / "facts.json").read_bytes())
        if raw["format"] != FORMAT:
            raise ValueError(f"format {raw['format']}, this version reads {FORMAT}")
        parts = {part: self._parts.folder / name for part, name in raw["parts"].items()}
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
        snapshots = sorted(self._folder.glob("[0-9]*"), key=lambda path: int(path.name))
        for folder in [*snapshots[:-KEPT_SNAPSHOTS], *self._folder.glob(".draft-*")]:
            shutil.rmtree(folder, ignore_errors=True)
        kept = [files.read_json(folder / "facts.json") or {} for folder in snapshots[-KEPT_SNAPSHOTS:]]
        self._parts.keep_only({name for raw in kept for name in raw.get("parts", {}).values()})
