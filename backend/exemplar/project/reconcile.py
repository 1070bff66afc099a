"""The rows in Label Studio brought in line with a snapshot: create what is missing, patch what differs.

There is no log of operations: every pass compares what should be with what is there, so a crash anywhere is
healed by the next pass. No row is ever deleted here, because deleting one under an open task makes that
annotator's Submit fail; of two rows for one task the newer is renamed to the generation that nobody shows.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from exemplar.labelstudio.label_config import Labeling
from exemplar.project.context import Project, considerate
from exemplar.store.snapshot import Snapshot

logger = logging.getLogger(__name__)

# Up to here rows are created one by one; a bulk import makes Label Studio recount all tasks of the project.
FEW = 5
# So many threads create them: Label Studio takes no more at a time.
WRITERS = 4
# A bulk import is one request; this many rows keep it well below Label Studio's and proxies' time limits.
BULK = 5000
# A confidence that moved by less is not worth a request. A full refresh is exact.
TOLERANCE = 0.05
# What is known of the rows is believed for so many seconds, or so many times as long as listing them took.
LEDGER_LIFE = 60.0
LISTING_SHARE = 50.0

# Scores are told apart down to here; neighbours in a queue of a million are 1e-12 apart.
_SAME = 1e-13

RETIRED = 0
_GENERATION = re.compile(r"exemplar-(0|[1-9][0-9]*)")


def generation_name(generation: int) -> str:
    """Return the model version under which a generation's rows stand."""
    return f"exemplar-{generation}"


def generation_number(model_version: object) -> int | None:
    """Return which generation a model version names, or None if it is not one of ours (some are numbers)."""
    match = _GENERATION.fullmatch(str(model_version))
    return int(match[1]) if match else None


@dataclass(frozen=True)
class Row:
    """Our one prediction of a task: its pre-annotation (a class index, -1 for none) and its score."""

    choice: int
    score: float


class Ledger:
    """The predictions that are in the project, as last listed and since written by us.

    Listing them costs Label Studio as much as several Submits. So what we know is kept for a while, in memory
    only: after a restart, an error, or rows that were created, they are listed anew.
    """

    def __init__(self) -> None:
        self._predictions: dict[int, dict[str, Any]] = {}
        self._stale_at = -np.inf

    @property
    def is_stale(self) -> bool:
        return time.monotonic() >= self._stale_at

    def predictions(self) -> list[dict[str, Any]]:
        return list(self._predictions.values())

    def fill(self, predictions: Iterable[dict[str, Any]], *, seconds: float = 0.0) -> None:
        """Take in a listing that took so many seconds."""
        self._predictions = {prediction["id"]: prediction for prediction in predictions}
        self._stale_at = time.monotonic() + max(LEDGER_LIFE, LISTING_SHARE * seconds)

    def forget(self) -> None:
        self._stale_at = -np.inf

    def note(self, prediction_id: int, **values: Any) -> None:
        self._predictions[prediction_id].update(values)


@dataclass(frozen=True)
class Patch:
    """A row that is there and differs from what it should be."""

    prediction_id: int
    row: Row
    urgency: tuple[int, float]


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
    return {
        int(snapshot.task_ids[row]): Row(int(snapshot.shown[row]), float(snapshot.scores[row])) for row in order
    }


def plan(
    desired: dict[int, Row],
    predictions: Iterable[dict[str, Any]],
    labeling: Labeling,
    *,
    generation: int,
    tolerance: float,
) -> Plan:
    """Compare the rows that should be with the predictions that are there."""
    create, patches, retire = dict(desired), [], []
    seen: set[int] = set()
    for prediction in sorted(predictions, key=lambda prediction: prediction["id"]):
        if generation_number(prediction["model_version"]) != generation:
            continue
        task_id = prediction["task"]
        if task_id in seen:
            retire.append(prediction["id"])
            continue
        seen.add(task_id)
        # Nothing is known of the task any more: an empty row, so that it is not asked first either.
        want = create.pop(task_id, Row(-1, 0.0))
        urgency = _difference(want, prediction, labeling, tolerance)
        if urgency is not None:
            patches.append(Patch(prediction["id"], want, urgency))
    return Plan(create, sorted(patches, key=lambda patch: patch.urgency), retire)


def _difference(
    want: Row, prediction: dict[str, Any], labeling: Labeling, tolerance: float
) -> tuple[int, float] | None:
    """Return how urgent it is to patch: the queue first, then changed labels, then moved confidences."""
    there = prediction["score"] if prediction["score"] is not None else np.inf
    same_result = prediction["result"] == labeling.result(want.choice)
    moved = abs(want.score - there)
    queued = want.score < 0 or there < 0
    if same_result and moved <= (_SAME if queued else max(tolerance, _SAME)):
        return None
    if queued and moved > _SAME:
        return 0, want.score
    return (1, want.score) if not same_result else (2, -moved)


def apply(
    project: Project,
    snapshot: Snapshot,
    steps: Plan,
    ledger: Ledger,
    *,
    interrupted: Callable[[], bool] = lambda: False,
) -> int:
    """Write a plan; return how many writes are left because something newer came up."""
    if steps.create or steps.retire:
        ledger.forget()
    _create(project, snapshot, steps.create)
    left = len(steps.patch)
    for n_done, patch in enumerate(steps.patch):
        if n_done > 0 and interrupted():  # one patch a pass at least, however fast annotations come in
            break
        values = {"result": snapshot.facts.labeling.result(patch.row.choice), "score": patch.row.score}
        with considerate(project, interrupted=interrupted):
            project.client.patch_prediction(patch.prediction_id, **values)
        ledger.note(patch.prediction_id, **values)
        left -= 1
        if n_done % 20 == 0:
            project.store.note(pending_rows=left)
    for prediction_id in steps.retire:
        project.client.patch_prediction(prediction_id, model_version=generation_name(RETIRED))
    project.store.note(pending_rows=left)
    return left


def _create(project: Project, snapshot: Snapshot, rows: dict[int, Row]) -> None:
    facts = snapshot.facts
    predictions: list[dict[str, Any]] = [
        {
            "task": task_id,
            "result": facts.labeling.result(row.choice),
            "score": row.score,
            "model_version": generation_name(facts.generation),
        }
        for task_id, row in rows.items()
    ]
    # The bulk import drops rows with a score below zero, without an error (seen in 1.23.2): the queue is
    # created one by one, and first.
    queue = [prediction for prediction in predictions if prediction["score"] < 0]
    others = [prediction for prediction in predictions if prediction["score"] >= 0]
    if len(others) <= FEW:
        queue, others = queue + others, []
    if queue:
        project.store.note(doing=f"queueing {len(queue)} tasks")
        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(lambda row: project.client.create_prediction(row | {"project": project.id}), queue))
    for start in range(0, len(others), BULK):
        project.store.note(doing=f"importing {len(others)} rows")
        project.client.import_predictions(project.id, others[start : start + BULK])
