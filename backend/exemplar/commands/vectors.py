"""`exemplar vectors`: give a project the vectors by which its tasks are to be seen, or take them back."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from exemplar.commands.holding import hold
from exemplar.commands.known import known_project
from exemplar.commands.vector_files import Batch, Vector, read_vectors
from exemplar.errors import InputError, TaskDataError
from exemplar.labelstudio.own_vectors import MAX_LENGTH, check_vector
from exemplar.settings import Settings
from exemplar.store.own_vectors import GivenFile
from exemplar.store.project_store import ProjectStore

# So many of the vectors that cannot be used are named.
NAMED = 5


@dataclass
class Tally:
    """What a file holds: how long the vector of each name is, or why it cannot be used, and what nobody can use."""

    lengths: dict[str, int] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    n_without: int = 0
    n_nameless: int = 0
    n_repeated: int = 0


def give_vectors(
    settings: Settings, project_id: int, path: Path, *, ids: Path | None = None, by: str = ""
) -> list[str]:
    """Keep a file's vectors for a project, and let its backend know; return what is to be said, in lines.

    Parameters
    ----------
    settings : Settings
    project_id : int
    path, ids : Path
        See ``read_vectors``.
    by : str
        The field of the tasks' data in which their names stand; empty: the names are their numbers.

    Raises
    ------
    UnknownProjectError
        If nothing is known of the project in MODEL_DIR.
    InputError
        If the file cannot be read, or none of it can be used.
    OSError
        If there is no such file, or no room.
    """
    store, tally = known_project(settings, project_id), Tally()
    given = store.own_vectors.write(path.name, by, _taken(read_vectors(path, ids=ids, by=by), tally))
    try:
        said = list(_said(store, given, tally))
    except InputError:
        store.own_vectors.drop(given)
        raise
    with ExitStack() as held:
        hold(store, held)
        store.own_vectors.use(given)
    store.raise_number("webhooks")
    return said


def forget_vectors(settings: Settings, project_id: int) -> str:
    """Delete the vectors that were given for a project, and let its backend know; return what is to be said."""
    store = known_project(settings, project_id)
    given = store.own_vectors.given()
    with ExitStack() as held:
        hold(store, held)
        store.own_vectors.forget()
    store.raise_number("webhooks")
    if given is None:
        return f"Project {project_id}: no vectors were given"
    return f"Project {project_id}: the {given.n} vectors of {given.name!r} are forgotten"


def _taken(batches: Iterator[Batch], tally: Tally) -> Iterator[dict[str, Vector]]:
    """Yield what is kept of a file: what cannot be used too, so that its task can say why."""
    for names, vectors in batches:
        kept = {}
        for name, vector in zip(names, vectors, strict=True):
            if not name:
                tally.n_nameless += 1
            elif name in tally.lengths or name in tally.unusable:
                tally.n_repeated += 1
            elif vector is None or not len(vector):
                tally.n_without += 1
            else:
                _count(tally, name, vector)
                if len(vector) <= MAX_LENGTH:
                    with np.errstate(over="ignore"):
                        kept[name] = np.asarray(vector, np.float32)
        yield kept


def _count(tally: Tally, name: str, vector: Vector) -> None:
    try:
        tally.lengths[name] = len(check_vector(vector))
    except TaskDataError as error:
        tally.unusable[name] = str(error)


def _said(store: ProjectStore, given: GivenFile, tally: Tally) -> Iterator[str]:
    """Yield what became of a file; InputError if that is nothing."""
    if not tally.lengths:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(tally.unusable.items())[:NAMED])
        raise InputError(f"No vector of {given.name!r} can be used: {reasons or 'it has none'}")
    [(length, n)] = Counter(tally.lengths.values()).most_common(1)
    known_by = f"the tasks' {given.by!r}" if given.by else "the tasks' numbers"
    yield f"Project {store.project_id}: {n} vectors of {length} numbers are kept of {given.name!r}, by {known_by}"
    if not given.by:
        yield from _against_the_project(store, given, tally, length)
    others = {
        name: f"has {other} numbers: expected {length}, as most have"
        for name, other in tally.lengths.items()
        if other != length
    }
    why = tally.unusable | others
    for name, reason in list(why.items())[:NAMED]:
        yield f"  {name} is left out: its vector {reason}"
    if len(why) > NAMED:
        yield f"  {len(why) - NAMED} more are left out for such reasons"
    if tally.n_without:
        yield f"  {tally.n_without} ids have no vector"
    if tally.n_nameless:
        yield f"  {tally.n_nameless} vectors have no id"
    if tally.n_repeated:
        yield f"  {tally.n_repeated} vectors are of an id that stands there before: the first of each counts"
    yield "The backend takes them with its next refresh; `exemplar features` says how many tasks have one"


def _against_the_project(store: ProjectStore, given: GivenFile, tally: Tally, length: int) -> Iterator[str]:
    snapshot = store.current()
    if snapshot is None:
        return
    tasks = {str(task.id) for task in snapshot.tasks}
    n = sum(tally.lengths.get(task) == length for task in tasks)
    if not n:
        first = next(iter(tally.lengths))
        raise InputError(
            f"No id in {given.name!r}, as {first!r}, is the number of one of the project's {len(tasks)} tasks: "
            "expected these, or --by FIELD, the field of the tasks' data in which the ids stand"
        )
    strangers = len(tally.lengths.keys() - tasks)
    yield f"  {n} of the project's {len(tasks)} tasks have one" + (
        f"; {strangers} ids are no task's number" if strangers else ""
    )
