"""Audits: tasks drawn by a hash, asked blind, with our prediction written down before anybody answers.

The audit log is the one thing here that Label Studio does not know: what we predicted for a task before a person
answered. It is only ever appended to.
"""

import time
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from exemplar.context import Project
from exemplar.engine import hash_ranks, is_audit
from exemplar.labelstudio.tasks import Task
from exemplar.store.audit_log import AuditEntry
from exemplar.store.snapshot import Snapshot

# Tasks seldom come and go, and to hash a million takes seconds.
KEPT_RANKS = 8
FROZEN, SEEN = "frozen", "seen"


def audit_rows(project: Project, tasks: Sequence[Task]) -> NDArray[np.intp]:
    """Return the rows that are kept for audits, in the order in which their turn comes.

    Which these are depends on the tasks alone, so that no model has a say in what it is judged by.
    """
    ranks = _ranks(project.connection.key, tuple(task.id for task in tasks))
    rows = np.flatnonzero(ranks < project.settings.audit_share / 100)
    return rows[np.argsort(ranks[rows], kind="stable")]


@lru_cache(KEPT_RANKS)
def _ranks(key: str, task_ids: tuple[int, ...]) -> NDArray[np.float64]:
    return hash_ranks([f"{key}:{task_id}" for task_id in task_ids])


def _key(project: Project, task_id: int) -> str:
    return f"{project.connection.key}:{task_id}"


def frozen_rows(entries: Iterable[AuditEntry], tasks: Sequence[Task]) -> NDArray[np.intp]:
    """Return the rows whose prediction is written down and that nobody has annotated yet: they stay blind."""
    frozen = {entry.task for entry in entries if entry.kind == FROZEN}
    return np.array([row for row, task in enumerate(tasks) if task.id in frozen and not task.annotations], np.intp)


def write_down(project: Project, snapshot: Snapshot, before: Snapshot | None) -> None:
    """Append what we predict for the audits that are asked now, and what others were shown when they answered."""
    last = {entry.task: entry for entry in project.store.audit_log()}
    entries = [*_frozen(project, snapshot, last), *(_seen(snapshot, before, last) if before else ())]
    if entries and not project.client.dry_run:
        project.store.append_audits(entries)


def _frozen(project: Project, snapshot: Snapshot, last: dict[int, AuditEntry]) -> Iterable[AuditEntry]:
    # Tasks that were drawn for the accept rule are blind as well, and from a set that the model chose.
    keys = [_key(project, int(snapshot.task_ids[row])) for row in snapshot.blind]
    for row in snapshot.blind[is_audit(keys, project.settings.audit_share / 100)].tolist():
        choice = int(snapshot.choices[row])
        known = last.get(int(snapshot.task_ids[row]))
        if known is None or (known.choice, known.generation) != (choice, snapshot.facts.generation):
            yield _entry(FROZEN, snapshot, row, choice)


def _seen(snapshot: Snapshot, before: Snapshot, last: dict[int, AuditEntry]) -> Iterable[AuditEntry]:
    """Return the pre-annotations that stood there for tasks which have been annotated since."""
    for task in [task for task in snapshot.tasks if task.annotations]:
        known = before.by_id.get(task.id)
        if known is not None and not known.annotations and task.id not in last:
            row = before.row(task.id)
            if row is not None and before.shown[row] >= 0:
                yield _entry(SEEN, before, row, int(before.shown[row]))


def _entry(kind: str, snapshot: Snapshot, row: int, choice: int) -> AuditEntry:
    confidence = float(snapshot.distributions[row].max(initial=0))
    return AuditEntry(
        kind=kind,
        task=int(snapshot.task_ids[row]),
        choice=choice,
        confidence=round(confidence, 6),
        generation=snapshot.facts.generation,
        snapshot=snapshot.facts.number,
        at=time.time(),
    )
