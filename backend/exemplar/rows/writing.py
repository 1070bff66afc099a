"""The writes between the rows that should be there and those that are, what annotators see next first."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from exemplar.context import Project
from exemplar.pacing import considerate, is_at_work
from exemplar.rows.generation import RETIRED, generation_name
from exemplar.rows.imports import import_rows, may_still_come
from exemplar.rows.ledger import Ledger
from exemplar.rows.plan import Patch, Plan, Row
from exemplar.rows.scores import is_asked, is_asked_soon
from exemplar.store.snapshot import Snapshot

# Up to here rows are created one by one; a bulk import makes Label Studio recount all tasks of the project.
FEW = 5
# So many threads create them: Label Studio takes no more at a time.
WRITERS = 4
# While it imports, Label Studio is slow to answer annotators: an import of more rows than these waits until nobody
# is at work, or so many answers make it worth while.
SMALL_IMPORT = 2000
WORTH_IMPORTING = 20
# So many patches of a pass are urgent.
URGENT = 20
Json = dict[str, Any]


@dataclass(frozen=True)
class Left:
    """How many rows a pass left to be created and patched."""

    create: int
    patch: int

    @property
    def n(self) -> int:
        """Return how many writes are left."""
        return self.create + self.patch


def never() -> bool:
    """Nothing newer comes up."""
    return False


def apply(
    project: Project,
    snapshot: Snapshot,
    steps: Plan,
    ledger: Ledger,
    *,
    interrupted: Callable[[], bool] = never,
) -> Left:
    """Write a plan, what annotators see next first; return what is left because something newer came up."""
    if steps.n_writes:
        project.store.note(doing=f"writing {steps.n_writes} rows", pending_rows=steps.n_writes)
    # A first batch is created whole: with a handful of rows, locks would soon leave annotators without a task.
    is_first = not ledger.predictions()
    queue, others = _to_create(project, snapshot, steps.create)
    soon = [row for row in queue if is_asked_soon(row["score"])]
    _create(project, soon, ledger)
    n_urgent = _patch(project, snapshot, steps.patch[:URGENT], ledger, interrupted, urgent=True)
    n_queued = len(soon) + _create(project, queue[len(soon) :], ledger, never if is_first else interrupted)
    n_imported = _import(project, snapshot, others, ledger, interrupted)
    # While it imports, Label Studio has enough to do.
    others_to_patch = steps.patch[URGENT:] if not ledger.is_importing else []
    n_patched = n_urgent + _patch(project, snapshot, others_to_patch, ledger, interrupted)
    for prediction_id in steps.retire:
        project.client.patch_prediction(prediction_id, model_version=generation_name(RETIRED))
        ledger.forget()
    n_left = len(queue) - n_queued + len(others) - n_imported + ledger.n_under_way
    left = Left(create=n_left, patch=len(steps.patch) - n_patched)
    project.store.note(pending_rows=left.n)
    return left


def _patch(
    project: Project,
    snapshot: Snapshot,
    patches: list[Patch],
    ledger: Ledger,
    interrupted: Callable[[], bool],
    *,
    urgent: bool = False,
) -> int:
    """Patch rows until something newer comes up; return how many."""
    for n_done, patch in enumerate(patches):
        # One patch a pass at least, however fast annotations come in.
        if interrupted() and not (urgent and n_done == 0):
            return n_done
        values = {"result": snapshot.facts.labeling.result(patch.row.choice), "score": patch.row.score}
        with considerate(project, interrupted=interrupted, urgent=urgent):
            project.client.patch_prediction(patch.prediction_id, **values)
        ledger.note(patch.prediction_id, **values)
        if n_done % 20 == 0:
            left = len(patches) - n_done
            project.store.note(doing=f"writing {left} rows", pending_rows=left)
    return len(patches)


def _to_create(project: Project, snapshot: Snapshot, rows: dict[int, Row]) -> tuple[list[Json], list[Json]]:
    """Return the rows to create one by one, and those to import in bulk, as Label Studio takes them.

    The queue goes first, and one by one: then each row's id is known, and it does not wait for an import of others.
    Label Studio would import it, too.
    """
    labeling, version = snapshot.facts.labeling, generation_name(snapshot.facts.generation)
    predictions: list[Json] = [
        {"task": id_, "result": labeling.result(row.choice), "score": row.score, "model_version": version}
        for id_, row in rows.items()
    ]
    queue = [prediction for prediction in predictions if is_asked(prediction["score"])]
    others = [prediction for prediction in predictions if not is_asked(prediction["score"])]
    return (queue + others, []) if len(others) <= FEW else (queue, others)


def _create(project: Project, rows: list[Json], ledger: Ledger, interrupted: Callable[[], bool] = never) -> int:
    """Create rows one by one until something newer comes up; return how many."""
    n_done = 0
    with ThreadPoolExecutor(WRITERS) as writers:
        while n_done < len(rows) and not interrupted():
            project.store.note(doing=f"queueing {len(rows) - n_done} tasks")
            now = [row | {"project": project.id} for row in rows[n_done : n_done + WRITERS]]
            for prediction in writers.map(project.client.create_prediction, now):
                ledger.add(prediction)
            n_done += len(now)
    if n_done:
        ledger.look_again()
    return n_done


def _import(
    project: Project, snapshot: Snapshot, rows: list[Json], ledger: Ledger, interrupted: Callable[[], bool]
) -> int:
    """Import rows until something newer comes up or an import is under way; return how many."""
    start = 0
    while start < len(rows) and ledger.settle() and not (start and interrupted()):
        if len(rows) > SMALL_IMPORT and snapshot.facts.n_answered < WORTH_IMPORTING and is_at_work(project):
            return start
        if may_still_come(project, ledger):
            return start
        project.store.note(doing=f"importing {len(rows) - start} rows", pending_rows=len(rows) - start)
        start += import_rows(project, rows[start:], ledger)
    if start == len(rows) and ledger.has_imported and ledger.settle():
        ledger.forget()
    return start
