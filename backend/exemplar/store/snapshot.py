"""A snapshot: one immutable, complete state of a project's learning.

On disk it is a folder: ``facts.json`` (counts, settings, and the names of the big parts that snapshots share),
``annotations.json``, and one ``.npy`` an array. No pickle anywhere.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.engine import Checkpoint, Columns, Geometry, LinearClassifier
from exemplar.features import Block, Fitted, PoolModel, restored
from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.own_vectors import OwnVector
from exemplar.labelstudio.tasks import Annotation, Task
from exemplar.store.decoding import DamagedError, decode

FORMAT = 9  # raised when an older snapshot can no longer be read; it is then rebuilt from Label Studio


@dataclass(frozen=True)
class NotUsed:
    """How many answers are not used for one reason, and the first of their tasks."""

    n: int
    tasks: tuple[int, ...]


@dataclass(frozen=True)
class DuplicatesFound:
    """How many groups of near-duplicates there are, of how many tasks, and in how many of them answers differ.

    Where they are not ``used``, each task is asked for itself.
    """

    groups: int = 0
    tasks: int = 0
    differ: int = 0
    used: bool = True


def not_used_sentence(why: str, found: NotUsed) -> str:
    """Return what log and report say of such answers."""
    more = ", …" if found.n > len(found.tasks) else ""
    return f"{found.n} answer(s), of task {', '.join(map(str, found.tasks))}{more}: {why}"


@dataclass(frozen=True)
class Believed:
    """What a prior is of, and what it counts.

    Attributes
    ----------
    of : str
        "names", or the model version whose predictions it is of.
    made_of : str
        A digest of what it was made of: another one, and it is made anew.
    answers, share : float
        Its weight: see ``Weight``.
    """

    of: str
    made_of: str
    answers: float
    share: float

    @property
    def counts(self) -> str:
        """Return in words what it counts."""
        if not self.answers:
            return "as nothing: they say nothing, or the answers do not agree"
        drawn = f", and {self.share:.0%} of the mean" if self.share else ""
        return f"as {self.answers:g} answers of each choice{drawn}"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a snapshot says of itself, apart from its arrays.

    ``n_clustered`` is the number of tasks when the clusters were made, ``features`` the kind of vectors in X, and
    ``blocks`` which columns of it are whose; ``unreadable`` maps task ids to why they were left out;
    ``temperature`` is what calibrates the confidences, ``averaged_at`` the one that ``neighbor_proba`` takes,
    ``honesty`` what is known of how right they are; ``not_used`` tells by reason which answers are not used, or not
    all of them; ``n_shown`` of the predictions are sure enough to be shown; ``priors`` tells of each prior what it
    counts; ``duplicates`` how many tasks are nearly the same; ``own_source`` where vectors of the user's own were
    looked for, ``own_vectors`` what came of that.
    """

    number: int
    made_at: float
    generation: int
    labeling: Labeling
    settings: dict[str, Any]
    n_clustered: int
    features: str
    blocks: tuple[Block, ...]
    unreadable: dict[int, str]
    n_tasks: int
    n_answered: int
    n_pre_annotated: int
    temperature: float
    averaged_at: float
    honesty: dict[str, Any]
    not_used: dict[str, NotUsed] = field(default_factory=dict)
    n_shown: int = 0
    priors: tuple[Believed, ...] = ()
    duplicates: DuplicatesFound = field(default_factory=DuplicatesFound)
    own_source: str = ""
    own_vectors: str = ""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a snapshot's folder holds: ``facts.json``.

    ``recall`` is that of the neighbour graph; ``parts`` names the shared files, ``files`` the folder's own with
    their digests.
    """

    format: int
    facts: Facts
    recall: float
    parts: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class KeptModel:
    """What was fitted on the pool for a block, apart from its arrays; ``arrays`` names these."""

    block: str
    embedder: str
    identity: str
    facts: dict[str, Any]
    arrays: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One state of a project's learning; rows of all arrays are the readable tasks by ascending id.

    Attributes
    ----------
    facts : Facts
    tasks : tuple of Task
        All tasks of the project, the unreadable ones too.
    task_ids : int64 array of shape (n_tasks,)
    geometry : Geometry
        The tasks' vectors, clusters and neighbours.
    signatures : array of shape (n_tasks, n_signs)
        What tells near-duplicates; zeros where nothing does.
    leaders : int32 array of shape (n_tasks,)
        The first row of each one's group of near-duplicates.
    distributions : float32 array of shape (n_tasks, n_classes)
        The calibrated label distributions; zeros where nothing is known.
    columns : Columns
        How far each answered task reaches over the neighbour graph.
    classifier : LinearClassifier or None
        None while fewer than two classes are known, and where the pool's nearest tasks answer.
    models : mapping of str to Fitted
        What was fitted on the pool, by the names of blocks.
    choices : int32 array of shape (n_tasks,)
        The class index of each row's pre-annotation, -1 for none.
    scores : float64 array of shape (n_tasks,)
        As ``exemplar.rows`` reads them: a place in the queue, or a confidence. NaN: the task has no row yet.
    blind : int64 array
        The rows that are shown without their pre-annotation: audits whose turn comes.
    faint : int64 array
        The rows whose prediction is not sure enough to be shown.
    checkpoints : tuple of Checkpoint
        What stopping advice compares, the oldest first.
    priors : tuple of float32 arrays of shape (n_tasks, n_classes)
        What was believed before any answer; ``facts.priors`` tells of what.
    """

    facts: Facts
    tasks: tuple[Task, ...]
    task_ids: NDArray[np.int64]
    geometry: Geometry
    signatures: NDArray[Any]
    leaders: NDArray[np.int32]
    distributions: NDArray[np.float32]
    columns: Columns
    classifier: LinearClassifier | None
    models: Mapping[str, Fitted]
    choices: NDArray[np.int32]
    scores: NDArray[np.float64]
    blind: NDArray[np.int64]
    faint: NDArray[np.int64]
    checkpoints: tuple[Checkpoint, ...]
    priors: tuple[NDArray[np.float32], ...] = ()

    @cached_property
    def by_id(self) -> dict[int, Task]:
        """Return the tasks by their ids."""
        return {task.id: task for task in self.tasks}

    @cached_property
    def pool_models(self) -> dict[str, PoolModel]:
        """Return what was fitted on the pool, ready to use."""
        return {name: restored(kept) for name, kept in self.models.items()}

    @cached_property
    def unhidden(self) -> NDArray[np.int32]:
        """The choices, however unsure; -1 also where the task is asked blind."""
        unhidden = np.array(self.choices)
        unhidden[self.blind] = -1
        return unhidden

    @cached_property
    def shown(self) -> NDArray[np.int32]:
        """The choices as they are shown: -1 also where the task is asked blind, and where the choice is unsure."""
        shown = self.unhidden.copy()
        shown[self.faint] = -1
        return shown

    def row(self, task_id: int) -> int | None:
        """Return the task's row in the arrays, or None if it has none."""
        row = int(np.searchsorted(self.task_ids, task_id))
        return row if row < len(self.task_ids) and self.task_ids[row] == task_id else None


