"""Refresh: from what Label Studio holds to a new snapshot, and from that to the rows in Label Studio.

A full refresh is a pure function of tasks, annotations, settings and code version. It may be killed anywhere
and run again. With nothing changed it writes nothing.
"""

import logging
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from exemplar.context import Project
from exemplar.engine import prepare_queue, prepare_spreading
from exemplar.project.audits import write_down
from exemplar.project.reading import BRIEF_ROUND, ROUND, Read, n_lost, read_on
from exemplar.project.snapshots import is_stale, make_snapshot
from exemplar.project.sync import SAMPLE, Held, read_facts, sample, sync
from exemplar.project.views import Sight, sight_of
from exemplar.rows import Ledger, check_connection, highest_generation, is_look_due, is_managed, reconcile
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Done
from exemplar.store.snapshot import Snapshot, not_used_sentence

logger = logging.getLogger(__name__)

# The rows of so many tasks follow an answer at once, those of the others as Label Studio bears it.
N_AFFECTED = 10


@dataclass(frozen=True)
class Outcome:
    """What a refresh has done.

    ``pending`` rows and ``unread`` tasks make the worker come back soon, tasks that are left out for now at
    ``again_at`` (seconds since the epoch).
    """

    snapshot: Snapshot | None = None
    pending: int = 0
    unread: int = 0
    again_at: float | None = None


def refresh(project: Project, ledger: Ledger, *, at_length: bool = True) -> Outcome:
    """Bring a project up to date with Label Studio, and Label Studio's rows up to date with us.

    The caller holds the project's lock. ``ledger`` is what is known of the rows from one refresh to the next. Only
    ``at_length`` it reads for longer than a moment what the hosts of tasks' files give.
    """
    started = time.monotonic()
    if not ledger.is_importing:  # Label Studio is asked no more than annotations demand
        check_connection(project)
    store = project.store
    store.mend()
    demand = Done(webhooks=store.number("webhooks"), orders=store.number("orders"))
    done, before = store.done(), store.current() or _quick_start(project, demand, ledger)
    ordered = demand.orders not in (0, done.orders)
    # The current one is damaged: what has been read since the one before it is to be read again.
    fallen_back = before is not None and not store.is_current(before)

    held = sync(project, before, cursor="" if ordered or fallen_back else done.cursor)
    if not held.tasks:
        return _without_tasks(project, held, demand)
    sight = sight_of(project.settings, held.labeling, held.own)
    if lost := n_lost(project, held, sight, before):
        logger.warning("%s: the own vectors of %d tasks were lost in MODEL_DIR and are read again", project, lost)
        held = sync(project, before, cursor="")
        sight = sight_of(project.settings, held.labeling, held.own)
    stale = before is None or ordered or fallen_back or is_stale(project, held, sight, before)
    known = before if before is not None and before.facts.features == sight.identity else None
    read = _read(project, held, sight, known, demand, ordered=ordered, stale=stale, at_length=at_length)
    joins = ordered or read.joins(known)
    if before is None or stale or joins:
        taken = read if joins else replace(read, fresh={})
        snapshot = make_snapshot(project, held, sight, before, taken, anew=ordered)
        if snapshot is None:
            return _without_tasks(project, held, demand, read)
        _report_sight(project, sight, snapshot, before)
        write_down(project, snapshot, before)
        store.save(snapshot)
        if joins:
            store.reading.note_joined()
            project.vectors.trim()
        _report(project, snapshot, time.monotonic() - started)
        _report_not_used(project, snapshot, before)
    else:
        snapshot = before

    if before is None or _ids(held) != _ids(before):
        ledger.forget()  # rows go with their tasks
    pending = 0
    exact = ordered or done.exact
    if done.reconciled != store.current_name() or ordered or is_look_due(store) or not is_managed(project):
        affected = _most_affected(before, snapshot)
        newer = partial(_is_newer, store, demand)
        pending = reconcile(
            project, held.facts, snapshot, ledger, newer=newer, ordered=ordered, exact=exact, affected=affected
        )
    reconciled = store.current_name() if pending == 0 else ""
    exact = exact and pending != 0
    store.save_done(replace(demand, cursor=held.cursor, reconciled=reconciled, exact=exact))
    if before is None or snapshot.geometry is not before.geometry:
        _get_ready(store)
    if read.n_unread and read.doing:
        store.note(doing=read.doing)
    return Outcome(snapshot, pending, read.n_unread, read.again_at)


