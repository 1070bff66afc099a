"""Rows of ours that Label Studio shows no more: of former generations, and doubles that were put aside.

They would stand beside the current ones for ever, as further tabs of each task. They go by themselves, once nobody
can have a task open with one of them: a Submit names the row that was shown, and fails if that is gone. A lock on
a task lasts 24 hours, and a page may stay open over a weekend. A row that an annotation names stays with it, for to
delete it would change the annotation.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from exemplar.context import Project
from exemplar.pacing import considerate
from exemplar.rows.generation import generation_name, generation_number
from exemplar.rows.ledger import Ledger
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Shown
from exemplar.store.snapshot import Snapshot

logger = logging.getLogger(__name__)

# A row stays so many seconds after it was shown or written last: three days.
KEPT = 3 * 86_400.0
Json = dict[str, Any]


def is_look_due(store: ProjectStore) -> bool:
    """Return whether rows of former generations may go now, or nothing is known of them."""
    shown = store.shown()
    return shown is None or (shown.look_at is not None and time.time() >= shown.look_at)


def note_shown(project: Project, facts: Json, snapshot: Snapshot, ledger: Ledger) -> None:
    """Write down which generation is shown, since when, and when rows of others are to be looked at."""
    version, known = generation_name(snapshot.facts.generation), project.store.shown()
    shown = known if known and known.version == version else Shown(version=version, since=time.time())
    # Those that were looked at and stayed are not looked at again.
    times = [_may_go_at(row, shown) for row in _former(facts, shown, ledger)]
    shown = replace(shown, look_at=min((at for at in times if at > shown.looked_at), default=None))
    if shown != known:
        project.store.note_shown(shown)


def take_back(
    project: Project, facts: Json, snapshot: Snapshot, ledger: Ledger, *, interrupted: Callable[[], bool]
) -> int:
    """Delete the rows whose time is over, one by one and as annotators bear it; return how many are left to do."""
    shown, now = project.store.shown(), time.time()
    if shown is None or shown.look_at is None or now < shown.look_at:
        return 0
    due = [row for row in _former(facts, shown, ledger) if shown.looked_at < _may_go_at(row, shown) <= now]
    annotated = {task.id for task in snapshot.tasks if task.annotations}
    due.sort(key=lambda row: row["task"] in annotated)
    n_gone = 0
    for n_done, row in enumerate(due):
        if interrupted():
            return len(due) - n_done
        if n_done % 20 == 0:
            left = len(due) - n_done
            project.store.note(doing=f"taking back {left} rows of former generations", pending_rows=left)
        with considerate(project, interrupted=interrupted):
            if row["task"] in annotated and row["id"] in project.client.parent_predictions(row["task"]):
                continue
            project.client.delete_prediction(row["id"])
        ledger.remove(row["id"])
        n_gone += 1
    project.store.note_shown(replace(shown, looked_at=now))
    note_shown(project, facts, snapshot, ledger)
    if due:
        stay = f"; {len(due) - n_gone} stay, because annotations name them" if n_gone < len(due) else ""
        logger.info("%s: took back %d rows of former generations%s", project, n_gone, stay)
    return 0


def _former(facts: Json, shown: Shown, ledger: Ledger) -> Iterator[Json]:
    """Yield our rows of other generations; never of one that the project shows, whoever has set it so."""
    for row in ledger.predictions():
        version = row["model_version"]
        if version not in (shown.version, facts["model_version"]) and generation_number(version) is not None:
            yield row


def _may_go_at(row: Json, shown: Shown) -> float:
    """Return when nobody can hold a row any more; never, if Label Studio does not say when it was written."""
    try:
        written = datetime.fromisoformat(row["updated_at"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return float("inf")
    return max(written, shown.since) + KEPT
