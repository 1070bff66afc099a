"""Several files at once, so that no host makes the others wait.

A host gets two readers: more would crowd out the annotators where it is Label Studio. Two of all readers are kept
for hosts that have given a file already, so that any number of hosts that give none leaves these going. Readers
that still wait for a file when the time is up are left behind: each ends with its file's own deadline. What they
have read waits for whoever embeds it, and so do they when there is too much of it.

What a host takes counts from when it is asked to when the file is there. Pauses for annotators' sake come before
that, and decoding comes after it: neither is the host's.
"""

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import BinaryIO, Generic, TypeVar

from exemplar.context import Project
from exemplar.errors import TaskDataError
from exemplar.labelstudio.tasks import Task
from exemplar.pacing import considerate

READERS = 8
PER_HOST = 2
FOR_PROVEN_HOSTS = 2
LOOK_EVERY = 0.1
# When nobody can wait any longer, what failed at that very moment is still heard of: its host is left alone then.
LAST_WORDS = 1.0
# So many files at most have been read and wait to be taken.
WAITING = 64

T = TypeVar("T")


@dataclass
class _Reading:
    """A file on its way: when its host was asked for it, once it was, and whether it has come."""

    host: str
    asked_at: float | None = None
    came: bool = False


class Readers(Generic[T]):
    """The readers of some tasks' files.

    Parameters
    ----------
    project : Project
    addresses : sequence of (Task, str)
        The tasks, and where the file of each lies.
    read : callable
        What is made of a file.
    waited_until : float, optional
        Somebody waits for them until then (of ``time.monotonic``): Label Studio's files are read without pauses for
        annotators' sake, and no file for longer.
    """

    def __init__(
        self,
        project: Project,
        addresses: Sequence[tuple[Task, str]],
        read: Callable[[BinaryIO], T],
        *,
        waited_until: float | None = None,
    ) -> None:
        self._project = project
        self._make = read
        self._waited_until = waited_until
        self._waiting: dict[str, deque[tuple[Task, str]]] = {}
        for task, address in addresses:
            self._waiting.setdefault(project.files.host(address), deque()).append((task, address))
        self._n_left = len(addresses)
        self._readings: dict[int, _Reading] = {}
        self._given: dict[str, float] = {"": 0.0}  # when each host gave its last file; "" is what needs no host
        self._stopped = False
        self._changed = threading.Condition()
        self._done: queue.Queue[tuple[Task, T | Exception]] = queue.Queue(WAITING)

    def results(
        self,
        *,
        until: float,
        at_once: int = 1,
        patience: float = float("inf"),
        interrupted: Callable[[], bool] = lambda: False,
    ) -> Iterator[list[tuple[Task, T | TaskDataError]]]:
        """Yield tasks with what was made of their files, or with why nothing was: ``at_once``, or as many as came.

        It ends when all are read, at the time ``until`` (of ``time.monotonic``), when ``interrupted`` says so, or
        when hosts have given nothing for so many seconds of ``patience`` after something had come.
        """
        n_threads = min(READERS, sum(min(PER_HOST, len(tasks)) for tasks in self._waiting.values()))
        for _ in range(n_threads):
            threading.Thread(target=self._read_all, name="reader", daemon=True).start()
        came = None
        try:
            while self._n_left and not self._is_over(until) and not interrupted():
                results = self._came(at_once)
                if results:
                    self._n_left -= len(results)
                    yield results
                    if not all(isinstance(result, TaskDataError) for _, result in results):
                        came = time.monotonic()
                elif came is not None and time.monotonic() - came >= patience and self._only_waits():
                    return
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()

    def _came(self, at_most: int) -> list[tuple[Task, T | TaskDataError]]:
        """Return what has come, after a moment's wait if nothing has."""
        results: list[tuple[Task, T | TaskDataError]] = []
        try:
            while len(results) < at_most:
                task, result = self._done.get(timeout=0 if results else LOOK_EVERY)
                if isinstance(result, Exception) and not isinstance(result, TaskDataError):
                    raise result
                results.append((task, result))
        except queue.Empty:
            pass
        return results

    def late(self, seconds: float) -> dict[int, float]:
        """Return the tasks whose host is to blame that their file has not come, and how long it has been asked.

        A host that gave nothing, or gave others when this one was late already. Where nothing has come since from
        a host that gives, it may be us who are slow.
        """
        with self._changed:
            now = time.monotonic()
            asked = {
                id_: (reading.host, reading.asked_at) for id_, reading in self._readings.items() if not reading.came
            }
            return {
                task_id: now - at
                for task_id, (host, at) in asked.items()
                if at is not None and now - at >= seconds and self._given.get(host, now) - at >= seconds
            }

    def _is_over(self, until: float) -> bool:
        now = time.monotonic()
        if self._waited_until is None or now < until:
            return now >= until
        with self._changed:
            return now >= until + LAST_WORDS or (not self._readings and self._done.empty())

    def _only_waits(self) -> bool:
        """Return whether nothing is being done but waiting: no file that came is being decoded."""
        with self._changed:
            return not any(reading.came for reading in self._readings.values())

    def _read_all(self) -> None:
        while (found := self._next()) is not None:
            reading, task, address = found
            try:
                result: T | Exception = self._read(reading, address)
            except Exception as error:  # a reader's boundary: who asked gets it
                result = error
            reading.came = True
            self._put(task, result)
            with self._changed:
                del self._readings[task.id]
                self._changed.notify_all()

    def _put(self, task: Task, result: T | Exception) -> None:
        while not self._stopped:
            try:
                self._done.put((task, result), timeout=LOOK_EVERY)
                break
            except queue.Full:  # they are embedded more slowly than read
                continue

    def _read(self, reading: _Reading, address: str) -> T:
        polite = self._project.files.is_own(address) and self._waited_until is None
        pause = considerate(self._project, interrupted=lambda: self._stopped) if polite else nullcontext()
        with pause:
            with self._changed:
                reading.asked_at = time.monotonic()
            file = self._project.files.read(address, until=self._waited_until)
            with self._changed:
                reading.came = True
                self._given[reading.host] = time.monotonic()
                self._changed.notify_all()
        with file:
            return self._make(file)

    def _next(self) -> tuple[_Reading, Task, str] | None:
        with self._changed:
            while self._waiting and not self._stopped and not self._is_too_late():
                host = self._free_host()
                if host is not None:
                    tasks = self._waiting[host]
                    task, address = tasks.popleft()
                    if not tasks:
                        del self._waiting[host]
                    reading = self._readings[task.id] = _Reading(host)
                    return reading, task, address
                self._changed.wait()
            return None

    def _is_too_late(self) -> bool:
        return self._waited_until is not None and time.monotonic() >= self._waited_until

    def _free_host(self) -> str | None:
        """Return whose file to read next: of a host that has given one, or the host with the most files."""
        busy = Counter(reading.host for reading in self._readings.values())
        free = [host for host in self._waiting if busy[host] < PER_HOST]
        proven = [host for host in free if host in self._given]
        if proven:
            return min(proven, key=lambda host: busy[host])
        n_unproven = sum(n for host, n in busy.items() if host not in self._given)
        if n_unproven >= READERS - FOR_PROVEN_HOSTS:
            return None
        return max(free, key=lambda host: len(self._waiting[host]), default=None)
