"""Reading and embedding what tasks show: a round at a time, so that a refresh ends in time whatever hosts do.

A round reads and embeds what is new for some seconds; what it did not come to follows in the next one. What a host
does not give for now is tried again, later each time; what cannot be read at all is tried again on Start Training,
or when the task's data or the allowed hosts change.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from exemplar.context import Project
from exemplar.errors import NotNowError, TaskDataError
from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.tasks import Task
from exemplar.project.own_vectors import identity
from exemplar.project.rounds import Keys, Round, kept_keys
from exemplar.project.sync import Held
from exemplar.project.views import Sight, whose_files
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
# What was embedded waits no longer than this for the rest, before it joins the pool.
JOIN_AFTER = 120.0
NOTE_EVERY = 0.5


@dataclass(frozen=True)
class Read:
    """What was embedded and is in no snapshot yet, what is left out and why, and what is still to be embedded.

    ``fresh`` has by task id the keys of the values whose vectors are kept; ``doing`` says how far it is.
    """

    fresh: Mapping[int, Keys] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)
    n_unread: int = 0
    again_at: float | None = None
    kept_for: float = 0.0
    doing: str | None = None

    def joins(self, before: Snapshot | None) -> bool:
        """Return whether there is enough new to make a snapshot of: each makes Label Studio import rows."""
        if before is None:
            return True
        if not self.n_unread:
            return bool(self.fresh) or self.left_out.keys() != before.facts.unreadable.keys()
        return len(self.fresh) >= len(before.task_ids) or (bool(self.fresh) and self.kept_for > JOIN_AFTER)


def nothing_to_read(labeling: Labeling, tasks: Sequence[Task]) -> dict[int, str]:
    """Return the tasks that show nothing, and that they do."""
    no_value = f"has no {labeling.field!r}"
    return {task.id: task.trouble or no_value for task in tasks if not (task.value or "").strip()}


def read_on(
    project: Project,
    held: Held,
    sight: Sight,
    before: Snapshot | None,
    *,
    anew: bool,
    seconds: float,
    interrupted: Callable[[], bool] = lambda: False,
) -> Read:
    """Embed for some seconds what neither the last snapshot nor the cache has vectors of.

    With ``anew``, what was left out is tried again at once. Vectors of the user's own are there already.
    """
    if sight.own.length:
        return _read_own(project, held, sight, before)
    empty, reading = nothing_to_read(held.labeling, held.tasks), project.store.reading
    new_empty = {id_: why for id_, why in empty.items() if before is None or id_ not in before.facts.unreadable}
    _report(project, {task_id: LeftOut("", why) for task_id, why in new_empty.items()})
    by_id = {task.id: task for task in held.tasks if task.id not in empty}
    if anew:
        project.files.breakers.forget()
    known, whose = _known(by_id, before, sight), whose_files(project, held.facts["organization"])
    new = [task for task_id, task in by_id.items() if task_id not in known]
    keys = kept_keys(project, sight, whose, new)
    n_kept = len(_whole(keys, sight))
    left_out = {} if anew else _still_left_out(project, by_id)
    now = time.time()
    wanted = [task for task in new if not _is_whole(keys[task.id], sight) and _is_due(left_out.get(task.id), now)]
    # Where a host that was left alone is tried with one file, let it be one that has not failed itself.
    wanted.sort(key=lambda task: left_out[task.id].tries if task.id in left_out else 0)

    progress = _Progress(project, len(known) + n_kept, len(by_id))
    if wanted and seconds > 0:
        until = time.monotonic() + seconds
        round_ = Round(project, sight, whose, keys, until=until, interrupted=interrupted, on_progress=progress.note)
        round_.run(wanted, patience=PATIENCE if before is None else float("inf"), late=LATE)
        _take_failures(project, round_, wanted, left_out)
    fresh = _whole(keys, sight)
    left_out = {task_id: why for task_id, why in left_out.items() if task_id not in fresh}
    n_unread = sum(1 for task in wanted if task.id not in fresh and _is_due(left_out.get(task.id), now))
    since = (reading.notes().fresh_since or now) if fresh else None
    hosts = project.files.breakers.left_alone()
    reading.save_notes(Notes(left_out, n_unread, hosts, project.files.allowed.rules, since))
    return Read(
        fresh=fresh,
        left_out=empty | {task_id: why.why for task_id, why in left_out.items()},
        n_unread=n_unread,
        again_at=min((why.again_at for why in left_out.values() if why.again_at is not None), default=None),
        kept_for=0.0 if since is None else now - since,
        doing=progress.said,
    )


def _read_own(project: Project, held: Held, sight: Sight, before: Snapshot | None) -> Read:
    """Return the tasks whose own vectors are new, and why others cannot be seen by theirs."""
    [view] = sight.views
    fresh = {task_id: {view.name: key} for task_id, key in _new_own(held, sight, before).items()}
    left_out = {task.id: why for task in held.tasks if (why := sight.own.trouble(task.own))}
    said = before.facts.unreadable if before is not None else {}
    _report(project, {task_id: LeftOut("", why) for task_id, why in left_out.items() if said.get(task_id) != why})
    project.store.reading.save_notes(Notes(allowed=project.files.allowed.rules))
    return Read(fresh=fresh, left_out=left_out)


def n_lost(project: Project, held: Held, sight: Sight, before: Snapshot | None) -> int:
    """Return how many of the user's own vectors are to be read again: needed, and not kept any more."""
    length = sight.own.length
    keys = list(_new_own(held, sight, before).values()) if length else []
    return int(np.count_nonzero(~project.vectors.has(identity(length), length, keys))) if keys else 0


