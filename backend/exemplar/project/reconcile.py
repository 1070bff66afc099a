"""The rows in Label Studio brought in line with a snapshot: create what is missing, patch what differs.

There is no log of operations: every pass compares what should be with what is there, so a crash anywhere is
healed by the next pass. No row is ever deleted here, because deleting one under an open task makes that
annotator's Submit fail; of two rows for one task the newer is renamed to the generation that nobody shows.
"""

import logging
import re
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from exemplar.context import Project, considerate, is_at_work
from exemplar.labelstudio.client import Client
from exemplar.labelstudio.label_config import Labeling
from exemplar.store.snapshot import Snapshot

logger = logging.getLogger(__name__)

# Up to here rows are created one by one; a bulk import makes Label Studio recount all tasks of the project.
FEW = 5
# So many threads create them: Label Studio takes no more at a time.
WRITERS = 4
# A bulk import is one request of at most so many rows. For each, Label Studio counts every row of the project anew:
# few requests are quicker than many. Meanwhile it is slow to answer annotators.
BULK = 10_000
# So an import of more rows than these waits until nobody is at work, or so many answers make it worth while.
SMALL_IMPORT = 2000
WORTH_IMPORTING = 20
# The next five tasks of the queue have scores up to this.
SOON = -1 / 5
# So many patches of a pass are urgent.
URGENT = 20
# A confidence that moved by less is not worth a request. A full refresh is exact.
TOLERANCE = 0.05
# What is known of the rows is believed for so many seconds, or so many times as long as listing them took; while
# annotators are at work, some times longer.
LEDGER_LIFE = 60.0
LISTING_SHARE = 50.0
AT_WORK_LONGER = 10.0

# Scores are told apart down to here; neighbours in a queue of a million are 1e-12 apart.
_SAME = 1e-13

RETIRED = 0
Json = dict[str, Any]
_GENERATION = re.compile(r"exemplar-(0|[1-9][0-9]*)")


def generation_name(generation: int) -> str:
    """Return the model version under which a generation's rows stand."""
    return f"exemplar-{generation}"


@lru_cache
def generation_number(model_version: object) -> int | None:
    """Return which generation a model version names, or None if it is not one of ours (some are numbers)."""
    match = _GENERATION.fullmatch(str(model_version))
    return int(match[1]) if match else None


class Row(NamedTuple):
    """Our one prediction of a task: its pre-annotation (a class index, -1 for none) and its score."""

    choice: int
    score: float


class Ledger:
    """The predictions that are in the project, as last listed and since written by us.

    Listing them costs Label Studio as much as several Submits. So what we know is kept for a while, in memory
    only: after a restart, an error, or a bulk import, which does not tell its rows' ids, they are listed anew.

    Parameters
    ----------
    background : Executor, optional
        Where bulk imports run, so that annotations are taken in meanwhile.
    """

    def __init__(self, background: Executor | None = None) -> None:
        self._predictions: dict[int, Json] = {}
        self._imported: list[Json] = []
        self._import: Future[None] | None = None
        self._life, self._filled_at = 0.0, -np.inf
        self._in_doubt = True  # an earlier process may have been killed
        self._background = background

    def is_stale(self, *, at_work: bool) -> bool:
        """Return whether the rows are to be listed anew; sooner while no annotator is at work."""
        life = self._life * (AT_WORK_LONGER if at_work else 1)
        return time.monotonic() >= self._filled_at + life

    @property
    def is_forgotten(self) -> bool:
        """Whether the rows are to be listed anew whatever the time."""
        return self._filled_at == -np.inf

    @property
    def has_imported(self) -> bool:
        """Whether rows were imported whose ids are not known."""
        return bool(self._imported)

    @property
    def n_under_way(self) -> int:
        """How many of the imported rows may not be there yet."""
        return len(self._imported) if self._import is not None else 0

    def predictions(self) -> list[Json]:
        return [*self._predictions.values(), *self._imported]

    def fill(self, predictions: Iterable[Json], *, seconds: float = 0.0) -> None:
        """Take in a listing that took so many seconds."""
        self._predictions = {prediction["id"]: prediction for prediction in predictions}
        self._imported = []
        self._filled_at, self._life = time.monotonic(), max(LEDGER_LIFE, LISTING_SHARE * seconds)

    def forget(self) -> None:
        self._filled_at = -np.inf

    def doubt(self) -> None:
        """Forget all after an error; a request that was cut off may still be under way in Label Studio."""
        self.forget()
        self._in_doubt = True

    def look_again(self) -> None:
        """List the rows once more after some were created in doubt: others may have come to stand beside them."""
        if self._in_doubt:
            self.forget()
            self._in_doubt = False

    def add(self, prediction: Json) -> None:
        self._predictions[prediction["id"]] = prediction

    def note(self, prediction_id: int, **values: Any) -> None:
        self._predictions[prediction_id].update(values)

    def import_(self, rows: list[Json], request: Callable[[list[Json]], None]) -> None:
        """Import rows by a request, in the background if there is one; until a listing they have no ids."""
        if self._background is None:
            request(rows)
        else:
            self._import = self._background.submit(request, rows)
        self._imported.extend({"id": None, **row} for row in rows)

    def settle(self) -> bool:
        """Return whether no import is under way; raises what the last one raised."""
        if self._import is not None and self._import.done():
            ended, self._import = self._import, None
            ended.result()
        return self._import is None


