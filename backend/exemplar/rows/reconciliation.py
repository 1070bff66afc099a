"""The rows in Label Studio brought in line with a snapshot.

There is no log of operations: every pass compares what should be with what is there, so a crash anywhere is
healed by the next pass. Rows are brought along in place, however many differ: what annotators see next first, the
rest as Label Studio bears it. Another generation takes their place only when the label config has changed. No row
is deleted that may be under an open task, because that annotator's Submit would fail: of two rows for one task the
newer is renamed to the generation that nobody shows, and ``former`` takes it back when its time is over.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from exemplar.context import Project
from exemplar.pacing import is_at_work
from exemplar.rows.former import note_shown, take_back
from exemplar.rows.generation import generation_number
from exemplar.rows.ledger import Ledger
from exemplar.rows.manage import ensure_webhook, is_managed, make_current, our_backend
from exemplar.rows.plan import TOLERANCE, Plan, desired_rows, plan
from exemplar.rows.standing import disconnected
from exemplar.rows.writing import apply
from exemplar.store.snapshot import Snapshot

logger = logging.getLogger(__name__)


def reconcile(
    project: Project,
    facts: dict[str, Any],
    snapshot: Snapshot,
    ledger: Ledger,
    *,
    newer: Callable[[], bool],
    ordered: bool = False,
    exact: bool = False,
    affected: frozenset[int] = frozenset(),
) -> int:
    """Bring the rows in Label Studio in line; return how many are left.

    ``ordered``: look at everything anew, for somebody has pressed Start Training. ``exact``: leave no score that is
    out by a little.

    Raises
    ------
    ClosedError
        If the project has disconnected us.
    """
    is_stale = ordered or ledger.is_stale(at_work=is_at_work(project))
    if is_stale and ledger.settle():
        _list_rows(project, ledger)
    steps = _plan(snapshot, ledger, exact=exact, affected=affected)
    is_first = generation_number(facts["model_version"]) != snapshot.facts.generation
    # Rows before the switch: an empty generation would show the annotators no task at all. And the switch
    # before the patches: only then do they show.
    now = replace(steps, patch=[]) if is_first else steps
    left = apply(project, snapshot, now, ledger, interrupted=newer)
    # A generation takes the place of another one only when it is whole.
    is_whole = not left.create or not generation_number(facts["model_version"])
    if is_whole and (is_first or ordered or not is_managed(project)):
        _manage(project, facts, snapshot)
    if is_whole:
        note_shown(project, facts, snapshot, ledger)
    if project.client.dry_run:
        return 0
    n_left = left.n + (len(steps.patch) if is_first else 0)
    return n_left or take_back(project, facts, snapshot, ledger, interrupted=newer) or int(ledger.is_forgotten)


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


def highest_generation(project: Project) -> int:
    """Return the highest number of a generation that Label Studio has predictions of; 0 for none."""
    versions = project.client.model_versions(project.id)
    return max((generation_number(version) or 0 for version in versions), default=0)
