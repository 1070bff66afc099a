"""Answers for /predict: from the snapshot for tasks of the pool, from the classifier for others."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from exemplar.context import Project
from exemplar.engine import UNLABELED
from exemplar.errors import InputError
from exemplar.labelstudio.label_config import Labeling, read_label_config
from exemplar.labelstudio.reading import integer
from exemplar.labelstudio.tasks import Task, read_task
from exemplar.project.at_once import embed_now
from exemplar.project.learn import classify
from exemplar.project.own_vectors import is_own, source_of
from exemplar.rows import NOTHING, RETIRED, Row, confidence_scores, generation_name
from exemplar.store.project_store import ProjectStore
from exemplar.store.snapshot import Snapshot

logger = logging.getLogger(__name__)

# Seconds: Label Studio waits 100, and an annotator in front of an empty task as long as that.
ANSWER_WITHIN = 20.0
Json = dict[str, Any]


class Snapshots:
    """The current snapshots, loaded once each; readers map their arrays and take no lock of the writer's."""

    def __init__(self) -> None:
        self._loaded: dict[str, tuple[str, Snapshot | None]] = {}
        self._lock = threading.Lock()

    def current(self, store: ProjectStore) -> Snapshot | None:
        """Return the project's current snapshot, loaded once; None before the first."""
        name = store.current_name()
        with self._lock:
            loaded = self._loaded.get(str(store.folder))
            if loaded is None or loaded[0] != name or loaded[1] is None:
                loaded = (name, store.current())
                self._loaded[str(store.folder)] = loaded
            return loaded[1]


def predict(
    project: Project,
    snapshot: Snapshot | None,
    tasks: Sequence[Json],
    label_config: str | None = None,
    *,
    until: float | None = None,
    show_all: bool = False,
) -> list[Json]:
    """Return exactly one prediction a task, in order; an empty one for a task of which nothing is known.

    So is one whose file has not come at the time ``until`` (of ``time.monotonic``), one of a task that is asked
    blind, and, unless ``show_all``, one that is too unsure to be shown.
    """
    until = time.monotonic() + ANSWER_WITHIN if until is None else until
    if snapshot is None or not _same_labeling(snapshot, label_config):
        return [_prediction(None, NOTHING, RETIRED) for _ in tasks]
    labeling = snapshot.facts.labeling
    read = _readable(project, snapshot, tasks)
    rows = {position: _row_in_pool(snapshot, task, show_all) for position, task in enumerate(read) if task}
    outside = [position for position, row in rows.items() if row is None]
    asked = [task for position in outside if (task := read[position])]
    guesses = _classify(project, snapshot, asked, until=until, show_all=show_all)
    answers = {**rows, **dict(zip(outside, guesses, strict=True))}
    return [
        _prediction(labeling, answers.get(position) or NOTHING, snapshot.facts.generation)
        for position in range(len(tasks))
    ]


def _same_labeling(snapshot: Snapshot, label_config: str | None) -> bool:
    """Return whether the snapshot speaks of this label config; after a change it does not for a moment."""
    if not label_config:
        return True
    try:
        return read_label_config(label_config) == snapshot.facts.labeling
    except InputError:
        return False


def _readable(project: Project, snapshot: Snapshot, raws: Sequence[Any]) -> list[Task | None]:
    """Return a request's tasks, with their own vectors where the pool is seen by such; None for what is no task."""
    good = {
        position: {"id": _id(raw), "data": raw["data"], "meta": raw.get("meta")}
        for position, raw in enumerate(raws)
        if isinstance(raw, dict) and isinstance(raw.get("data"), dict)
    }
    own = (
        source_of(project.store, project.settings).find([*good.values()])
        if is_own(snapshot.facts.blocks)
        else [None] * len(good)
    )
    field = snapshot.facts.labeling.field
    read = {
        position: read_task(raw, field, None, vector)
        for (position, raw), vector in zip(good.items(), own, strict=True)
    }
    return [read.get(position) for position in range(len(raws))]


def _id(raw: Json) -> int:
    id_ = integer(raw.get("id"))
    return -1 if id_ is None else id_


def _row_in_pool(snapshot: Snapshot, task: Task, show_all: bool) -> Row | None:
    """Return the row that the pool has for the task, or None if it is outside or its data has changed."""
    known, row = snapshot.by_id.get(task.id), snapshot.row(task.id)
    if known is None or (known.digest != task.digest and not _is_same(known, task)):
        return None
    if row is None or np.isnan(snapshot.scores[row]):
        return NOTHING
    choices = snapshot.unhidden if show_all else snapshot.shown
    return Row(int(choices[row]), float(snapshot.scores[row]))


def _is_same(known: Task, task: Task) -> bool:
    """Return whether a request shows a task of the pool without the vector of its own that the pool knows."""
    return task.own is None and known.own is not None and task.value == known.value


def _classify(
    project: Project, snapshot: Snapshot, tasks: list[Task], *, until: float, show_all: bool
) -> list[Row]:
    """Return the classifier's word on tasks outside the pool; NOTHING for those that cannot be read."""
    if not tasks:
        return [NOTHING] * len(tasks)
    # Ids may be missing or repeated in a request: number them by position.
    numbered = [replace(task, id=position, annotations=()) for position, task in enumerate(tasks)]
    there, X, unreadable = embed_now(project, snapshot, numbered, until=until)
    for position, why in list(unreadable.items())[:20]:
        logger.warning("%s: task %d is answered empty: %s", project, tasks[position].id, why)
    if len(unreadable) > 20:
        logger.warning("%s: %d further tasks are answered empty", project, len(unreadable) - 20)
    rows = [NOTHING] * len(tasks)
    if there:
        proba = classify(
            snapshot.geometry,
            snapshot.distributions,
            snapshot.classifier,
            X,
            averaged_at=snapshot.facts.averaged_at,
        )
        confidence = proba.max(axis=1)
        sure = confidence >= (0 if show_all else snapshot.facts.settings["shown_from"])
        choices = np.where(sure, proba.argmax(axis=1), UNLABELED)
        for position, choice, score in zip(there, choices, confidence_scores(confidence), strict=True):
            rows[position] = Row(int(choice), float(score)) if score > NOTHING.score else NOTHING
    return rows


def _prediction(labeling: Labeling | None, row: Row, generation: int) -> Json:
    result = labeling.result(row.choice) if labeling else []
    return {"result": result, "score": row.score, "model_version": generation_name(generation)}