def _read(
    project: Project,
    held: Held,
    sight: Sight,
    before: Snapshot | None,
    demand: Done,
    *,
    ordered: bool,
    stale: bool,
    at_length: bool,
) -> Read:
    """Embed what tasks show, for as long as nobody else waits: other projects for the worker, or annotators."""
    if before is None:
        return read_on(project, held, sight, before, anew=ordered, seconds=ROUND)
    if at_length and (ordered or not stale):
        seconds = ROUND
    else:
        seconds = 0.0 if _digests(held) == _digests(before) else BRIEF_ROUND
    newer = partial(_is_newer, project.store, demand)
    return read_on(project, held, sight, before, anew=ordered, seconds=seconds, interrupted=newer)


def _get_ready(store: ProjectStore) -> None:
    """Derive what learning needs of a new geometry, as later refreshes will read it."""
    current = store.current()
    if current is not None:
        prepare_spreading(current.geometry)
        prepare_queue(current.geometry, n_classes=len(current.facts.labeling.classes))


def _ids(tasks: Held | Snapshot) -> list[tuple[int, str]]:
    """Return which tasks there are; SQLite gives the id of a deleted task to the next one."""
    return [(task.id, task.created_at) for task in tasks.tasks]


def _digests(tasks: Held | Snapshot) -> list[tuple[int, str]]:
    return [(task.id, task.digest) for task in tasks.tasks]


def _most_affected(before: Snapshot | None, snapshot: Snapshot) -> frozenset[int]:
    """Return the tasks whose label distributions the newest answers moved most."""
    if before is None or before is snapshot or before.facts.labeling != snapshot.facts.labeling:
        return frozenset()
    if not np.array_equal(before.task_ids, snapshot.task_ids):
        return frozenset()
    moved = np.abs(snapshot.distributions - before.distributions).sum(axis=1)
    return frozenset(snapshot.task_ids[np.argsort(-moved, kind="stable")[:N_AFFECTED]].tolist())


def _quick_start(project: Project, demand: Done, ledger: Ledger) -> Snapshot | None:
    """Queue a first batch from a sample, within seconds, where annotators would wait for a big pool's vectors.

    None where the pool is small, or rows of ours are there already.
    """
    facts = read_facts(project)
    if facts["task_number"] <= 5 * SAMPLE or highest_generation(project):
        return None
    held = sample(project, facts)
    sight = sight_of(project.settings, held.labeling, held.own)
    read = read_on(project, held, sight, None, anew=False, seconds=ROUND)
    snapshot = make_snapshot(project, held, sight, None, read)
    if snapshot is not None:
        project.store.save(snapshot)
        project.store.reading.note_joined()
        newer = partial(_is_newer, project.store, demand)
        reconcile(project, held.facts, snapshot, ledger, newer=newer)
        project.store.save_done(Done())
        project.store.note(state="ready")
        logger.info("%s: queued a first batch from %d of the tasks", project, len(held.tasks))
    return snapshot


def _is_newer(store: ProjectStore, demand: Done) -> bool:
    return store.number("webhooks") != demand.webhooks


def _without_tasks(project: Project, held: Held, demand: Done, read: Read | None = None) -> Outcome:
    doing = "waiting for tasks" if not held.tasks else "waiting for a task that can be read"
    project.store.note(doing=doing)
    project.store.save_done(demand)
    return Outcome(unread=read.n_unread, again_at=read.again_at) if read else Outcome()


def _report_not_used(project: Project, snapshot: Snapshot, before: Snapshot | None) -> None:
    known = before.facts.not_used if before is not None else {}
    for why, found in snapshot.facts.not_used.items():
        if known.get(why) != found:
            logger.warning("%s: not used, or not all of it: %s", project, not_used_sentence(why, found))


def _report_sight(project: Project, sight: Sight, snapshot: Snapshot, before: Snapshot | None) -> None:
    if sight.own.said != (before.facts.own_vectors if before is not None else ""):
        logger.info("%s: %s", project, sight.own.said or "no vectors of your own any more")
    if not sight.own.length and (before is None or before.facts.blocks != snapshot.facts.blocks):
        for view, why in sight.why.items():
            blocks = [block for block in snapshot.facts.blocks if block.view == view]
            seen_by = " + ".join(f"{block.weight:.2g}*{block.embedder}" for block in blocks)
            logger.info("%s: %r is seen by %s (%s)", project, view, seen_by, why)


def _report(project: Project, snapshot: Snapshot, seconds: float) -> None:
    facts = snapshot.facts
    logger.info(
        "%s: snapshot %d: %d tasks, %d answered, %d predicted (%d shown), %d left out, %d clusters, %.1f s",
        project,
        facts.number,
        facts.n_tasks,
        facts.n_answered,
        facts.n_pre_annotated,
        facts.n_shown,
        len(facts.unreadable),
        len(snapshot.geometry.clustering.centers),
        seconds,
    )