@dataclass(frozen=True)
class Patch:
    """A row that is there and differs from what it should be.

    ``place`` is the score with which it is asked, before or after the patch; 0 and more: it is not. ``moved`` tells
    how far its confidence moves; of another label, the confidence in both.
    """

    prediction_id: int
    task: int
    row: Row
    place: float
    moved: float


@dataclass(frozen=True)
class Left:
    """How many rows a pass left to be created and patched."""

    create: int
    patch: int

    @property
    def n(self) -> int:
        return self.create + self.patch


@dataclass(frozen=True)
class Plan:
    """What a pass would write, the most urgent first."""

    create: dict[int, Row]
    patch: list[Patch]
    retire: list[int]

    @property
    def n_writes(self) -> int:
        return len(self.create) + len(self.patch) + len(self.retire)


def desired_rows(snapshot: Snapshot) -> dict[int, Row]:
    """Return the rows that a snapshot wants, by task id, the queue first and then by rising confidence."""
    rows = np.flatnonzero(~np.isnan(snapshot.scores))
    order = rows[np.argsort(snapshot.scores[rows], kind="stable")]
    ids, shown, scores = (array[order].tolist() for array in (snapshot.task_ids, snapshot.shown, snapshot.scores))
    return dict(zip(ids, map(Row, shown, scores), strict=True))


def plan(
    desired: dict[int, Row],
    predictions: Iterable[Json],
    labeling: Labeling,
    *,
    generation: int,
    tolerance: float,
    affected: Collection[int] = (),
) -> Plan:
    """Compare the rows that should be with the predictions that are there.

    ``affected`` are the tasks that the newest answers moved most; their rows are urgent.
    """
    create, patches, retire = dict(desired), [], []
    results = {choice: labeling.result(choice) for choice in range(-1, len(labeling.classes))}
    seen: set[int] = set()
    for prediction in sorted(predictions, key=lambda prediction: prediction["id"] or np.inf):
        if generation_number(prediction["model_version"]) != generation:
            continue
        task_id = prediction["task"]
        if task_id in seen:
            if prediction["id"] is not None:
                retire.append(prediction["id"])
            continue
        seen.add(task_id)
        # Nothing is known of the task any more: an empty row, so that it is not asked first either.
        want = create.pop(task_id, Row(-1, 0.0))
        patch = _difference(want, results[want.choice], prediction, tolerance)
        if patch is not None and prediction["id"] is not None:
            patches.append(patch)
    return Plan(create, _by_urgency(patches, affected), retire)


def _difference(want: Row, result: list[Json], prediction: Json, tolerance: float) -> Patch | None:
    """Return the patch that makes a prediction what it should be; None if it is near enough."""
    there = prediction["score"] if prediction["score"] is not None else np.inf
    same_result = prediction["result"] == result
    moved, place = abs(want.score - there), min(want.score, there)
    if same_result and moved <= (_SAME if place < 0 else max(tolerance, _SAME)):
        return None
    return Patch(prediction["id"], prediction["task"], want, place, moved if same_result else want.score + there)


