"""Vectors of tasks that no pool has, for somebody who waits: by the snapshot's own blocks, until a deadline."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from exemplar.context import Project
from exemplar.errors import EmbedderError, NotNowError, TaskDataError
from exemplar.features import Block, Embedder, Vectors, columns_of, content_key_of, decoder, key_of, put
from exemplar.labelstudio.tasks import Task
from exemplar.project.embedding import embedded, same_embedder
from exemplar.project.own_vectors import is_own, rows_of_own
from exemplar.project.readers import Readers
from exemplar.project.reading import nothing_to_read
from exemplar.project.rounds import Item
from exemplar.project.views import View
from exemplar.store.snapshot import Snapshot

# Values that are read from files are embedded as they come, so many at once.
FILES_AT_ONCE = 16


def embed_now(
    project: Project, snapshot: Snapshot, tasks: Sequence[Task], *, until: float
) -> tuple[list[int], Vectors, dict[int, str]]:
    """Return the ids of the tasks that have vectors in time, these, and for the others why not.

    Vectors that are kept are taken; none is kept, which is the worker's part.
    """
    blocks = snapshot.facts.blocks
    if is_own(blocks):
        return rows_of_own(blocks, tasks)
    left_out = nothing_to_read(snapshot.facts.labeling, tasks)
    wanted = [task for task in tasks if task.id not in left_out]
    X = np.zeros((len(wanted), snapshot.geometry.X.shape[1]), np.float32)
    try:
        for view in dict.fromkeys(View(block.view, block.field, block.kind) for block in blocks):
            seen = _Seen(project, snapshot, [block for block in blocks if block.view == view.name], X)
            left_out |= seen.fill(view, wanted, until=until)
    except EmbedderError as error:
        left_out |= dict.fromkeys((task.id for task in wanted), str(error))
    whole = [row for row, task in enumerate(wanted) if task.id not in left_out]
    return [wanted[row].id for row in whole], X[whole], left_out


class _Seen:
    """What the blocks of one view make of values, in rows of X."""

    def __init__(self, project: Project, snapshot: Snapshot, blocks: Sequence[Block], X: Vectors) -> None:
        self._project = project
        self._snapshot = snapshot
        self._blocks = blocks
        self._columns = dict(zip(snapshot.facts.blocks, columns_of(snapshot.facts.blocks), strict=True))
        self._given = {block: same_embedder(block) for block in blocks if block.name not in snapshot.models}
        self._X = X

    def fill(self, view: View, tasks: Sequence[Task], *, until: float) -> dict[int, str]:
        """Fill in the rows of tasks; return why some are not."""
        rows = {task.id: row for row, task in enumerate(tasks)}
        make = decoder(view.kind)
        left_out: dict[int, str] = {}
        came = self._values(view, tasks) if make is None else self._files(view, tasks, make, until=until)
        done = set()
        for some in came:
            failed = {task.id: str(value) for task, _, value in some if isinstance(value, TaskDataError)}
            items = [item for item in some if item[0].id not in failed]
            failed |= self._embed(items, [rows[task.id] for task, _, _ in items], until=until)
            done |= {task.id for task, _, _ in some}
            left_out |= failed
            if time.monotonic() >= until:
                break
        late = "its file did not come in time" if make else "it could not be embedded in time"
        return left_out | dict.fromkeys(rows.keys() - done, late)

    def _values(self, view: View, tasks: Sequence[Task]) -> Iterator[list[Item]]:
        at_once = min((one.batch_size for one in self._given.values()), default=max(1, len(tasks)))
        for first in range(0, len(tasks), at_once):
            some = [(task, view.value(task)) for task in tasks[first : first + at_once]]
            yield [(task, key_of(value), value) for task, value in some]

    def _files(
        self, view: View, tasks: Sequence[Task], make: Callable[[BinaryIO], Any], *, until: float
    ) -> Iterator[list[Item]]:
        def read(file: BinaryIO) -> tuple[bytes, Any]:
            return content_key_of(file), make(file)

        addresses = [(task, view.value(task)) for task in tasks]
        readers = Readers(self._project, addresses, read, waited_until=until)
        for some in readers.results(until=until, at_once=FILES_AT_ONCE):
            yield [
                (task, b"", result) if isinstance(result, TaskDataError) else (task, *result)
                for task, result in some
            ]

    def _embed(self, items: Sequence[Item], rows: Sequence[int], *, until: float) -> dict[int, str]:
        """Put the vectors of some values into their rows; return by task id why some have none."""
        if not items:
            return {}
        failed: dict[int, str] = {}
        for block in self._blocks:
            if block in self._given:
                vectors, why = self._vectors(self._given[block], items, until=until)
                failed |= {items[position][0].id: str(error) for position, error in why.items()}
            else:
                vectors = self._snapshot.pool_models[block.name].transform([value for _, _, value in items])
            put(self._X, np.array(rows), block, self._columns[block], vectors)
        return failed

    def _vectors(
        self, one: Embedder, items: Sequence[Item], *, until: float
    ) -> tuple[Vectors, dict[int, TaskDataError]]:
        """Return the vectors of some values, kept ones if there are; and by position why some have none."""
        X = np.zeros((len(items), one.n_features), np.float32)
        kept = self._project.vectors.read(one.identity, [key for _, key, _ in items], X)
        failed: dict[int, TaskDataError] = {}
        left = np.flatnonzero(~kept)
        for first in range(0, len(left), one.batch_size):
            some = left[first : first + one.batch_size].tolist()
            try:
                X[some], why = embedded(one, [items[position][2] for position in some], until=until)
            except NotNowError as error:
                why = dict.fromkeys(range(len(some)), error)
            failed |= {some[position]: error for position, error in why.items()}
        return X, failed
