"""The rows in Label Studio brought in line with a snapshot.

There is no log of operations: every pass compares what should be with what is there, so a crash anywhere is
healed by the next pass. No row is ever deleted here, because deleting one under an open task makes that
annotator's Submit fail; of two rows for one task the newer is renamed to the generation that nobody shows.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from exemplar.context import Project
from exemplar.pacing import is_at_work
from exemplar.rows.generation import generation_name, generation_number
from exemplar.rows.ledger import Ledger
from exemplar.rows.manage import ensure_webhook, is_managed, make_current, our_backend
from exemplar.rows.plan import TOLERANCE, Plan, desired_rows, plan
from exemplar.rows.standing import disconnected
from exemplar.rows.writing import SMALL_IMPORT, apply
from exemplar.store.snapshot import Snapshot

logger = logging.getLogger(__name__)

# When more rows than this differ, and more than half of the pool, patching cannot follow: they are imported
# as a new generation. Not more often than every so many seconds, because old generations stay.
TOO_MANY_PATCHES = 1000
NEW_GENERATION_EVERY = 600.0


def reconcile(
    project: Project,
    facts: dict[str, Any],
    snapshot: Snapshot,
    ledger: Ledger,
    *,
    newer: Callable[[], bool],
    exact: bool,
    affected: frozenset[int] = frozenset(),
) -> tuple[Snapshot, int]:
    """Bring the rows in Label Studio in line.

    Return the snapshot that they follow and how many are left.

    Raises
    ------
    ClosedError
        If the project has disconnected us.
    """
    is_stale = exact or ledger.is_stale(at_work=is_at_work(project))
    if is_stale and ledger.settle():
        _list_rows(project, ledger)
    steps = _plan(snapshot, ledger, exact=exact, affected=affected)
    if _patching_cannot_follow(project, snapshot, len(steps.patch)):
        snapshot = _next_generation(project, snapshot)
        steps = _plan(snapshot, ledger, exact=exact)
    is_first = generation_number(facts["model_version"]) != snapshot.facts.generation
    # Rows before the switch: an empty generation would show the annotators no task at all. And the switch
    # before the patches: only then do they show.
    now = replace(steps, patch=[]) if is_first else steps
    left = apply(project, snapshot, now, ledger, interrupted=newer)
    # A generation takes the place of another one only when it is whole.
    is_whole = not left.create or not generation_number(facts["model_version"])
    if is_whole and (is_first or exact or not is_managed(project)):
        _manage(project, facts, snapshot)
    if project.client.dry_run:
        return snapshot, 0
    return snapshot, left.n + (len(steps.patch) if is_first else 0) or int(ledger.is_forgotten)


def _list_rows(project: Project, ledger: Ledger) -> None:
    """List the rows that are there."""
    project.store.note(doing="comparing rows")
    if our_backend(project) is None:
        raise disconnected(project)
    started = time.monotonic()
    predictions = project.client.predictions(project.id)
    ledger.fill(predictions, seconds=time.monotonic() - started)


def _plan(snapshot: Snapshot, ledger: Ledger, *, exact: bool, affected: frozenset[int] = frozenset()) -> Plan:
    return plan(
        desired_rows(snapshot),
        ledger.predictions(),
        snapshot.facts.labeling,
        generation=snapshot.facts.generation,
        tolerance=0.0 if exact else TOLERANCE,
        affected=affected,
    )


def _manage(project: Project, facts: dict[str, Any], snapshot: Snapshot) -> None:
    make_current(project, facts, snapshot.facts.generation)
    ensure_webhook(project)
    project.client.backends(project.id)  # makes Label Studio ask /setup for the new generation's name
    if not project.client.dry_run:
        project.store.update_connection(managed=True)


def _patching_cannot_follow(project: Project, snapshot: Snapshot, n_patches: int) -> bool:
    """Return whether a bulk import is due, during which Label Studio is slow to answer annotators."""
    old_enough = time.time() - snapshot.facts.generation_since > NEW_GENERATION_EVERY
    opportune = n_patches <= SMALL_IMPORT or not is_at_work(project)
    return n_patches > max(TOO_MANY_PATCHES, len(snapshot.task_ids) / 2) and old_enough and opportune


def _next_generation(project: Project, snapshot: Snapshot) -> Snapshot:
    generation = 1 + max(highest_generation(project), snapshot.facts.generation)
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


def highest_generation(project: Project) -> int:
    """Return the highest number of a generation that Label Studio has predictions of; 0 for none."""
    versions = project.client.model_versions(project.id)
    return max((generation_number(version) or 0 for version in versions), default=0)
