"""From tasks to the pool: a vector for each task that can be read, and how these lie to each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exemplar.context import Project
from exemplar.engine import NEW, Geometry, default_n_clusters, resurvey, survey
from exemplar.features import Block, Fitted
from exemplar.labelstudio.tasks import Task
from exemplar.project.matrix import make_matrix
from exemplar.project.reading import Read
from exemplar.project.views import Sight
from exemplar.store.snapshot import Snapshot

# New and changed tasks join the clusters that are there until they are this share of the pool.
RECLUSTER_AT = 0.2


@dataclass(frozen=True)
class Pool:
    """The readable tasks by ascending id, and how their vectors lie to each other.

    ``blocks`` tells which columns of X are whose, ``models`` what was fitted for them, by the blocks' names.
    """

    tasks: tuple[Task, ...]
    geometry: Geometry
    n_clustered: int
    blocks: tuple[Block, ...]
    models: Mapping[str, Fitted]
    features: str
    unreadable: dict[int, str]


def build_pool(
    project: Project,
    sight: Sight,
    tasks: Sequence[Task],
    before: Snapshot | None,
    read: Read,
    *,
    anew: bool = False,
) -> Pool | None:
    """Make the pool of what ``before`` knows and what was embedded since, or None if no task can be read.

    With ``anew``, clusters and what is fitted on the pool are made anew; so they are once many tasks are new.
    """
    if before is not None and before.facts.features != sight.identity:
        before = None
    if before is not None and not anew and not read.fresh and _same_tasks(tasks, before):
        return _unchanged(tasks, before, read)
    readable = [task for task in tasks if task.id in read.fresh or _row_before(task, before) is not None]
    anew = anew or before is None or _many_are_new(_kept(readable, before), before)
    matrix = make_matrix(project, sight, readable, _kept(readable, before), before, read.fresh, refit=anew)
    if not matrix.tasks:
        return None
    if anew or before is None:
        project.store.note(doing=f"clustering {len(matrix.tasks)} tasks")
        n_clusters = project.settings.n_clusters or default_n_clusters(len(matrix.tasks))
        geometry, n_clustered = survey(matrix.X, n_clusters=n_clusters), len(matrix.tasks)
    else:
        geometry, n_clustered = resurvey(before.geometry, matrix.X, matrix.kept), before.facts.n_clustered
    return Pool(matrix.tasks, geometry, n_clustered, matrix.blocks, matrix.models, sight.identity, read.left_out)


def _same_tasks(tasks: Sequence[Task], before: Snapshot) -> bool:
    """Return whether only annotations have changed."""
    if len(tasks) != len(before.tasks):
        return False
    differ = [pair for pair in zip(tasks, before.tasks, strict=True) if pair[0] is not pair[1]]
    return all((task.id, task.digest) == (other.id, other.digest) for task, other in differ)


def _unchanged(tasks: Sequence[Task], before: Snapshot, read: Read) -> Pool:
    facts = before.facts
    readable = tuple(task for task in tasks if before.row(task.id) is not None)
    return Pool(
        readable, before.geometry, facts.n_clustered, facts.blocks, before.models, facts.features, read.left_out
    )


def _row_before(task: Task, before: Snapshot | None) -> int | None:
    """Return the row that a task had before, None where its data is new."""
    known = before.by_id.get(task.id) if before is not None else None
    return before.row(task.id) if before is not None and known and known.digest == task.digest else None


def _kept(readable: Sequence[Task], before: Snapshot | None) -> NDArray[np.intp]:
    """Return the row that each task had before, NEW where its data is new."""
    rows = [_row_before(task, before) for task in readable]
    return np.array([NEW if row is None else row for row in rows], np.intp)


def _many_are_new(kept: NDArray[np.intp], before: Snapshot) -> bool:
    """Return whether so many tasks came, went or changed since the clusters were made that these are stale."""
    n_same = int(np.count_nonzero(kept != NEW))
    n_new, n_gone = len(kept) - n_same, before.facts.n_clustered - n_same
    return n_new + n_gone > RECLUSTER_AT * before.facts.n_clustered