def _new_own(held: Held, sight: Sight, before: Snapshot | None) -> dict[int, bytes]:
    """Return by task id the keys of the own vectors that the last snapshot does not have."""
    known = _known({task.id: task for task in held.tasks}, before, sight)
    usable = ((task.id, task.own) for task in held.tasks if not sight.own.trouble(task.own))
    return {task_id: bytes.fromhex(own.key) for task_id, own in usable if own is not None and task_id not in known}


def _is_whole(keys: Keys, sight: Sight) -> bool:
    return len(keys) == len(sight.views)


def _whole(keys: Mapping[int, Keys], sight: Sight) -> dict[int, Keys]:
    """Return the tasks whose vectors are all kept."""
    return {task_id: found for task_id, found in keys.items() if _is_whole(found, sight)}


def _known(by_id: dict[int, Task], before: Snapshot | None, sight: Sight) -> set[int]:
    """Return the tasks that the last snapshot has vectors of, their data being the same."""
    if before is None or before.facts.features != sight.identity:
        return set()
    found, rows = before.by_id, set(before.task_ids.tolist())
    return {id_ for id_, task in by_id.items() if id_ in rows and found[id_].digest == task.digest}


def _still_left_out(project: Project, by_id: dict[int, Task]) -> dict[int, LeftOut]:
    """Return what was left out before and has no reason to be tried again now."""
    notes = project.store.reading.notes()
    if notes.allowed != project.files.allowed.rules:
        return {}
    return {id_: why for id_, why in notes.tasks.items() if id_ in by_id and by_id[id_].digest == why.digest}


def _is_due(why: LeftOut | None, now: float) -> bool:
    return why is None or (why.again_at is not None and why.again_at <= now)


def _take_failures(project: Project, round_: Round, wanted: Iterable[Task], left_out: dict[int, LeftOut]) -> None:
    """Note in ``left_out`` what a round could not embed."""
    digests, new = {task.id: task.digest for task in wanted}, {}
    for task_id, error in round_.failed.items():
        new[task_id] = _left_out(digests[task_id], error, left_out.get(task_id))
    for task_id, waited in round_.late.items():
        late = NotNowError(f"its file did not come within {waited:.0f} s")
        new[task_id] = _left_out(digests[task_id], late, left_out.get(task_id))
    _report(project, {task_id: why for task_id, why in new.items() if task_id not in left_out})
    left_out.update(new)


class _Progress:
    """Says in the status how far embedding is, and how long it will take."""

    def __init__(self, project: Project, n_before: int, n_tasks: int) -> None:
        self._project, self._n_before, self._n_tasks = project, n_before, n_tasks
        self._started = time.monotonic()
        self._noted = 0.0
        self.said: str | None = None

    def note(self, n_done: int) -> None:
        now = time.monotonic()
        if now - self._noted > NOTE_EVERY:
            self._noted = now
            seconds = max(now - self._started, 1e-3)
            self.said = progress(self._n_before + n_done, self._n_tasks, n_done / seconds)
            self._project.store.note(doing=self.said)


def progress(n_done: int, n_tasks: int, per_second: float) -> str:
    """Return how far embedding is.

    >>> progress(34_000, 100_000, 210)
    'embedding 34 000 of 100 000, 210/s, 5 min left'
    >>> progress(90, 100, 0.5)
    'embedding 90 of 100, 0.5/s, 20 s left'
    """
    seconds = (n_tasks - n_done) / max(per_second, 1e-9)
    left = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    left = left if seconds < 90 * 60 else f"{seconds / 3600:.0f} h"
    rate = f"{per_second:.0f}" if per_second >= 10 else f"{per_second:.1f}"
    return f"embedding {_grouped(n_done)} of {_grouped(n_tasks)}, {rate}/s, {left} left"


def _grouped(n: int) -> str:
    return f"{n:,}".replace(",", " ")


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
