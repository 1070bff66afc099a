"""When Label Studio is asked to confirm those who were introduced: at once, a few times, then never again.

Beside the refreshes, not among them: a stranger's host that hangs delays nobody's learning.
"""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from exemplar.errors import ExemplarError, LabelStudioDownError, UnconfirmedError
from exemplar.project.introduction import confirm, find_forgotten
from exemplar.settings import Settings
from exemplar.store.home import Home
from exemplar.store.introductions import Introduction

logger = logging.getLogger(__name__)

# Label Studio calls /setup before it has saved a new connection: not there yet is no refusal.
TRY_AGAIN_AFTER = (0.3, 1.0, 3.0)
# One that is down is asked for so many seconds.
DOWN_FOR = 300.0
# A project that nobody of ours knows is looked for at most so often.
FORGOTTEN_EVERY = 5.0
THREADS = 4


@dataclass
class _Try:
    """How often somebody was asked for, and when next."""

    first: float
    n: int = 0
    not_before: float = 0.0


class Reception:
    """Takes those who wait to Label Studio.

    Parameters
    ----------
    settings : Settings
    home : Home
    """

    def __init__(self, settings: Settings, home: Home) -> None:
        self._settings = settings
        self._home = home
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="reception")
        self._tries: dict[Introduction, _Try] = {}
        self._asked: set[Introduction] = set()
        self._strangers: int | None = None
        self._looked_at = 0.0

    def look(self) -> None:
        """Ask for those who wait and whose turn it is."""
        waiting = set(self._home.introductions.waiting())
        self._tries = {said: turn for said, turn in self._tries.items() if said in waiting}
        now = time.time()
        for said in waiting:
            turn = self._tries.setdefault(said, _Try(first=now))
            if said not in self._asked and now >= turn.not_before:
                self._asked.add(said)
                self._threads.submit(self._ask, said, turn)
        self._look_for_forgotten()

    def close(self) -> None:
        """Ask for nobody any more."""
        self._threads.shutdown(cancel_futures=True)

    def _ask(self, said: Introduction, turn: _Try) -> None:
        try:
            confirm(self._settings, self._home, said)
        except LabelStudioDownError as error:
            self._later(said, turn, str(error), gives_up=time.time() - turn.first > DOWN_FOR)
        except UnconfirmedError as error:
            self._later(said, turn, str(error), gives_up=turn.n >= len(TRY_AGAIN_AFTER))
        except ExemplarError as error:
            self._later(said, turn, str(error), gives_up=True)
        except Exception:  # the boundary of a job
            logger.exception("Project %s: Label Studio could not be asked", said.key)
            self._later(said, turn, "asking Label Studio failed; the log tells more", gives_up=True)
        finally:
            self._asked.discard(said)

    def _later(self, said: Introduction, turn: _Try, why: str, *, gives_up: bool) -> None:
        turn.not_before = time.time() + TRY_AGAIN_AFTER[min(turn.n, len(TRY_AGAIN_AFTER) - 1)]
        turn.n += 1
        if gives_up:
            logger.warning("%s", why)
            self._home.introductions.remove(said, until=time.time())
            self._home.introductions.refuse(said, why)

    def _look_for_forgotten(self) -> None:
        """Look for projects that show our rows and are not known: at the start, and when a webhook names one."""
        if time.time() - self._looked_at < FORGOTTEN_EVERY:
            return
        strangers = self._home.strangers()
        if strangers == self._strangers and not any(self._home.damaged()):
            return
        self._strangers, self._looked_at = strangers, time.time()
        if self._settings.label_studio_api_key:
            self._threads.submit(self._find_forgotten)

    def _find_forgotten(self) -> None:
        try:
            find_forgotten(self._settings, self._home)
        except ExemplarError as error:
            logger.warning("Projects in Label Studio could not be looked up: %s", error)
        except Exception:  # the boundary of a job
            logger.exception("Projects in Label Studio could not be looked up")
