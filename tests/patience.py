"""Time for tests with bounds, on machines that are busy with other things."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TICK = 0.01


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Yield a function that returns the seconds since the beginning, as a thread of this process gets them.

    Where the machine lets the process halt, it stands nearly still. It says nothing of code that lets all other
    threads wait.
    """
    ended, seconds = threading.Event(), 0.0

    def tick() -> None:
        nonlocal seconds
        began = time.monotonic()
        while not ended.wait(TICK):
            now = time.monotonic()
            seconds += min(now - began, 2 * TICK)
            began = now

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield lambda: seconds
    finally:
        ended.set()
        thread.join()
