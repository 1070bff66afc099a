"""How right we are, said honestly: audits, agreement, answers worth a second look, and whether to go on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.engine import (
    UNLABELED,
    Checkpoint,
    Columns,
    Geometry,
    Inference,
    advice,
    agreement,
    conflicts,
    estimate_accuracy,
    fixed_sample,
    is_due,
    leave_one_out_rate,
    node_shares,
    reliability,
    suspects,
)
from exemplar.labelstudio.tasks import Task
from exemplar.project.audits import FROZEN, SEEN
from exemplar.project.learn import Answers, Learned
from exemplar.store.audit_log import AuditEntry

# An answer is named if what the others say speaks three to one for another class, and some of them gave its own.
# So it is with 1 in 100 truthful answers to digits (of 1 in 10, they speak for another class at all), with 9 in 10
# wrong ones, and with 1 in 10 truthful answers of 77 classes that are hard to tell apart.
LEAST_SHARE, LEAST_FELLOWS = 0.75, 2
# So many of these are named, and so many checkpoints kept.
N_SECOND_LOOKS = 20
N_CHECKPOINTS = 4
# Checkpoints compare so many tasks.
SAMPLE_SIZE = 2000
POPULATION = "tasks of this project, drawn at random"
NEAR_DUPLICATES_ONCE = ", near-duplicates counted once"
Json = dict[str, Any]


@dataclass(frozen=True)
class Honesty:
    """What a snapshot says of itself; ``said`` is JSON, ``checkpoints`` what stopping advice compares."""

    said: Json
    checkpoints: tuple[Checkpoint, ...]


def be_honest(
    tasks: Sequence[Task],
    geometry: Geometry,
    answers: Answers,
    learned: Learned,
    log: list[AuditEntry],
    checkpoints: tuple[Checkpoint, ...],
    *,
    classes: Sequence[str],
    generation: str,
    accepting: Json | None = None,
    duplicates_once: bool = False,
) -> Honesty:
    """Report on what was learned; all numbers are rounded, for people read them.

    With ``duplicates_once``, near-duplicates had one chance to be drawn as audits.

    ``log`` is the audit log, ``accepting`` what the accept rule says. A model of the neighbour graph is asked for
    each audit without the audit's own answer; the estimate for any other is of what was predicted before.
    """
    found = learned.inference
    Y = node_shares(geometry, answers.shares)[found.columns.nodes]
    checkpoints = _continued(checkpoints, tasks, answers, learned)
    population = POPULATION + NEAR_DUPLICATES_ONCE * duplicates_once
    said = {
        "accuracy": _accuracy(tasks, answers, log, _without_own_answer(geometry, found), generation, population),
        "leave_one_out": leave_one_out_rate(found.left_out, Y.argmax(axis=1)),
        "acceptance": accepting,
        "agreement": _agreement(tasks, answers, log),
        "second_look": _second_look(geometry, tasks, found.columns, Y, classes),
        "conflicts": len(conflicts(geometry.clustering.cluster_ids, answers.y)),
        "advice": asdict(advice(checkpoints)),
    }
    return Honesty(_rounded(said), checkpoints)


def _without_own_answer(geometry: Geometry, found: Inference) -> NDArray[np.intp] | None:
    """Return what the current model says of each answered task without its own answer, UNLABELED for all others.

    None if the model cannot be asked that.
    """
    if not found.by_graph:
        return None
    q = found.left_out
    by_node = np.full(len(geometry.graph.rows), UNLABELED)
    by_node[found.columns.nodes] = np.where(q.any(axis=1), q.argmax(axis=1), UNLABELED)
    return by_node[geometry.graph.node_of]


def _accuracy(
    tasks: Sequence[Task],
    answers: Answers,
    entries: list[AuditEntry],
    without_own: NDArray[np.intp] | None,
    generation: str,
    population: str,
) -> Json:
    frozen = {entry.task: entry for entry in entries if entry.kind == FROZEN}
    rows = np.array([row for row in answers.annotated if tasks[row].id in frozen], np.intp)
    before = np.array([frozen[tasks[row].id].choice for row in rows], np.intp)
    answered = answers.y[rows]
    # A skipped audit trained nothing; the estimate counts it as unknown whatever was predicted.
    predicted = before if without_own is None else without_own[rows]
    found = estimate_accuracy(predicted, answered, population=population, generation=generation)
    said = asdict(found) | {"rate": found.rate if found.is_shown else None, "is_shown": found.is_shown}
    if found.is_shown:
        known = answered != UNLABELED
        confidence = np.array([frozen[tasks[row].id].confidence for row in rows])
        table = reliability(confidence[known], (before == answered)[known])
        said["calibration_error"] = table.error
        bins = zip(table.n.tolist(), table.confidence.tolist(), table.accuracy.tolist(), strict=True)
        said["reliability"] = [{"n": n, "confidence": confidence, "right": right} for n, confidence, right in bins]
    return said


def _agreement(tasks: Sequence[Task], answers: Answers, entries: list[AuditEntry]) -> Json:
    shown = {entry.task: entry.choice for entry in entries if entry.kind == SEEN}
    rows = [row for row in answers.annotated if tasks[row].id in shown]
    found = agreement(np.array([shown[tasks[row].id] for row in rows], np.intp), answers.y[rows])
    return asdict(found)


def _second_look(
    geometry: Geometry, tasks: Sequence[Task], columns: Columns, Y: NDArray[np.float32], classes: Sequence[str]
) -> list[Json]:
    """Return the answers that differ from those near them, the surest first; ``share`` says how sure."""
    found = suspects(columns.among_labeled(), Y, least_share=LEAST_SHARE, least_fellows=LEAST_FELLOWS)
    task_of = [tasks[row].id for row in geometry.graph.rows[columns.nodes].tolist()]
    return [
        {
            "task": task_of[one.label],
            "answer": classes[int(Y[one.label].argmax())],
            "others_say": classes[one.suggestion],
            "share": one.share,
            "others": [task_of[witness] for witness in one.witnesses.tolist()],
        }
        for one in found[:N_SECOND_LOOKS]
    ]


def _continued(
    checkpoints: tuple[Checkpoint, ...], tasks: Sequence[Task], answers: Answers, learned: Learned
) -> tuple[Checkpoint, ...]:
    """Return the checkpoints, with one of now if it is time; none of another pool or of more labels than now."""
    n_labels = int(np.count_nonzero(answers.y != UNLABELED))
    if n_labels == 0:
        return ()
    last = checkpoints[-1] if checkpoints else None
    if last is not None and (len(last.predictions) != min(SAMPLE_SIZE, len(tasks)) or last.n_labels > n_labels):
        checkpoints, last = (), None
    if not is_due(last, n_labels):
        return checkpoints
    predictions = learned.choices[fixed_sample([str(task.id) for task in tasks], SAMPLE_SIZE)].astype(np.intp)
    expected = np.where(answers.y != UNLABELED, 1.0, learned.inference.distributions.max(axis=1))
    return (*checkpoints, Checkpoint(n_labels, predictions, float(expected.mean())))[-N_CHECKPOINTS:]


def _rounded(said: Any) -> Any:
    """Return the same with all numbers as people read them: six decimals, and nothing for what is unknown (NaN)."""
    if isinstance(said, dict):
        return {name: _rounded(value) for name, value in said.items()}
    if isinstance(said, list | tuple):
        return [_rounded(value) for value in said]
    if isinstance(said, float):
        return None if np.isnan(said) else round(float(said), 6)
    return said
