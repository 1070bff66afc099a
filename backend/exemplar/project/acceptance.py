"""The accept rule: predictions are frozen, a random draw of them is answered blind, and no error accepts them all.

What is accepted is exactly what was frozen: the same tasks with the predictions of that moment, whatever is learned
from the answers meanwhile.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.engine import UNLABELED, AcceptTest, draw, judge, sample_size
from exemplar.errors import InputError
from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.tasks import Task
from exemplar.project.learn import Learned
from exemplar.rows import draw_scores, is_asked
from exemplar.store.accept_set import AcceptSet
from exemplar.store.project_store import ProjectStore
from exemplar.store.snapshot import Snapshot

Json = dict[str, Any]


@dataclass(frozen=True)
class Proposal:
    """What would be frozen.

    Attributes
    ----------
    rows : int array of shape (n_tasks,)
        The set, as rows of the snapshot.
    attempt, n_drawn : int
        Which attempt of the project it would be, and how many would be drawn.
    confidence : float
        How sure the predictions are on average.
    """

    rows: NDArray[np.intp]
    attempt: int
    n_drawn: int
    confidence: float


def propose(store: ProjectStore, snapshot: Snapshot, *, promise: float, min_confidence: float) -> Proposal:
    """Look what is predicted for tasks that nobody has annotated, and how many of it would be drawn.

    Every set of a project counts as an attempt, whatever became of those before it.

    Raises
    ------
    InputError
        If nothing is predicted with that confidence, or the promise is none.
    """
    rows, confidence = _predicted(snapshot, min_confidence)
    if not len(rows):
        raise InputError(
            f"min_confidence is {min_confidence:g}: expected less, no prediction that is to be tested is as sure"
        )
    attempt = store.accept_attempt() + 1
    n_drawn = sample_size(promise, attempt=attempt, n_tasks=len(rows))
    return Proposal(rows, attempt, n_drawn, float(confidence.mean()))


def freeze(store: ProjectStore, snapshot: Snapshot, *, promise: float, min_confidence: float) -> AcceptSet:
    """Freeze what ``propose`` finds, draw from it, and write it down.

    Raises
    ------
    InputError
        If nothing is predicted with that confidence, or the promise is none.
    """
    proposal = propose(store, snapshot, promise=promise, min_confidence=min_confidence)
    rows = proposal.rows
    # A fresh seed for each attempt, and one that nobody chose: the moment, to the nanosecond.
    drawn = draw(rows, proposal.n_drawn, random_state=time.time_ns())
    ids = snapshot.task_ids
    frozen = AcceptSet(
        attempt=proposal.attempt,
        promise=promise,
        min_confidence=min_confidence,
        generation=snapshot.facts.generation,
        snapshot=snapshot.facts.number,
        at=time.time(),
        labeling=snapshot.facts.labeling,
        tasks=tuple(ids[rows].tolist()),
        digests=tuple(snapshot.by_id[task_id].digest for task_id in ids[rows].tolist()),
        choices=tuple(snapshot.choices[rows].tolist()),
        drawn=tuple(ids[drawn].tolist()),
    )
    store.save_accept_set(frozen)
    store.raise_number("webhooks")  # the worker puts the drawn tasks first
    return frozen


def _predicted(snapshot: Snapshot, min_confidence: float) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
    """Return the rows that nobody annotated and that are predicted so surely, and how surely."""
    # Tasks that are asked next have a place in the queue for a score.
    asked = is_asked(snapshot.scores) | np.isnan(snapshot.scores)
    confidence = np.where(asked, snapshot.distributions.max(axis=1, initial=0), snapshot.scores)
    annotated = np.array([bool(snapshot.by_id[id_].annotations) for id_ in snapshot.task_ids.tolist()])
    rows = np.flatnonzero((snapshot.choices != UNLABELED) & (confidence >= min_confidence) & ~annotated)
    return rows, confidence[rows]


def examine(frozen: AcceptSet, tasks: Sequence[Task], labeling: Labeling) -> AcceptTest | None:
    """Judge a set by what annotators answered so far; None if the label config is another since.

    A drawn task that is gone, or whose data is another, counts as skipped.
    """
    if labeling != frozen.labeling:
        return None
    by_id = {task.id: task for task in tasks}
    predicted, answered = [], []
    for task_id, digest, choice in frozen.draws():
        task = by_id.get(task_id)
        if task is None or task.digest != digest:
            predicted.append(choice)
            answered.append(UNLABELED)
        elif task.annotations:
            predicted.append(choice)
            answered.append(task.answer(labeling))
    return judge(
        np.array(predicted, np.intp),
        np.array(answered, np.intp),
        promise=frozen.promise,
        attempt=frozen.attempt,
        n_tasks=len(frozen.tasks),
    )


def ask_drawn_first(
    learned: Learned, frozen: AcceptSet | None, said: Json | None, tasks: Sequence[Task]
) -> Learned:
    """Put the drawn tasks of a set that is not decided before all others, blind; their order stays.

    ``said`` is what ``acceptance`` says of the set.
    """
    if frozen is None or said is None or said["verdict"] != "open":
        return learned
    row_of = {task.id: row for row, task in enumerate(tasks) if not task.annotations}
    asked = [(row_of[task_id], i) for i, task_id in enumerate(frozen.drawn) if task_id in row_of]
    rows, positions = np.array(asked, np.intp).reshape(-1, 2).T
    scores = learned.scores.copy()
    scores[rows] = draw_scores(positions)
    return replace(learned, scores=scores, blind=np.union1d(learned.blind, rows).astype(np.int64))


def acceptance(frozen: AcceptSet | None, tasks: Sequence[Task], labeling: Labeling) -> Json | None:
    """Return what is to be said of the last set; None if there is none."""
    if frozen is None:
        return None
    test = examine(frozen, tasks, labeling)
    said = {"attempt": frozen.attempt, "n_tasks": len(frozen.tasks), "n_drawn": len(frozen.drawn)}
    if test is None:
        return said | {"verdict": "void", "promise": frozen.promise}
    return said | asdict(test) | {"min_confidence": frozen.min_confidence, "generation": frozen.generation}


def lost_set(attempt: int) -> Json | None:
    """Return what is to be said of a set whose files cannot be read; None if there never was one."""
    return {"attempt": attempt, "n_tasks": 0, "n_drawn": 0, "verdict": "damaged"} if attempt else None


def accepted_labels(frozen: AcceptSet, tasks: Sequence[Task]) -> Iterator[tuple[int, str]]:
    """Yield the tasks of an accepted set with their labels; a task that is gone or another is left out."""
    digests = {task.id: task.digest for task in tasks}
    for task_id, digest, choice in zip(frozen.tasks, frozen.digests, frozen.choices, strict=True):
        if digests.get(task_id) == digest:
            yield task_id, frozen.labeling.classes[choice]
