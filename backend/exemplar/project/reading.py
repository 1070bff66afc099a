"""Reading what tasks show: a round at a time, so that a refresh ends in time whatever hosts do.

A round reads what is new for some seconds; what it did not come to is read in the next one. What a host does not
give for now is tried again, later each time; what cannot be read at all is tried again on Start Training, or when
the task's data or the allowed hosts change.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from exemplar.context import Project
from exemplar.errors import NotNowError, TaskDataError
from exemplar.features.images import thumbnail
from exemplar.features.texts import words
from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.tasks import Task
from exemplar.project.readers import Readers, Vector
from exemplar.project.sync import Held
from exemplar.store.reading import LeftOut, Notes
from exemplar.store.snapshot import Snapshot

logger = logging.getLogger(__name__)

# Seconds of a round: longer than one file may take, so that each is either read or found too slow; where other
# projects or annotators wait; and without which a first queue does not wait for files that are late.
ROUND, BRIEF_ROUND, PATIENCE = 25.0, 1.0, 2.0
# A file that its host was asked for so long ago when a round was broken off is late, where other files or none of
# the host came, and is tried again like one that failed.
LATE = 2.0
# Seconds until a file is tried again, twice as many each time.
TRY_AGAIN, AT_MOST = 10.0, 3600.0
# What was read waits no longer than this for the rest, before it joins the pool.
JOIN_AFTER = 120.0
NOTE_EVERY = 0.5


@dataclass(frozen=True)
class Read:
    """What was read and is in no snapshot yet, what is left out and why, and what is still to be read."""

    vectors: dict[int, Vector] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)
    n_unread: int = 0
    again_at: float | None = None
    kept_for: float = 0.0

    def joins(self, before: Snapshot | None) -> bool:
        """Return whether there is enough new to make a snapshot of: each makes Label Studio import rows."""
        if before is None:
            return True
        if not self.n_unread:
            return bool(self.vectors) or self.left_out.keys() != before.facts.unreadable.keys()
        return len(self.vectors) >= len(before.task_ids) or (bool(self.vectors) and self.kept_for > JOIN_AFTER)


def features_identity(labeling: Labeling) -> str:
    """Return the kind of vectors that tasks of this labeling get."""
    return f"{labeling.field}:{thumbnail.Thumbnail.identity if labeling.kind == 'image' else words.IDENTITY}"


def nothing_to_read(labeling: Labeling, tasks: Sequence[Task]) -> dict[int, str]:
    """Return the tasks that show nothing, and that they do."""
    no_value = f"has no {labeling.field!r}"
    return {task.id: task.trouble or no_value for task in tasks if not (task.value or "").strip()}


def read_on(
    project: Project,
    held: Held,
    before: Snapshot | None,
    *,
    anew: bool,
    seconds: float,
    interrupted: Callable[[], bool] = lambda: False,
) -> Read:
    """Read for some seconds what the last snapshot has no vectors of; texts stand in the tasks themselves.

    With ``anew``, what was left out is tried again at once.
    """
    empty = nothing_to_read(held.labeling, held.tasks)
    new_empty = {id_: why for id_, why in empty.items() if before is None or id_ not in before.facts.unreadable}
    _report(project, {task_id: LeftOut("", why) for task_id, why in new_empty.items()})
    if held.labeling.kind != "image":
        return Read(left_out=empty)
    features, reading = features_identity(held.labeling), project.store.reading
    by_id = {task.id: task for task in held.tasks if task.id not in empty}
    kept = {
        task_id: vector
        for task_id, (digest, vector) in reading.vectors(features).items()
        if task_id in by_id and by_id[task_id].digest == digest
    }
    if anew:
        project.files.breakers.forget()
    left_out = {} if anew else _still_left_out(project, by_id)
    there = kept.keys() | left_out.keys() | _known(by_id, before, features)
    now = time.time()
    due = [id_ for id_, why in left_out.items() if why.again_at is not None and why.again_at <= now]
    wanted = [task for task_id, task in by_id.items() if task_id not in there or task_id in due]
    # Where a host that was left alone is tried with one file, let it be one that has not failed itself.
    wanted.sort(key=lambda task: left_out[task.id].tries if task.id in left_out else 0)

    fresh = _round(project, wanted, left_out, seconds=seconds, first=before is None, interrupted=interrupted)
    reading.keep(features, {task_id: (by_id[task_id].digest, vector) for task_id, vector in fresh.items()})
    n_unread = sum(1 for task in wanted if task.id not in fresh and _is_due(left_out.get(task.id), now))
    hosts = project.files.breakers.left_alone()
    reading.save_notes(Notes(left_out, n_unread, hosts, project.files.allowed.rules))
    return Read(
        vectors=kept | fresh,
        left_out=empty | {task_id: why.why for task_id, why in left_out.items()},
        n_unread=n_unread,
        again_at=min((why.again_at for why in left_out.values() if why.again_at is not None), default=None),
        kept_for=reading.kept_for(),
    )


def _known(by_id: dict[int, Task], before: Snapshot | None, features: str) -> set[int]:
    """Return the tasks that the last snapshot has vectors of, their data being the same."""
    if before is None or before.facts.features != features:
        return set()
    known = {int(task_id): before.by_id.get(int(task_id)) for task_id in before.task_ids}
    return {id_ for id_, task in known.items() if task and id_ in by_id and by_id[id_].digest == task.digest}


def _still_left_out(project: Project, by_id: dict[int, Task]) -> dict[int, LeftOut]:
    """Return what was left out before and has no reason to be tried again now."""
    notes = project.store.reading.notes()
    if notes.allowed != project.files.allowed.rules:
        return {}
    return {id_: why for id_, why in notes.tasks.items() if id_ in by_id and by_id[id_].digest == why.digest}


def _is_due(why: LeftOut | None, now: float) -> bool:
    return why is None or (why.again_at is not None and why.again_at <= now)


def _round(
    project: Project,
    wanted: Sequence[Task],
    left_out: dict[int, LeftOut],
    *,
    seconds: float,
    first: bool,
    interrupted: Callable[[], bool],
) -> dict[int, Vector]:
    """Read tasks for some seconds; return their vectors, and note in ``left_out`` what could not be read."""
    vectors: dict[int, Vector] = {}
    if not wanted or seconds <= 0:
        return vectors
    readers, noted, new = Readers(project, wanted), 0.0, {}
    digests = {task.id: task.digest for task in wanted}
    results = readers.results(
        until=time.monotonic() + seconds, patience=PATIENCE if first else float("inf"), interrupted=interrupted
    )
    for task, result in results:
        if isinstance(result, TaskDataError):
            new[task.id] = _left_out(task.digest, result, left_out.get(task.id))
        else:
            vectors[task.id] = result
            left_out.pop(task.id, None)
        if time.monotonic() - noted > NOTE_EVERY:
            noted = time.monotonic()
            project.store.note(doing=f"reading images {len(vectors)}/{len(wanted)}")
    for task_id, waited in readers.late(LATE).items():
        late = NotNowError(f"its file did not come within {waited:.0f} s")
        new[task_id] = _left_out(digests[task_id], late, left_out.get(task_id))
    _report(project, {task_id: why for task_id, why in new.items() if task_id not in left_out})
    left_out.update(new)
    return vectors


def read_now(
    project: Project, labeling: Labeling, tasks: Sequence[Task], *, until: float
) -> tuple[dict[int, Vector], dict[int, str]]:
    """Return the vectors of images that somebody waits for, and for those that did not come by then why not."""
    left_out = nothing_to_read(labeling, tasks)
    vectors: dict[int, Vector] = {}
    readers = Readers(project, [task for task in tasks if task.id not in left_out], waited_until=until)
    for task, result in readers.results(until=until):
        if isinstance(result, TaskDataError):
            left_out[task.id] = str(result)
        else:
            vectors[task.id] = result
    late = [task.id for task in tasks if task.id not in vectors and task.id not in left_out]
    return vectors, left_out | dict.fromkeys(late, "its file did not come in time")


def _left_out(digest: str, error: TaskDataError, before: LeftOut | None) -> LeftOut:
    if not isinstance(error, NotNowError):
        return LeftOut(digest, str(error))
    tries, now = before.tries if before else 0, time.time()
    if error.again_at > now:  # the host is left alone, or says when to come back: this was no try
        return LeftOut(digest, str(error), tries, error.again_at)
    return LeftOut(digest, str(error), tries + 1, now + min(TRY_AGAIN * 2.0**tries, AT_MOST))


def _report(project: Project, new: dict[int, LeftOut]) -> None:
    for task_id, why in list(new.items())[:20]:
        logger.warning("%s: task %d is left out: %s%s", project, task_id, why.why, again(why.again_at))
    if len(new) > 20:
        logger.warning("%s: %d further tasks are left out for such reasons", project, len(new) - 20)
    if any(why.again_at for why in new.values()):
        for host, until in project.files.breakers.left_alone().items():
            logger.warning("%s: %s does not answer and is left alone%s", project, host, again(until))


def again(at: float | None) -> str:
    """Return when something is tried again, as the end of a sentence."""
    return "" if at is None else f"; tried again at {datetime.fromtimestamp(at).astimezone():%H:%M:%S}"
