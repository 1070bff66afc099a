"""What should stand in Label Studio against what does: create what is missing, patch what differs."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from exemplar.labelstudio.label_config import Labeling
from exemplar.rows.generation import generation_number
from exemplar.rows.scores import NOTHING_KNOWN, SAME, is_asked, is_asked_soon
from exemplar.store.snapshot import Snapshot

# A confidence that moved by less is not worth a request. A full refresh is exact.
TOLERANCE = 0.05
Json = dict[str, Any]


class Row(NamedTuple):
    """Our one prediction of a task: its pre-annotation (a class index, -1 for none) and its score."""

    choice: int
    score: float


# A task of which nothing is known: not asked first either.
NOTHING = Row(-1, NOTHING_KNOWN)


@dataclass(frozen=True)
class Patch:
    """A row that is there and differs from what it should be.

    ``place`` is the lower of its scores before and after the patch: it may be a place in the queue. ``moved`` tells
    how far its confidence moves; of another label, the confidence in both.
    """

    prediction_id: int
    task: int
    row: Row
    place: float
    moved: float


@dataclass(frozen=True)
class Plan:
    """What a pass would write, the most urgent first."""

    create: dict[int, Row]
    patch: list[Patch]
    retire: list[int]

    @property
    def n_writes(self) -> int:
        """Return how many rows the plan writes."""
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
        want = create.pop(task_id, NOTHING)
        patch = _difference(want, results[want.choice], prediction, tolerance)
        if patch is not None and prediction["id"] is not None:
            patches.append(patch)
    return Plan(create, _by_urgency(patches, affected), retire)


def _difference(want: Row, result: list[Json], prediction: Json, tolerance: float) -> Patch | None:
    """Return the patch that makes a prediction what it should be; None if it is near enough."""
    there = prediction["score"] if prediction["score"] is not None else np.inf
    same_result = prediction["result"] == result
    moved, place = abs(want.score - there), min(want.score, there)
    if same_result and moved <= (SAME if is_asked(place) else max(tolerance, SAME)):
        return None
    return Patch(prediction["id"], prediction["task"], want, place, moved if same_result else want.score + there)


def _by_urgency(patches: list[Patch], affected: Collection[int]) -> list[Patch]:
    """Order patches: what is asked next, what is affected, the rest of the queue, what moved farthest."""
    queue = sorted((patch for patch in patches if is_asked(patch.place)), key=lambda patch: patch.row.score)
    others = sorted((patch for patch in patches if not is_asked(patch.place)), key=lambda patch: -patch.moved)
    return [
        *(patch for patch in queue if is_asked_soon(patch.place)),
        *(patch for patch in others if patch.task in affected),
        *(patch for patch in queue if not is_asked_soon(patch.place)),
        *(patch for patch in others if patch.task not in affected),
    ]
