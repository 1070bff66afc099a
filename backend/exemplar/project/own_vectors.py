"""Vectors of the user's own: where they are looked for, what is taken, and what the pool's tasks are then seen by.

They win over all that we could make ourselves. A file that was given for the project goes before the field that the
settings name; where there is neither, ``meta`` is looked into. Nothing is embedded and no file of a task is read.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson

from exemplar.features import Block, Vectors, columns_of, put
from exemplar.labelstudio.own_vectors import AUTO, DATA, META, OFF, OwnVector, own_vector, stands_in
from exemplar.labelstudio.pages import UNSHOWN
from exemplar.labelstudio.reading import mapping, text
from exemplar.labelstudio.tasks import Task
from exemplar.settings import Settings
from exemplar.store.own_vectors import GivenFile, OwnVectorStore
from exemplar.store.project_store import ProjectStore
from exemplar.store.vectors import Vectors as Kept

# The view, its kind of values, and what sees it.
VIEW, KIND, NAME = "own vectors", "vector", "own"
# Where nobody has said so, tasks are seen by what their meta holds if more than this share of them have it.
MOST = 0.5
IN_META = "meta"
NOT_SHOWN = "cannot be read: Label Studio itself fails to show the task (500)"
Json = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where a project's own vectors are looked for: a file that was given, or else a field."""

    store: OwnVectorStore
    given: GivenFile | None
    field: str

    @property
    def identity(self) -> str:
        """Return what tells this source from any other: after another one, all tasks are read again."""
        return orjson.dumps([self.given and self.given.token, self.field]).decode()

    @property
    def where(self) -> str:
        """Return what it is called in sentences."""
        fields = [] if self.field in (AUTO, OFF) else [f"{self.field!r}"]
        return " or ".join([repr(self.given.name), *fields] if self.given else fields) or IN_META

    @property
    def is_named(self) -> bool:
        """Return whether somebody has said that there are vectors."""
        return self.given is not None or self.field not in (AUTO, OFF)

    def find(self, raws: Sequence[Json]) -> list[OwnVector | None]:
        """Return the vector of each task, or what is wrong with it; None where there is none."""
        found: list[OwnVector | None] = [None] * len(raws)
        if self.given is not None:
            found = self._in_file(self.given, raws)
        # Whoever gave a file has not said that what stands in meta is of the same model.
        if self.field == OFF or (self.given is not None and self.field == AUTO):
            return found
        return [own or own_vector(stands_in(raw, self.field)) for own, raw in zip(found, raws, strict=True)]

    def _in_file(self, given: GivenFile, raws: Sequence[Json]) -> list[OwnVector | None]:
        names = [_name(raw, given.by) for raw in raws]
        vectors, damaged = self.store.read(given, names)
        why = OwnVector(trouble="is damaged in MODEL_DIR: give the file again, by exemplar vectors")
        return [
            why if is_damaged else own_vector(vector) for vector, is_damaged in zip(vectors, damaged, strict=True)
        ]

    def loss(self) -> str:
        """Return what has been lost of a file's vectors; empty if nothing is."""
        n_kept = self.store.n_kept(self.given) if self.given else 0
        if self.given is None or n_kept >= self.given.n:
            return ""
        return (
            f"of the {self.given.n} vectors of {self.given.name!r}, {n_kept} are left in MODEL_DIR: "
            "give the file again, by exemplar vectors"
        )


def source_of(store: ProjectStore, settings: Settings) -> Source:
    """Return where a project's own vectors are looked for."""
    own = store.own_vectors
    return Source(own, own.given(), settings.embedding_field)


def _name(raw: Mapping[str, Any], by: str) -> str:
    """Return by which name a file knows a task; what no file can hold is nobody's name."""
    return str(raw.get("id")) if not by else text(mapping(raw.get(DATA)).get(by)) or ""