def tasks_to_json(tasks: tuple[Task, ...]) -> list[Any]:
    """Return what seldom changes of the tasks: all but their annotations."""
    return [[task.id, task.digest, task.value, task.created_at, _own_to_json(task.own)] for task in tasks]


def _own_to_json(own: OwnVector | None) -> list[Any] | None:
    return None if own is None else [own.length, own.key, own.trouble]


def same_but_for_annotations(tasks: tuple[Task, ...], others: tuple[Task, ...]) -> bool:
    """Return whether ``tasks_to_json`` would say the same of both; most are the very same objects."""
    if len(tasks) != len(others):
        return False
    differ = [pair for pair in zip(tasks, others, strict=True) if pair[0] is not pair[1]]
    return all(tasks_to_json((task,)) == tasks_to_json((other,)) for task, other in differ)


def tasks_from_json(content: bytes) -> tuple[Task, ...]:
    """Return the tasks without annotations.

    Raises
    ------
    DamagedError
        If they are none.
    """
    rows = decode(list[tuple[int, str, str | None, str, tuple[int, str, str] | None]], content)
    return tuple(
        Task(task_id, digest, value, (), created_at, own=OwnVector(*own) if own else None)
        for task_id, digest, value, created_at, own in rows
    )


def annotations_to_json(tasks: tuple[Task, ...]) -> list[Any]:
    """Return the annotations by the position of their task."""
    return [[i, [asdict(a) for a in task.annotations]] for i, task in enumerate(tasks) if task.annotations]


def with_annotations(tasks: tuple[Task, ...], content: bytes) -> tuple[Task, ...]:
    """Return the tasks with the annotations that ``annotations_to_json`` gave.

    Raises
    ------
    DamagedError
        If they are none, or of a task that is not there.
    """
    annotated = list(tasks)
    for position, annotations in decode(list[tuple[int, tuple[Annotation, ...]]], content):
        if not 0 <= position < len(tasks):
            raise DamagedError(f"annotations of task {position}: expected a number below {len(tasks)}")
        annotated[position] = replace(tasks[position], annotations=annotations)
    return tuple(annotated)
