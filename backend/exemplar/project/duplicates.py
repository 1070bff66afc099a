"""Which tasks of a project are near-duplicates: told by their signatures, before any answer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.context import Project
from exemplar.engine import labelled_together
from exemplar.features.signatures import Print, same_pictures, same_texts, text_keys
from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.tasks import Task
from exemplar.project.pool import Pool
from exemplar.project.rounds import Keys
from exemplar.project.views import View
from exemplar.store.snapshot import DuplicatesFound, Snapshot


@dataclass(frozen=True)
class Duplicates:
    """The signatures of tasks, and the first row of each one's group."""

    signatures: NDArray[Any]
    leaders: NDArray[np.int32]


def find_duplicates(
    project: Project, view: View, pool: Pool, before: Snapshot | None, fresh: Mapping[int, Keys]
) -> Duplicates:
    """Group the tasks of a pool by what they show in a view; what ``before`` knows is taken from there."""
    if before is not None and pool.geometry is before.geometry:
        return Duplicates(before.signatures, before.leaders)
    if view.kind == "text":
        signatures = np.zeros((len(pool.tasks), 2), np.uint64)
        new = _take_known(signatures, pool.tasks, before)
        signatures[new] = text_keys([view.value(pool.tasks[row]) for row in new])
        return Duplicates(signatures, same_texts(signatures))
    if view.kind == "image":
        signatures = np.zeros((len(pool.tasks), Print.n_features), np.uint8)
        new = _take_known(signatures, pool.tasks, before)
        prints = np.zeros((len(new), Print.n_features), np.float32)
        project.vectors.read(Print.identity, [fresh[pool.tasks[row].id][view.name] for row in new], prints)
        signatures[new] = np.rint(255 * prints)
        return Duplicates(signatures, same_pictures(np.asarray(signatures / 255, np.float32)))
    return Duplicates(np.zeros((len(pool.tasks), 0), np.uint8), np.arange(len(pool.tasks), dtype=np.int32))


def _take_known(signatures: NDArray[Any], tasks: Sequence[Task], before: Snapshot | None) -> list[int]:
    """Take over what the last snapshot knows of tasks whose data is the same; return the rows of the others."""
    if before is None or before.signatures.dtype != signatures.dtype:
        return list(range(len(tasks)))
    new = []
    for row, task in enumerate(tasks):
        known, row_before = before.by_id.get(task.id), before.row(task.id)
        if known is not None and row_before is not None and known.digest == task.digest:
            signatures[row] = before.signatures[row_before]
        else:
            new.append(row)
    return new


def counted(leaders: NDArray[np.int32], y: NDArray[np.intp], *, used: bool) -> DuplicatesFound:
    """Return how many groups there are, of how many tasks, and in how many the answers differ."""
    sizes = np.bincount(leaders)
    sizes = sizes[sizes > 1]
    differ = labelled_together(leaders, y).differ
    return DuplicatesFound(groups=len(sizes), tasks=int(sizes.sum()), differ=len(differ), used=used)


def groups(snapshot: Snapshot) -> Iterator[list[Task]]:
    """Yield the groups of near-duplicates: those whose answers differ, then the largest first."""
    order = np.argsort(snapshot.leaders, kind="stable")
    starts = np.flatnonzero(np.diff(snapshot.leaders[order], prepend=-1))
    found = [
        [snapshot.by_id[int(snapshot.task_ids[row])] for row in rows.tolist()]
        for rows in np.split(order, starts[1:])
        if len(rows) > 1
    ]
    labeling = snapshot.facts.labeling
    yield from sorted(found, key=lambda tasks: (not differs(tasks, labeling), -len(tasks), tasks[0].id))


def differs(tasks: Sequence[Task], labeling: Labeling) -> bool:
    """Return whether tasks have been answered differently."""
    return len({task.answer(labeling) for task in tasks} - {-1}) > 1
