"""Keeps the processes of `exemplar serve` alive, and ends them all when it is told to.

A process that dies (of a signal, a file that was cut short under it, too little memory) is started again: at once
the first time, after a growing pause while it keeps dying, and the log says so. The socket is ours, so that callers
wait in its queue meanwhile instead of being refused. When we die ourselves, however that is, the others follow.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)

STOPS = (signal.SIGINT, signal.SIGTERM)
# Seconds between a death and the next start; one that lived long is started at once again.
PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
LIVED_LONG = 60.0
# One that never lived so long, so many times in a row, cannot start at all.
STARTED = 5.0
TRIES = 4
METHOD = "spawn"
# What is being answered may be finished within so many seconds.
PATIENCE = 5.0


@dataclass
class Child:
    """A process that is to live: what it does, and how it went so far.

    ``graceful`` ones are asked to end, and may finish what they are answering; the others are killed.
    """

    name: str
    work: Callable[..., None]
    arguments: tuple[Any, ...]
    graceful: bool = False
    process: BaseProcess | None = None
    started: float = 0.0
    start_at: float | None = 0.0
    deaths: int = 0
    has_lived: bool = False

    def start(self) -> None:
        """Start it; of signals that reach a whole group of processes it hears nothing: we end it."""
        process = multiprocessing.get_context(METHOD).Process  # type: ignore[attr-defined]
        self.process = process(target=_be, args=(self.work, self.arguments), name=self.name)
        resource_tracker.ensure_running()  # it would unblock the signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.started, self.start_at = time.monotonic(), None

    def note_death(self) -> None:
        """Say that it died, and when it is started again."""
        assert self.process is not None
        now = time.monotonic()
        lived = now - self.started
        self.has_lived = self.has_lived or lived >= STARTED
        self.deaths = 0 if lived >= LIVED_LONG else self.deaths
        pause = PAUSES[min(self.deaths, len(PAUSES) - 1)]
        self.deaths += 1
        logger.error("The %s process died (%s); it is started again in %g s", self.name, self._cause(), pause)
        self.process, self.start_at = None, now + pause

    @property
    def cannot_start(self) -> bool:
        """Return whether it died again and again before it ever ran."""
        return not self.has_lived and self.deaths >= TRIES

    def _cause(self) -> str:
        code = self.process.exitcode if self.process is not None else None
        if code is not None and code < 0:
            return signal.Signals(-code).name
        return f"exit code {code}"

    def end(self) -> None:
        """Ask it to end, or kill it."""
        if self.process is not None:
            (self.process.terminate if self.graceful else self.process.kill)()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended; kill it when that takes too long."""
        if self.process is not None:
            self.process.join(seconds)
            self.process.kill()
            self.process.join()


def supervise(children: Sequence[Child]) -> int:
    """Keep the children alive until SIGINT or SIGTERM comes; return the exit code.

    It is 0 for Ctrl-C, 143 for SIGTERM, as shells count it, and 1 if a child cannot be started at all.
    """
    with _told() as told:
        try:
            while not told.poll():
                for child in children:
                    if child.start_at is not None and time.monotonic() >= child.start_at:
                        child.start()
                _wait(told, children)
                if told.poll():
                    break
                for child in children:
                    if child.process is not None and not child.process.is_alive():
                        child.note_death()
                    if child.cannot_start:
                        logger.error("The %s process cannot be started: see above", child.name)
                        return 1
            return 128 + signal.SIGTERM if told.recv() == signal.SIGTERM else 0
        finally:
            for child in children:
                child.end()
            for child in children:
                child.wait(PATIENCE)


def _wait(told: Pipe, children: Sequence[Child]) -> None:
    """Wait until something happens: a signal, a death, the time of a start."""
    alive = [child.process.sentinel for child in children if child.process is not None]
    starts = [child.start_at for child in children if child.start_at is not None]
    died = wait([told, *alive], timeout=min(starts) - time.monotonic() if starts else None)
    if died and told not in died:
        # A signal that reached our whole group may have reached a child first.
        told.poll(0.05)


@contextmanager
def _told() -> Iterator[Pipe]:
    """Yield a pipe that says which signal came."""
    reader, writer = multiprocessing.Pipe(duplex=False)

    def note(number: int, frame: FrameType | None) -> None:
        writer.send(number)

    before = {number: signal.signal(number, note) for number in STOPS}
    try:
        yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _be(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Be a child: until told to end, or until the parent dies, however it dies."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Thread(target=_die_with_parent, name="die-with-parent", daemon=True).start()
    work(*arguments)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
