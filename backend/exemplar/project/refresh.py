"""Refresh: from what Label Studio holds to a new snapshot, and from that to the rows in Label Studio.

A full refresh is a pure function of tasks, annotations, settings and code version. It may be killed anywhere
and run again. With nothing changed it writes nothing.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from exemplar.context import Project, is_at_work
from exemplar.engine import n_starters
from exemplar.project.acceptance import acceptance, ask_drawn_first
from exemplar.project.audits import audit_rows, frozen_rows, write_down
from exemplar.project.honesty import be_honest
from exemplar.project.learn import learn, read_answers
from exemplar.project.manage import ensure_webhook, is_managed, make_current, our_backend
from exemplar.project.pool import build_pool, features_identity
from exemplar.project.reconcile import (
    SMALL_IMPORT,
    TOLERANCE,
    Ledger,
    Plan,
    apply,
    desired_rows,
    generation_name,
    generation_number,
    plan,
)
from exemplar.project.sync import SAMPLE, Held, read_facts, sample, sync
from exemplar.settings import PER_PROJECT
from exemplar.store.project_store import Done, ProjectStore
from exemplar.store.snapshot import Facts, Snapshot

logger = logging.getLogger(__name__)

# When more rows than this differ, and more than half of the pool, patching cannot follow: they are imported
# as a new generation. Not more often than every so many seconds, because old generations stay.
TOO_MANY_PATCHES = 1000
NEW_GENERATION_EVERY = 600.0
# The rows of so many tasks follow an answer at once, those of the others as Label Studio bears it.
N_AFFECTED = 10


@dataclass(frozen=True)
class Outcome:
    """What a refresh has done; ``pending`` rows make the worker come back soon."""

    snapshot: Snapshot | None = None
    pending: int = 0


def refresh(project: Project, ledger: Ledger) -> Outcome:
    """Bring a project up to date with Label Studio, and Label Studio's rows up to date with us.

    The caller holds the project's lock. ``ledger`` is what is known of the rows from one refresh to the next.
    """
    started = time.monotonic()
    store = project.store
    demand = Done(webhooks=store.number("webhooks"), orders=store.number("orders"))
    done, before = store.done(), store.current() or _quick_start(project, demand, ledger)
    ordered = demand.orders > done.orders

    held = sync(project, before, cursor=done.cursor if not ordered else "")
    if not held.tasks:
        return _without_tasks(project, held, demand)
    if before is None or ordered or _changed(project, held, before):
        snapshot = make_snapshot(project, held, before, anew=ordered)
        if snapshot is None:
            return _without_tasks(project, held, demand)
        write_down(project, snapshot, before)
        store.save(snapshot)
        _report(project, snapshot, time.monotonic() - started)
    else:
        snapshot = before

    if before is None or _ids(held) != _ids(before):
        ledger.forget()  # rows go with their tasks
    pending: int | None = 0
    if done.reconciled != store.current_name() or ordered or not is_managed(project):
        affected = _most_affected(before, snapshot)
        snapshot, pending = _reconcile(project, held, snapshot, demand, ledger, exact=ordered, affected=affected)
    reconciled = store.current_name() if pending == 0 else ""
    store.save_done(replace(demand, cursor=held.cursor, reconciled=reconciled))
    if before is None or snapshot.geometry is not before.geometry:
        _get_ready(store)
    return Outcome(snapshot, pending or 0)


def _get_ready(store: ProjectStore) -> None:
    """Derive what learning needs of a new geometry, as later refreshes will read it."""
    current = store.current()
    if current is not None:
        current.geometry.prepare(n_starters(len(current.facts.labeling.classes)))


def _ids(tasks: Held | Snapshot) -> list[tuple[int, str]]:
    """Return which tasks there are; SQLite gives the id of a deleted task to the next one."""
    return [(task.id, task.created_at) for task in tasks.tasks]


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
    if facts["task_number"] <= 5 * SAMPLE or _highest_generation(project):
        return None
    held = sample(project, facts)
    snapshot = make_snapshot(project, held, None)
    if snapshot is not None:
        project.store.save(snapshot)
        _reconcile(project, held, snapshot, demand, ledger, exact=False)
        project.store.save_done(Done())
        project.store.note(state="ready")
        logger.info("%s: queued a first batch from %d of the tasks", project, len(held.tasks))
    return snapshot


def make_snapshot(project: Project, held: Held, before: Snapshot | None, *, anew: bool = False) -> Snapshot | None:
    """Learn from what Label Studio holds; ``anew`` forgets the clusters. None if no task is readable."""
    if before is not None:
        anew = anew or _starts_anew(project, held, before)
    pool = build_pool(project, held.labeling, held.tasks, before, anew=anew)
    if pool is None:
        return None
    project.store.note(doing=f"learning from {len(pool.tasks)} tasks")
    same_graph = before is not None and pool.geometry is before.geometry
    answers, log = read_answers(pool.tasks, held.labeling), project.store.audit_log()
    accept_set = project.store.accept_set()
    accepting = acceptance(accept_set, pool.tasks, held.labeling)
    learned = learn(
        pool.geometry,
        answers,
        project.settings,
        audits=audit_rows(project, pool.tasks),
        frozen=frozen_rows(log, pool.tasks),
        columns=before.columns if before is not None and same_graph else None,
    )
    learned = ask_drawn_first(learned, accept_set, accepting, pool.tasks)
    generation = _generation(project, held, before)
    honesty = be_honest(
        pool.tasks,
        pool.geometry,
        answers,
        learned,
        log,
        before.checkpoints if before is not None else (),
        generation=generation_name(generation),
        accepting=accepting,
    )
    return Snapshot(
        facts=Facts(
            number=project.store.next_number(),
            made_at=time.time(),
            generation=generation,
            generation_since=_since(generation, before),
            labeling=held.labeling,
            settings=settings_that_matter(project),
            n_clustered=pool.n_clustered,
            features=pool.features,
            unreadable=pool.unreadable,
            n_tasks=len(held.tasks),
            n_answered=int(np.count_nonzero(answers.y >= 0)),
            n_pre_annotated=int(np.count_nonzero(learned.choices >= 0)),
            temperature=learned.inference.temperature,
            averaged_at=learned.inference.averaged_at,
            honesty=honesty.said,
        ),
        tasks=held.tasks,
        task_ids=np.array([task.id for task in pool.tasks], np.int64),
        geometry=pool.geometry,
        distributions=learned.inference.distributions,
        columns=learned.inference.columns,
        classifier=learned.classifier,
        text_model=pool.text_model,
        choices=learned.choices,
        scores=learned.scores,
        blind=learned.blind,
        checkpoints=honesty.checkpoints,
    )


def settings_that_matter(project: Project) -> dict[str, Any]:
    """Return the settings that a snapshot depends on."""
    return {name: getattr(project.settings, name) for name in PER_PROJECT}


def _changed(project: Project, held: Held, before: Snapshot) -> bool:
    return (
        held.tasks != before.tasks
        or held.labeling != before.facts.labeling
        or settings_that_matter(project) != before.facts.settings
        or features_identity(held.labeling) != before.facts.features
        or project.store.accept_attempt() != (before.facts.honesty["acceptance"] or {"attempt": 0})["attempt"]
    )


def _starts_anew(project: Project, held: Held, before: Snapshot) -> bool:
    if held.labeling != before.facts.labeling:
        logger.info(
            "%s: the label config has changed; learning starts anew with %s on %s",
            project,
            held.labeling.control,
            ", ".join(held.labeling.classes),
        )
    return (
        features_identity(held.labeling) != before.facts.features
        or project.settings.n_clusters != before.facts.settings["n_clusters"]
    )


def _since(generation: int, before: Snapshot | None) -> float:
    same = before is not None and before.facts.generation == generation
    return before.facts.generation_since if before is not None and same else time.time()


def _generation(project: Project, held: Held, before: Snapshot | None) -> int:
    """Return the generation that the rows stand under: the one that is there, or the next one."""
    if before is not None and before.facts.labeling == held.labeling:
        return before.facts.generation
    highest = _highest_generation(project)
    if before is not None:
        # Rows of another label config cannot be patched into this one under an annotator's eyes.
        return 1 + max(highest, before.facts.generation)
    # Nothing is known here (a new project, or MODEL_DIR was deleted): take up the rows that are there.
    return generation_number(held.facts["model_version"]) or highest or 1


def _highest_generation(project: Project) -> int:
    versions = project.client.model_versions(project.id)
    return max((generation_number(version) or 0 for version in versions), default=0)


def _reconcile(
    project: Project,
    held: Held,
    snapshot: Snapshot,
    demand: Done,
    ledger: Ledger,
    *,
    exact: bool,
    affected: frozenset[int] = frozenset(),
) -> tuple[Snapshot, int | None]:
    """Bring the rows in Label Studio in line.

    Return the snapshot that they follow and how many are left; None if the project has disconnected us.
    """
    is_stale = exact or ledger.is_stale(at_work=is_at_work(project))
    if is_stale and ledger.settle() and not _list_rows(project, ledger):
        return snapshot, None
    steps = _plan(snapshot, ledger, exact=exact, affected=affected)
    if _patching_cannot_follow(project, snapshot, len(steps.patch)):
        snapshot = _next_generation(project, snapshot)
        steps = _plan(snapshot, ledger, exact=exact)
    is_first = generation_number(held.facts["model_version"]) != snapshot.facts.generation
    # Rows before the switch: an empty generation would show the annotators no task at all. And the switch
    # before the patches: only then do they show.
    now = replace(steps, patch=[]) if is_first else steps
    left = apply(project, snapshot, now, ledger, interrupted=_newer_than(project, demand))
    # A generation takes the place of another one only when it is whole.
    is_whole = not left.create or not generation_number(held.facts["model_version"])
    if is_whole and (is_first or exact or not is_managed(project)):
        _manage(project, held, snapshot)
    if project.client.dry_run:
        return snapshot, 0
    return snapshot, left.n + (len(steps.patch) if is_first else 0) or int(ledger.is_forgotten)


def _list_rows(project: Project, ledger: Ledger) -> bool:
    """List the rows that are there; False if the project has disconnected us."""
    project.store.note(doing="comparing rows")
    if our_backend(project) is None:
        project.store.update_connection(closed=True)
        logger.warning("%s: its model connection to us was removed; nothing is written any more", project)
        return False
    started = time.monotonic()
    predictions = project.client.predictions(project.id)
    ledger.fill(predictions, seconds=time.monotonic() - started)
    return True


def _plan(snapshot: Snapshot, ledger: Ledger, *, exact: bool, affected: frozenset[int] = frozenset()) -> Plan:
    return plan(
        desired_rows(snapshot),
        ledger.predictions(),
        snapshot.facts.labeling,
        generation=snapshot.facts.generation,
        tolerance=0.0 if exact else TOLERANCE,
        affected=affected,
    )


def _manage(project: Project, held: Held, snapshot: Snapshot) -> None:
    make_current(project, held.facts, snapshot.facts.generation)
    ensure_webhook(project)
    project.client.backends(project.id)  # makes Label Studio ask /setup for the new generation's name
    if not project.client.dry_run:
        project.store.update_connection(managed=True)


def _newer_than(project: Project, demand: Done) -> Callable[[], bool]:
    return lambda: project.store.number("webhooks") > demand.webhooks


def _patching_cannot_follow(project: Project, snapshot: Snapshot, n_patches: int) -> bool:
    """Return whether a bulk import is due, during which Label Studio is slow to answer annotators."""
    old_enough = time.time() - snapshot.facts.generation_since > NEW_GENERATION_EVERY
    opportune = n_patches <= SMALL_IMPORT or not is_at_work(project)
    return n_patches > max(TOO_MANY_PATCHES, len(snapshot.task_ids) / 2) and old_enough and opportune


def _next_generation(project: Project, snapshot: Snapshot) -> Snapshot:
    generation = 1 + max(_highest_generation(project), snapshot.facts.generation)
    facts = replace(
        snapshot.facts,
        number=project.store.next_number(),
        generation=generation,
        generation_since=time.time(),
    )
    logger.info("%s: so much has changed that %s is imported", project, generation_name(generation))
    snapshot = replace(snapshot, facts=facts)
    project.store.save(snapshot)
    return snapshot


def _without_tasks(project: Project, held: Held, demand: Done) -> Outcome:
    doing = "waiting for tasks" if not held.tasks else "waiting for a task that can be read"
    project.store.note(doing=doing)
    project.store.save_done(demand)
    return Outcome()


def _report(project: Project, snapshot: Snapshot, seconds: float) -> None:
    facts = snapshot.facts
    logger.info(
        "%s: snapshot %d: %d tasks, %d answered, %d pre-annotated, %d left out, %d clusters, %.1f s",
        project,
        facts.number,
        facts.n_tasks,
        facts.n_answered,
        facts.n_pre_annotated,
        len(facts.unreadable),
        len(snapshot.geometry.clustering.centers),
        seconds,
    )
