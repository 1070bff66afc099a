"""Several files at once, so that no host makes the others wait.

A host gets two readers: more would crowd out the annotators where it is Label Studio. Two of all readers are kept
for hosts that have given a file already, so that any number of hosts that give none leaves these going. Readers
that still wait for a file when the time is up are left behind: each ends with its file's own deadline.
"""

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray

from exemplar.context import Project
from exemplar.errors import TaskDataError
from exemplar.features.images import decode
from exemplar.features.images.thumbnail import Thumbnail
from exemplar.labelstudio.tasks import Task
from exemplar.pacing import considerate

READERS = 8
PER_HOST = 2
FOR_PROVEN_HOSTS = 2
LOOK_EVERY = 0.1

Vector = NDArray[np.float32]


class Readers:
    """The readers of some tasks' images.

    Parameters
    ----------
    project : Project
    tasks : sequence of Task
        Each with an address.
    waited_for : bool
        Somebody waits for them: Label Studio's files are then read without pauses for annotators' sake.
    """

    def __init__(self, project: Project, tasks: Sequence[Task], *, waited_for: bool = False) -> None:
        self._project = project
        self._waited_for = waited_for
        self._waiting: dict[str, deque[Task]] = {}
        for task in tasks:
            self._waiting.setdefault(project.files.host(task.value or ""), deque()).append(task)
        self._n_left = len(tasks)
        self._started: dict[int, tuple[str, float]] = {}
        self._proven: set[str] = {""}  # what needs no host
        self._stopped = False
        self._changed = threading.Condition()
        self._done: queue.SimpleQueue[tuple[Task, Vector | Exception]] = queue.SimpleQueue()

    def results(
        self,
        *,
        until: float,
        patience: float = float("inf"),
        interrupted: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[Task, Vector | TaskDataError]]:
        """Yield each task with its vector, or with why there is none, as they come.

        It ends when all are read, at the time ``until`` (of ``time.monotonic``), when ``interrupted`` says so, or
        when nothing has come for so many seconds of ``patience`` after something had.
        """
        n_threads = min(READERS, sum(min(PER_HOST, len(tasks)) for tasks in self._waiting.values()))
        for _ in range(n_threads):
            threading.Thread(target=self._read_all, name="reader", daemon=True).start()
        came = None
        try:
            while self._n_left and time.monotonic() < until and not interrupted():
                try:
                    task, result = self._done.get(timeout=LOOK_EVERY)
                except queue.Empty:
                    if came is not None and time.monotonic() - came >= patience:
                        return
                    continue
                self._n_left -= 1
                if isinstance(result, Exception) and not isinstance(result, TaskDataError):
                    raise result
                if not isinstance(result, TaskDataError):
                    came = time.monotonic()
                yield task, result
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()

    def waiting_since(self) -> dict[int, float]:
        """Return the tasks whose file has begun and not come, and for how many seconds it was waited for."""
        with self._changed:
            now = time.monotonic()
            return {task_id: now - started for task_id, (_, started) in self._started.items()}

    def _read_all(self) -> None:
        while (found := self._next()) is not None:
            host, task = found
            try:
                result: Vector | Exception = self._read(host, task)
            except Exception as error:  # a reader's boundary: who asked gets it
                result = error
            with self._changed:
                self._started.pop(task.id, None)
                if not isinstance(result, Exception):
                    self._proven.add(host)
                self._changed.notify_all()
            self._done.put((task, result))

    def _read(self, host: str, task: Task) -> Vector:
        address = task.value or ""
        polite = self._project.files.is_own(address) and not self._waited_for
        pause = considerate(self._project, interrupted=lambda: self._stopped) if polite else nullcontext()
        with pause:
            with self._changed:
                self._started[task.id] = (host, time.monotonic())
            file = self._project.files.read(address)
        with file:
            vector: Vector = Thumbnail().transform([decode(file)])[0]
            return vector

    def _next(self) -> tuple[str, Task] | None:
        with self._changed:
            while not self._stopped and self._waiting:
                host = self._free_host()
                if host is not None:
                    tasks = self._waiting[host]
                    task = tasks.popleft()
                    if not tasks:
                        del self._waiting[host]
                    self._started[task.id] = (host, time.monotonic())
                    return host, task
                self._changed.wait()
            return None

    def _free_host(self) -> str | None:
        """Return whose file to read next: of a host that has given one, or the host with the most files."""
        busy = Counter(host for host, _ in self._started.values())
        free = [host for host in self._waiting if busy[host] < PER_HOST]
        proven = [host for host in free if host in self._proven]
        if proven:
            return min(proven, key=lambda host: busy[host])
        n_unproven = sum(n for host, n in busy.items() if host not in self._proven)
        if n_unproven >= READERS - FOR_PROVEN_HOSTS:
            return None
        return max(free, key=lambda host: len(self._waiting[host]), default=None)
