"""A round of embedding: some seconds in which values are read, embedded and kept, so that none ever is again."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from exemplar.context import Project
from exemplar.errors import TaskDataError
from exemplar.features import Embedder, content_key_of, decoder, key_of
from exemplar.labelstudio.tasks import Task
from exemplar.project.embedding import embedded
from exemplar.project.readers import Readers
from exemplar.project.views import Sight, View

# Values that stand in tasks are embedded so many at once that it takes about this many seconds.
AT_ONCE_SECONDS = 0.4
MOST_AT_ONCE = 4096

Keys = dict[str, bytes]
"""The key of a task's value in each view, by the view's name."""
Item = tuple[Task, bytes, Any]


def kept_keys(project: Project, sight: Sight, whose: str, tasks: Sequence[Task]) -> dict[int, Keys]:
    """Return by task id the keys of those values whose vectors are kept."""
    found: dict[int, Keys] = {task.id: {} for task in tasks}
    for view in sight.views:
        keys = _keys(project, view, whose, tasks)
        known = [(task, key) for task, key in zip(tasks, keys, strict=True) if key is not None]
        there = _are_kept(project, sight.given(view), [key for _, key in known])
        for (task, key), is_there in zip(known, there, strict=True):
            if is_there:
                found[task.id][view.name] = key
    return found


def _keys(project: Project, view: View, whose: str, tasks: Sequence[Task]) -> Sequence[bytes | None]:
    if decoder(view.kind) is None:
        return [key_of(view.value(task)) for task in tasks]
    return project.vectors.contents(whose, [view.value(task) for task in tasks])


def _are_kept(project: Project, embedders: Iterable[Embedder], keys: Sequence[bytes]) -> NDArray[np.bool_]:
    there = np.ones(len(keys), bool)
    for one in embedders:
        there &= project.vectors.has(one.identity, one.n_features, keys)
    return there


class Round:
    """What is embedded until a time, or until somebody else is waiting.

    Parameters
    ----------
    project : Project
    sight : Sight
    whose : str
        Whose files the addresses name.
    keys : dict of int to Keys
        What is kept already; it grows.
    until : float
        Of ``time.monotonic``.
    interrupted : callable
    on_progress : callable
        Is told how many tasks were done.

    Attributes
    ----------
    failed : dict of int to TaskDataError
        By task id, why one has no vector.
    late : dict of int to float
        By task id, for how many seconds a host has been asked for a file that it has not given.
    """

    def __init__(
        self,
        project: Project,
        sight: Sight,
        whose: str,
        keys: dict[int, Keys],
        *,
        until: float,
        interrupted: Callable[[], bool] = lambda: False,
        on_progress: Callable[[int], None] = lambda n: None,
    ) -> None:
        self._project, self._sight, self._whose = project, sight, whose
        self._keys = keys
        self._until, self._interrupted, self._on_progress = until, interrupted, on_progress
        self.failed: dict[int, TaskDataError] = {}
        self.late: dict[int, float] = {}
        self._n_done = 0

    def run(self, tasks: Sequence[Task], *, patience: float, late: float) -> None:
        """Embed what the tasks show and is not kept; what takes no reading first. So long makes a file ``late``."""
        for view in sorted(self._sight.views, key=lambda view: decoder(view.kind) is not None):
            wanted = [task for task in tasks if view.name not in self._keys[task.id]]
            make = decoder(view.kind)
            if not wanted or self._is_over():
                continue
            if make is None:
                self._embed_values(view, wanted)
            else:
                self._embed_files(view, wanted, make, patience=patience, late=late)

    def _is_over(self) -> bool:
        return time.monotonic() >= self._until or self._interrupted()

    def _embed_values(self, view: View, tasks: Sequence[Task]) -> None:
        """Embed what stands in the tasks themselves."""
        at_once = max((one.batch_size for one in self._sight.given(view)), default=MOST_AT_ONCE)
        first = 0
        while first < len(tasks) and not self._is_over():
            started = time.monotonic()
            some = [(task, view.value(task)) for task in tasks[first : first + at_once]]
            self._keep(view, [(task, key_of(value), value) for task, value in some])
            first += at_once
            took = time.monotonic() - started
            at_once = max(1, min(2 * at_once, MOST_AT_ONCE, round(at_once * AT_ONCE_SECONDS / max(took, 1e-6))))

    def _embed_files(
        self, view: View, tasks: Sequence[Task], make: Callable[[BinaryIO], Any], *, patience: float, late: float
    ) -> None:
        """Embed what the tasks' files hold, as they come."""
        embedders = self._sight.given(view)

        def read(file: BinaryIO) -> tuple[bytes, Any]:
            key = content_key_of(file)
            return key, None if _are_kept(self._project, embedders, [key]).all() else make(file)

        readers = Readers(self._project, [(task, view.value(task)) for task in tasks], read)
        at_once = max(one.batch_size for one in embedders)
        results = readers.results(
            until=self._until, at_once=at_once, patience=patience, interrupted=self._interrupted
        )
        for some in results:
            self.failed |= {task.id: result for task, result in some if isinstance(result, TaskDataError)}
            items = [(task, *result) for task, result in some if not isinstance(result, TaskDataError)]
            self._keep(view, items)
            held = {view.value(task): key for task, key, _ in items}
            self._project.vectors.note_contents(self._whose, held)
        self.late |= readers.late(late)

    def _keep(self, view: View, items: Sequence[Item]) -> None:
        """Embed and keep some values, unless they are kept already."""
        failed: dict[bytes, TaskDataError] = {}
        values = {key: value for _, key, value in items}
        for one in self._sight.given(view):
            lacking = ~self._project.vectors.has(one.identity, one.n_features, list(values))
            keys = [
                key for key, is_lacking in zip(values, lacking, strict=True) if is_lacking and key not in failed
            ]
            failed |= self._embed(one, {key: values[key] for key in keys if values[key] is not None})
        for task, key, _ in items:
            if key in failed:
                self.failed[task.id] = failed[key]
            else:
                self._keys[task.id][view.name] = key
        self._n_done += len(items)
        self._on_progress(self._n_done)

    def _embed(self, one: Embedder, values: Mapping[bytes, Any]) -> dict[bytes, TaskDataError]:
        """Embed values and keep their vectors; return why some have none."""
        failed: dict[bytes, TaskDataError] = {}
        left = list(values.items())
        for first in range(0, len(left), one.batch_size):
            some = left[first : first + one.batch_size]
            X, why = embedded(one, [value for _, value in some])
            whole = [position for position in range(len(some)) if position not in why]
            self._project.vectors.add(one.identity, [some[position][0] for position in whole], X[whole])
            failed |= {some[position][0]: error for position, error in why.items()}
        return failed
