"""From tasks to the pool: a vector for each task that can be read, and how these lie to each other."""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exemplar.context import Project
from exemplar.engine import NEW, Geometry, default_n_clusters, resurvey, survey
from exemplar.errors import TaskDataError
from exemplar.features import images, texts
from exemplar.features.texts import TextModel, fit_text_model
from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.tasks import Task
from exemplar.pacing import considerate
from exemplar.store.snapshot import Snapshot

logger = logging.getLogger(__name__)

# Files are fetched by this many threads: more would crowd out the annotators.
READERS = 2
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
    project: Project, labeling: Labeling, tasks: Sequence[Task], before: Snapshot | None, *, anew: bool = False
) -> Pool | None:
    """Make the pool, or None if no task can be read.

    What ``before`` knows is kept. With ``anew``, clusters and a text model are made anew, and what could not
    be read is tried again; an image is not fetched again while its task's data is the same.
    """
    if before is not None and before.facts.features != features_identity(labeling):
        before = None
    if before is not None and not anew and _same_tasks(tasks, before):
        return _unchanged(tasks, before)
    vectors, text_model, unreadable = _vectors(project, labeling, tasks, before, anew=anew)
    _report_unreadable(project, unreadable, before)
    if not vectors:
        return None
    readable = tuple(task for task in tasks if task.id in vectors)
    X = np.stack([vectors[task.id] for task in readable])
    if before is None or anew or _many_are_new(readable, before):
        project.store.note(doing=f"clustering {len(readable)} tasks")
        n_clusters = project.settings.n_clusters or default_n_clusters(len(readable))
        geometry, n_clustered = survey(X, n_clusters=n_clusters), len(readable)
    else:
        geometry, n_clustered = resurvey(before.geometry, X, _kept(readable, before)), before.facts.n_clustered
    return Pool(readable, geometry, n_clustered, text_model, features_identity(labeling), unreadable)


def _same_tasks(tasks: Sequence[Task], before: Snapshot) -> bool:
    """Return whether only annotations have changed."""
    if len(tasks) != len(before.tasks):
        return False
    differ = [pair for pair in zip(tasks, before.tasks, strict=True) if pair[0] is not pair[1]]
    return all((task.id, task.digest) == (other.id, other.digest) for task, other in differ)


def _unchanged(tasks: Sequence[Task], before: Snapshot) -> Pool:
    facts = before.facts
    readable = tuple(task for task in tasks if task.id not in facts.unreadable)
    return Pool(readable, before.geometry, facts.n_clustered, before.text_model, facts.features, facts.unreadable)


def _kept(readable: Sequence[Task], before: Snapshot) -> NDArray[np.intp]:
    """Return the row that each task had before, NEW where its data is new."""
    rows = [before.row(task.id) if _same_data(task, before) else None for task in readable]
    return np.array([NEW if row is None else row for row in rows], np.intp)


def _many_are_new(readable: Sequence[Task], before: Snapshot) -> bool:
    """Return whether so many tasks came, went or changed since the clusters were made that these are stale."""
    n_same = sum(1 for task in readable if _same_data(task, before))
    n_new, n_gone = len(readable) - n_same, before.facts.n_clustered - n_same
    return n_new + n_gone > RECLUSTER_AT * before.facts.n_clustered


def features_identity(labeling: Labeling) -> str:
    """Return the kind of vectors that tasks of this labeling get."""
    return f"{labeling.field}:{images.IDENTITY if labeling.kind == 'image' else texts.IDENTITY}"


def task_vectors(
    project: Project, labeling: Labeling, tasks: Sequence[Task], text_model: TextModel | None
) -> tuple[dict[int, NDArray[np.float32]], dict[int, str]]:
    """Return vectors by task id, and for the tasks that cannot be read why not."""
    unreadable = {task.id: _why_empty(task, labeling) for task in tasks if not (task.value or "").strip()}
    there = [task for task in tasks if task.id not in unreadable]
    if text_model is not None:
        X = text_model.transform([task.value or "" for task in there])
        return dict(zip((task.id for task in there), X, strict=True)), unreadable
    vectors: dict[int, NDArray[np.float32]] = {}
    with ThreadPoolExecutor(READERS) as readers:
        results = readers.map(lambda task: _image_or_reason(project, task.value or ""), there)
        noted = time.monotonic()
        for task, result in zip(there, results, strict=True):
            if isinstance(result, str):
                unreadable[task.id] = result
            else:
                vectors[task.id] = result
            if time.monotonic() - noted > 0.5:
                noted = time.monotonic()
                project.store.note(doing=f"reading images {len(vectors)}/{len(there)}")
    return vectors, unreadable


def _vectors(
    project: Project, labeling: Labeling, tasks: Sequence[Task], before: Snapshot | None, *, anew: bool
) -> tuple[dict[int, NDArray[np.float32]], TextModel | None, dict[int, str]]:
    text_model = None
    if labeling.kind == "text":
        before = None if anew else before  # vectors of two text models do not mix
        written = [task.value or "" for task in tasks if (task.value or "").strip()]
        if not written:
            return {}, None, {task.id: _why_empty(task, labeling) for task in tasks}
        text_model = before.text_model if before else fit_text_model(written)
    known, unreadable = _known_vectors(tasks, before)
    unreadable = {} if anew else unreadable
    new = [task for task in tasks if task.id not in known and task.id not in unreadable]
    vectors, still_unreadable = task_vectors(project, labeling, new, text_model)
    return known | vectors, text_model, unreadable | still_unreadable


def _why_empty(task: Task, labeling: Labeling) -> str:
    return task.trouble or f"has no {labeling.field!r}"


def _known_vectors(
    tasks: Sequence[Task], before: Snapshot | None
) -> tuple[dict[int, NDArray[np.float32]], dict[int, str]]:
    """Return what the last snapshot knows of tasks whose data is the same."""
    if before is None:
        return {}, {}
    same = [task for task in tasks if _same_data(task, before)]
    rows = {task.id: before.row(task.id) for task in same}
    vectors = {task_id: before.geometry.X[row] for task_id, row in rows.items() if row is not None}
    unreadable = {task.id: before.facts.unreadable[task.id] for task in same if task.id in before.facts.unreadable}
    return vectors, unreadable


def _same_data(task: Task, before: Snapshot) -> bool:
    known = before.by_id.get(task.id)
    return known is not None and known.digest == task.digest


def _image_or_reason(project: Project, address: str) -> NDArray[np.float32] | str:
    try:
        with considerate(project):
            file = project.files.read(address)
        with file:
            return images.image_vector(file.read())
    except TaskDataError as error:
        return str(error)


def _report_unreadable(project: Project, unreadable: dict[int, str], before: Snapshot | None) -> None:
    new = {id_: why for id_, why in unreadable.items() if not before or id_ not in before.facts.unreadable}
    for task_id, why in list(new.items())[:20]:
        logger.warning("%s: task %d is left out: %s", project, task_id, why)
    if len(new) > 20:
        logger.warning("%s: %d further tasks are left out for such reasons", project, len(new) - 20)
