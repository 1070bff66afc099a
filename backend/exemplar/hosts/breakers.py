"""Hosts that fail again and again are left alone for a while (a circuit breaker for each).

Libraries that do this hold a lock during the call, or count for one service that is known beforehand.
"""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

from exemplar.errors import NotNowError

FAILURES = 3
LEFT_ALONE, AT_MOST = 60.0, 900.0
# One failure is enough where somebody waited so long for it, and nothing else came from the host meanwhile.
HUNG = 4.0
# A host that was left alone is tried with one request; others wait for what comes of it.
PROBE_SECONDS = 30.0


@dataclass
class _Host:
    failures: int = 0
    until: float = 0.0


@dataclass(frozen=True)
class Asked:
    """A request: what was known of its host when it began, which is forgotten as soon as the host answers."""

    state: _Host
    at: float


class Breakers:
    """The hosts that one project's files lie on, and until when they are left alone (seconds since the epoch)."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = defaultdict(_Host)
        self._lock = threading.Lock()

    def enter(self, host: str) -> Asked:
        """Begin a request.

        Raises
        ------
        NotNowError
            If the host is left alone.
        """
        with self._lock:
            state, now = self._hosts[host], time.time()
            if now < state.until:
                raise NotNowError(f"{host} does not answer and is left alone for a while", again_at=state.until)
            if state.failures >= FAILURES:
                state.until = now + PROBE_SECONDS
            return Asked(state, time.monotonic())

    def answered(self, host: str) -> None:
        """Note that a host answered, whatever it said."""
        with self._lock:
            self._hosts.pop(host, None)

    def failed(self, host: str, retry_after: float = 0.0, *, waited: Asked | None = None) -> None:
        """Note that a host did not answer.

        ``retry_after`` are the seconds that it asked for itself, ``waited`` is the request if somebody waited for
        it.
        """
        with self._lock:
            state, now = self._hosts[host], time.time()
            hung = waited is not None and waited.state is state and time.monotonic() - waited.at >= HUNG
            state.failures = max(state.failures + 1, FAILURES if hung else 0)
            rounds = state.failures - FAILURES
            pause = min(LEFT_ALONE * 2.0**rounds, AT_MOST) if rounds >= 0 else 0.0
            state.until = now + max(pause, min(retry_after, AT_MOST)) if pause or retry_after else 0.0

    def forget(self) -> None:
        """Try every host anew."""
        with self._lock:
            self._hosts.clear()

    def left_alone(self) -> dict[str, float]:
        """Return the hosts that are left alone, and until when."""
        with self._lock:
            now = time.time()
            return {name: host.until for name, host in self._hosts.items() if host.until > now}


@lru_cache(maxsize=1024)
def breakers_of(project: str) -> Breakers:
    """Return a project's breakers: what one project's tasks name stops no other project's."""
    return Breakers()
