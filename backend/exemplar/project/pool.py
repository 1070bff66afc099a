"""From tasks to the pool: a vector for each task that can be read, and how these lie to each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exemplar.context import Project
from exemplar.engine import NEW, Geometry, default_n_clusters, resurvey, survey
from exemplar.features.texts.words import TextModel, fit_text_model
from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.tasks import Task
from exemplar.project.readers import Vector
from exemplar.project.reading import Read, features_identity
from exemplar.store.snapshot import Snapshot

# New and changed tasks join the clusters that are there until they are this share of the pool.
RECLUSTER_AT = 0.2


@dataclass(frozen=True)
class Pool:
    """The readable tasks by ascending id, and how their vectors lie to each other."""

    tasks: tuple[Task, ...]
    geometry: Geometry
    n_clustered: int
    text_model: TextModel | None
    features: str
    unreadable: dict[int, str]


def build_pool(
    project: Project,
    labeling: Labeling,
    tasks: Sequence[Task],
    before: Snapshot | None,
    read: Read,
    *,
    anew: bool = False,
) -> Pool | None:
    """Make the pool of what ``before`` knows and what was read since, or None if no task can be read.

    With ``anew``, clusters and a text model are made anew.
    """
    if before is not None and before.facts.features != features_identity(labeling):
        before = None
    if before is not None and not anew and not read.vectors and _same_tasks(tasks, before):
        return _unchanged(tasks, before, read)
    vectors, text_model = _vectors(labeling, tasks, before, read, anew=anew)
    if not vectors:
        return None
    readable = tuple(task for task in tasks if task.id in vectors)
    X = np.stack([vectors[task.id] for task in readable])
    kept = _kept(readable, before) if before is not None else np.full(len(readable), NEW)
    if before is None or anew or _many_are_new(kept, before):
        project.store.note(doing=f"clustering {len(readable)} tasks")
        n_clusters = project.settings.n_clusters or default_n_clusters(len(readable))
        geometry, n_clustered = survey(X, n_clusters=n_clusters), len(readable)
    else:
        geometry, n_clustered = resurvey(before.geometry, X, kept), before.facts.n_clustered
    return Pool(readable, geometry, n_clustered, text_model, features_identity(labeling), read.left_out)


def _same_tasks(tasks: Sequence[Task], before: Snapshot) -> bool:
    """Return whether only annotations have changed."""
    if len(tasks) != len(before.tasks):
        return False
    differ = [pair for pair in zip(tasks, before.tasks, strict=True) if pair[0] is not pair[1]]
    return all((task.id, task.digest) == (other.id, other.digest) for task, other in differ)


def _unchanged(tasks: Sequence[Task], before: Snapshot, read: Read) -> Pool:
    facts = before.facts
    readable = tuple(task for task in tasks if before.row(task.id) is not None)
    return Pool(readable, before.geometry, facts.n_clustered, before.text_model, facts.features, read.left_out)


def _kept(readable: Sequence[Task], before: Snapshot) -> NDArray[np.intp]:
    """Return the row that each task had before, NEW where its data is new."""
    rows = [before.row(task.id) if _same_data(task, before) else None for task in readable]
    return np.array([NEW if row is None else row for row in rows], np.intp)


def _many_are_new(kept: NDArray[np.intp], before: Snapshot) -> bool:
    """Return whether so many tasks came, went or changed since the clusters were made that these are stale."""
    n_same = int(np.count_nonzero(kept != NEW))
    n_new, n_gone = len(kept) - n_same, before.facts.n_clustered - n_same
    return n_new + n_gone > RECLUSTER_AT * before.facts.n_clustered


def _vectors(
    labeling: Labeling, tasks: Sequence[Task], before: Snapshot | None, read: Read, *, anew: bool
) -> tuple[dict[int, Vector], TextModel | None]:
    if labeling.kind == "image":
        return _known_vectors(tasks, before) | read.vectors, None
    before = None if anew else before  # vectors of two text models do not mix
    written = [task for task in tasks if task.id not in read.left_out]
    if not written:
        return {}, None
    text_model = (before.text_model if before else None) or fit_text_model([task.value or "" for task in written])
    known = _known_vectors(tasks, before)
    new = [task for task in written if task.id not in known]
    X = text_model.transform([task.value or "" for task in new])
    return known | dict(zip((task.id for task in new), X, strict=True)), text_model


def _known_vectors(tasks: Sequence[Task], before: Snapshot | None) -> dict[int, Vector]:
    """Return what the last snapshot knows of tasks whose data is the same."""
    if before is None:
        return {}
    rows = {task.id: before.row(task.id) for task in tasks if _same_data(task, before)}
    return {task_id: before.geometry.X[row] for task_id, row in rows.items() if row is not None}


def _same_data(task: Task, before: Snapshot) -> bool:
    known = before.by_id.get(task.id)
    return known is not None and known.digest == task.digest