def take(kept: Kept, source: Source, shown_in: str, found: dict[int, OwnVector], raws: list[Json]) -> list[Json]:
    """Keep the vectors of some tasks, note them in ``found`` by the tasks' ids, and return the tasks without them.

    So that a pool's vectors never are in memory as lists of numbers: those take ten times as much.
    """
    own = {raw["id"]: vector for raw, vector in zip(raws, source.find(raws), strict=True) if vector is not None}
    own |= {raw["id"]: OwnVector(trouble=NOT_SHOWN) for raw in raws if UNSHOWN in raw}
    _keep(kept, own.values())
    found |= {task_id: replace(vector, numbers=None) for task_id, vector in own.items()}
    return [_without(raw, source.field, shown_in) for raw in raws]


def _keep(kept: Kept, vectors: Iterable[OwnVector]) -> None:
    by_length: dict[int, dict[bytes, Vectors]] = {}
    for vector in vectors:
        if vector.numbers is not None:
            by_length.setdefault(vector.length, {})[bytes.fromhex(vector.key)] = vector.numbers
    for length, new in by_length.items():
        is_there = kept.has(identity(length), length, list(new))
        keys = [key for key, there in zip(new, is_there, strict=True) if not there]
        kept.add(identity(length), keys, np.array([new[key] for key in keys], np.float32))


def identity(length: int) -> str:
    """Return under what own vectors of a length are kept: those of two lengths never mix."""
    return f"own-{length}"


def _without(raw: Json, field: str, shown_in: str) -> Json:
    data = raw.get(DATA)
    if isinstance(data, dict) and shown_in != field:
        data = {name: value for name, value in data.items() if f"{DATA}.{name}" != field and name != field}
    return {name: value for name, value in raw.items() if name not in (META, DATA)} | {DATA: data}


@dataclass(frozen=True)
class Own:
    """How a pool stands with vectors of the user's own.

    ``length`` is that of the vectors by which the tasks are seen, 0 where they are not; ``said`` tells so in words,
    or why not, and is empty where there are none and nobody has said so.
    """

    source: str = ""
    where: str = ""
    length: int = 0
    said: str = ""

    def trouble(self, own: OwnVector | None) -> str:
        """Return why a task cannot be seen by its vector; empty if it can."""
        if own is None:
            return f"has no vector in {self.where}"
        if own.trouble:
            return f"its vector in {self.where} {own.trouble}"
        if own.length != self.length:
            return f"its vector in {self.where} has {own.length} numbers: expected {self.length}, as most have"
        return ""

    def block(self) -> Block:
        """Return the one block of X."""
        return Block(VIEW, self.where, KIND, NAME, identity(self.length), 1.0, self.length)


def own_of(source: Source, tasks: Sequence[Task]) -> Own:
    """Return whether tasks are seen by vectors of the user's own: by those of the length that most have."""
    lengths = Counter(task.own.length for task in tasks if task.own is not None and task.own.key)
    length, n = lengths.most_common(1)[0] if lengths else (0, 0)
    loss = source.loss()
    said = f"vectors of your own, {length} numbers each, in {source.where}, of {n} of {len(tasks)} tasks"
    if not n:
        said = f"no task has a vector in {source.where} that can be used" if source.is_named else ""
    elif not source.is_named and n <= MOST * len(tasks):
        said = (
            f"{n} of {len(tasks)} tasks have a vector of {length} numbers in {source.where}, too few to go by; "
            f'{{"embedding_field": "{META}"}} in the extra params takes them, and leaves the other tasks out'
        )
        length = 0
    return Own(source.identity, source.where, length, "; ".join(filter(None, (said, loss))))


def is_own(blocks: Sequence[Block]) -> bool:
    """Return whether these are what tasks are seen by where they have vectors of the user's own."""
    return any(block.kind == KIND for block in blocks)


def rows_of_own(blocks: Sequence[Block], tasks: Sequence[Task]) -> tuple[list[int], Vectors, dict[int, str]]:
    """Return the ids of the tasks whose vectors the blocks can take, these, and for the others why not."""
    [block], [columns] = blocks, columns_of(blocks)
    own = Own(where=block.field, length=block.n_features)
    why = {task.id: trouble for task in tasks if (trouble := own.trouble(task.own))}
    there = [task for task in tasks if task.id not in why]
    X = np.zeros((len(there), block.n_features), np.float32)
    vectors = [task.own.numbers for task in there if task.own is not None]
    if vectors:
        put(X, slice(0, len(there)), block, columns, np.array(vectors, np.float32))
    return [task.id for task in there], X, why