def _by_urgency(patches: list[Patch], affected: Collection[int]) -> list[Patch]:
    """Order patches: what is asked next, what is affected, the rest of the queue, what moved farthest."""
    queue = sorted((patch for patch in patches if patch.place < 0), key=lambda patch: patch.row.score)
    others = sorted((patch for patch in patches if patch.place >= 0), key=lambda patch: -patch.moved)
    return [
        *(patch for patch in queue if patch.place <= SOON),
        *(patch for patch in others if patch.task in affected),
        *(patch for patch in queue if patch.place > SOON),
        *(patch for patch in others if patch.task not in affected),
    ]


def apply(
    project: Project,
    snapshot: Snapshot,
    steps: Plan,
    ledger: Ledger,
    *,
    interrupted: Callable[[], bool] = lambda: False,
) -> Left:
    """Write a plan, what annotators see next first; return what is left because something newer came up."""
    if steps.n_writes:
        project.store.note(doing=f"writing {steps.n_writes} rows", pending_rows=steps.n_writes)
    queue, others = _to_create(project, snapshot, steps.create)
    soon = [row for row in queue if row["score"] <= SOON]
    _create(project, soon, ledger)
    n_urgent = _patch(project, snapshot, steps.patch[:URGENT], ledger, interrupted, urgent=True)
    _create(project, queue[len(soon) :], ledger)
    n_imported = _import(project, snapshot, others, ledger, interrupted)
    n_patched = n_urgent + _patch(project, snapshot, steps.patch[URGENT:], ledger, interrupted)
    for prediction_id in steps.retire:
        project.client.patch_prediction(prediction_id, model_version=generation_name(RETIRED))
        ledger.forget()
    left = Left(create=len(others) - n_imported + ledger.n_under_way, patch=len(steps.patch) - n_patched)
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
            project.store.note(pending_rows=len(patches) - n_done)
    return len(patches)


def _to_create(project: Project, snapshot: Snapshot, rows: dict[int, Row]) -> tuple[list[Json], list[Json]]:
    """Return the rows to create one by one, and those to import in bulk, as Label Studio takes them.

    The bulk import drops rows with a score below zero, without an error (seen in 1.23.2): the queue is created one
    by one, and first.
    """
    labeling, version = snapshot.facts.labeling, generation_name(snapshot.facts.generation)
    predictions: list[Json] = [
        {"task": id_, "result": labeling.result(row.choice), "score": row.score, "model_version": version}
        for id_, row in rows.items()
    ]
    queue = [prediction for prediction in predictions if prediction["score"] < 0]
    others = [prediction for prediction in predictions if prediction["score"] >= 0]
    return (queue + others, []) if len(others) <= FEW else (queue, others)


def _create(project: Project, rows: list[Json], ledger: Ledger) -> None:
    if rows:
        project.store.note(doing=f"queueing {len(rows)} tasks")
        with ThreadPoolExecutor(WRITERS) as writers:
            created = writers.map(lambda row: project.client.create_prediction(row | {"project": project.id}), rows)
            for prediction in created:
                ledger.add(prediction)
        ledger.look_again()


def _import(
    project: Project, snapshot: Snapshot, rows: list[Json], ledger: Ledger, interrupted: Callable[[], bool]
) -> int:
    """Import rows until something newer comes up or an import is under way; return how many."""
    start = 0
    while start < len(rows) and ledger.settle() and not (start and interrupted()):
        if len(rows) > SMALL_IMPORT and snapshot.facts.n_answered < WORTH_IMPORTING and is_at_work(project):
            return start
        project.store.note(doing=f"importing {len(rows) - start} rows", pending_rows=len(rows) - start)
        ledger.import_(rows[start : start + BULK], partial(_import_rows, project.client.another(), project.id))
        start = min(start + BULK, len(rows))
    if start == len(rows) and ledger.has_imported and ledger.settle():
        ledger.forget()
    return start


def _import_rows(client: Client, project_id: int, rows: list[Json]) -> None:
    try:
        client.import_predictions(project_id, rows)
    finally:
        client.close()
