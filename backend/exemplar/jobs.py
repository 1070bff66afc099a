"""When refresh runs: debounced, one at a time per project, until Label Studio and the snapshot agree.

The queue is only a wake-up: what is to be done stands durably in each project's folder (dirty numbers), so the
worker looks there, twenty times a second, and a restart continues where the last one died.
"""

import logging
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from exemplar.context import open_project
from exemplar.errors import ClosedError, ExemplarError, LabelStudioDownError, LabelStudioError
from exemplar.project.introduction import confirm_again, introduction_of
from exemplar.project.refresh import Outcome, refresh
from exemplar.reception import Reception
from exemplar.rows import Ledger, why_not_found
from exemplar.settings import Settings
from exemplar.store.home import Home
from exemplar.store.project_store import ProjectStore

logger = logging.getLogger(__name__)

LOOK_EVERY = 0.05
# Projects that are refreshed at once; and such of which files are read, which is mostly waiting for hosts.
THREADS, READING_THREADS = 4, 32
# However many webhooks come, a refresh starts at the latest so many seconds after the first.
DEBOUNCE_AT_MOST = 2.0
# Rows that were just created are compared once more after so many seconds, left-over patches almost at once.
COME_BACK_AFTER = 1.0
BACKOFF = (1.0, 2.0, 5.0, 15.0, 60.0)
# After a failure, a new webhook is a reason to try again after so many seconds already.
TRY_AGAIN_AFTER = 2.0
# What fails twenty times a second is said once in so many seconds.
SAY_EVERY = 60.0
# At 5, all processors being busy, what annotators wait for took a third longer.
NICENESS = 15


@dataclass
class Turn:
    """When a project was last refreshed and when it wants to be again, in seconds of the monotonic clock.

    ``seen`` is the number of webhooks when it was last refreshed.
    """

    last: float = -math.inf
    first_dirty: float | None = None
    not_before: float = -math.inf
    again_at: float | None = None
    failures: int = 0
    seen: int = 0
    unread: int = 0


class Worker:
    """Runs the refreshes of all projects in a few threads of its own.

    Parameters
    ----------
    settings : Settings
    dry_run : bool
        Read everything and only log what would be written.
    """

    def __init__(self, settings: Settings, *, dry_run: bool = False) -> None:
        self._settings = settings
        self._dry_run = dry_run
        self._home = Home(settings.model_dir, settings.label_studio_url)
        self._turns: dict[str, Turn] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._imports = ThreadPoolExecutor(2, thread_name_prefix="import")
        self._busy: set[str] = set()
        self._said: dict[str, float] = {}
        self._reception = Reception(settings, self._home)

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Work until ``goes_on`` says no."""
        with (
            ThreadPoolExecutor(THREADS, thread_name_prefix="refresh") as threads,
            ThreadPoolExecutor(READING_THREADS, thread_name_prefix="reading") as reading,
        ):
            while goes_on():
                try:
                    self._look(threads, reading)
                except Exception as error:  # the loop goes on, whatever it meets
                    self._say("The projects in %s could not be looked at", self._settings.model_dir, error)
                time.sleep(LOOK_EVERY)
            self._reception.close()

    def _look(self, threads: ThreadPoolExecutor, reading: ThreadPoolExecutor) -> None:
        """Let each project that is due take its turn; what is wrong with one is no other's matter."""
        for store in list(self._home.introduced()):
            try:
                if self.is_due(store, time.monotonic()):
                    at_length = self._has_to_read(store)
                    self._busy.add(str(store.folder))
                    (reading if at_length else threads).submit(self._take_turn, store, at_length)
            except Exception as error:
                self._say("Project %s could not be looked at", store.folder.name, error)
        self._reception.look()

    def _has_to_read(self, store: ProjectStore) -> bool:
        """Return whether a project may wait long for its tasks' hosts; no other project waits with it."""
        return bool(self.turn(store).unread) or not store.current_name()

    def _say(self, sentence: str, about: object, error: Exception) -> None:
        key = f"{about} {type(error).__name__}"
        if time.monotonic() - self._said.get(key, -math.inf) >= SAY_EVERY:
            self._said[key] = time.monotonic()
            logger.error(sentence, about, exc_info=error)

    def turn(self, store: ProjectStore) -> Turn:
        """Return when a project was and wants to be refreshed."""
        return self._turns.setdefault(str(store.folder), Turn())

    def is_due(self, store: ProjectStore, now: float) -> bool:
        """Return whether a project is to be refreshed now, by the monotonic clock."""
        name, turn = str(store.folder), self.turn(store)
        if name in self._busy:
            return False
        connection = store.connection()
        if connection is None or connection.closed:
            return False
        # Not "more than": a file of numbers that was lost begins anew.
        webhooks, done = store.number("webhooks"), store.done()
        if now < turn.not_before and (webhooks == turn.seen or now < turn.last + TRY_AGAIN_AFTER):
            return False
        if store.number("orders") != done.orders:
            return True
        if webhooks != done.webhooks:
            turn.first_dirty = turn.first_dirty or now
            quiet = time.time() - store.raised_at("webhooks") >= self._settings.debounce
            return quiet or now - turn.first_dirty >= max(DEBOUNCE_AT_MOST, self._settings.debounce)
        if turn.again_at is not None and not self.ledger(store).is_importing:
            return now >= turn.again_at
        return now - turn.last >= self._settings.poll

    def _take_turn(self, store: ProjectStore, at_length: bool) -> None:
        turn = self.turn(store)
        turn.first_dirty = turn.again_at = None
        turn.seen = store.number("webhooks")
        try:
            outcome = run_once(
                store, self._settings, self.ledger(store), dry_run=self._dry_run, at_length=at_length
            )
            turn.failures, turn.unread = 0, outcome.unread if outcome else turn.unread
            turn.again_at = _come_back_at(outcome)
            self._ask_once_more(store)
        except Exception:  # the boundary of a job: run_once has reported it
            turn.not_before = time.monotonic() + BACKOFF[min(turn.failures, len(BACKOFF) - 1)]
            turn.failures += 1
        finally:
            turn.last = time.monotonic()
            self._busy.discard(str(store.folder))

    def ledger(self, store: ProjectStore) -> Ledger:
        """Return what is known of a project's rows."""
        return self._ledgers.setdefault(str(store.folder), Ledger(self._imports))

    def _ask_once_more(self, store: ProjectStore) -> None:
        """Ask for a project whose connection is gone: it may have another address now."""
        known = store.connection()
        if known is not None and known.closed:
            self._home.introductions.add(introduction_of(known))


def run_once(
    store: ProjectStore,
    settings: Settings,
    ledger: Ledger | None = None,
    *,
    dry_run: bool = False,
    at_length: bool = True,
) -> Outcome | None:
    """Refresh one project now and keep its status; None if somebody else is at it.

    Only ``at_length`` it waits for longer than a moment for what the hosts of tasks' files give.

    Raises
    ------
    Exception
        Whatever the refresh raised, after it was logged and noted in the status.
    """
    ledger = ledger or Ledger()
    try:
        with store.lock() as mine:
            if not mine:
                ledger.doubt()
                return None
            outcome = _refresh(store, settings, ledger, dry_run=dry_run, at_length=at_length)
            state = "ready" if outcome.snapshot is not None else "starting"
            goes_on = outcome.snapshot is None or outcome.unread or ledger.is_importing
            doing = store.status().doing if goes_on else None
            store.note(state=state, doing=doing, problem=None, pending_rows=outcome.pending)
            return outcome
    except ClosedError as error:
        _close(store, str(error))
        return Outcome()
    except ExemplarError as error:
        is_news = store.status().problem != str(error)
        _note_problem(store, str(error))
        level = logging.WARNING if isinstance(error, LabelStudioDownError) else logging.ERROR
        logger.log(level if is_news else logging.DEBUG, "Project %s: %s", store.folder.name, error)
        raise
    except OSError as error:  # a full disk, a folder that cannot be written: the old snapshot stays
        _note_problem(store, f"{store.folder}: {error.strerror or error}; the last snapshot is served on")
        logger.error("Project %s: %s: %s", store.folder.name, store.folder, error)
        raise
    except Exception as error:
        _note_problem(store, f"the refresh failed: {type(error).__name__}; the log tells more")
        logger.exception("Project %s: the refresh failed", store.folder.name)
        raise


def _come_back_at(outcome: Outcome | None) -> float | None:
    """Return when a project wants to be refreshed again by itself, by the monotonic clock."""
    now = time.monotonic()
    if outcome is None or outcome.pending:
        return now + COME_BACK_AFTER
    if outcome.unread:
        return now
    return None if outcome.again_at is None else now + outcome.again_at - time.time()


def _refresh(store: ProjectStore, settings: Settings, ledger: Ledger, *, dry_run: bool, at_length: bool) -> Outcome:
    confirm_again(settings, Home(settings.model_dir, settings.label_studio_url), store)
    project = open_project(store, settings, dry_run=dry_run)
    try:
        return refresh(project, ledger, at_length=at_length)
    except LabelStudioError as error:
        ledger.doubt()
        why = why_not_found(project.client, project.connection) if error.status_code == 404 else None
        raise why or error from error
    except BaseException:
        ledger.doubt()  # what was written last is not known
        raise
    finally:
        project.close()


def work(settings: Settings, *, dry_run: bool = False) -> None:
    """Be the worker process, until it is ended."""
    _give_way()
    Worker(settings, dry_run=dry_run).run(lambda: True)


def _give_way() -> None:
    """Let annotators and /predict come first.

    Linux may share its processors by session, and only within each by niceness (autogroup, sched(7)): beside a
    Label Studio that was started elsewhere we would get as much as it. So we are a session, and a nice one.
    """
    os.nice(NICENESS)
    with suppress(OSError):  # we lead a group already, or the kernel knows no such sharing
        os.setsid()
        Path("/proc/self/autogroup").write_text(str(NICENESS))


def _close(store: ProjectStore, why: str) -> None:
    """Leave a project alone until it is connected again: nothing is due for it, and nobody looks."""
    store.save_done(replace(store.done(), webhooks=store.number("webhooks"), orders=store.number("orders")))
    store.update_connection(closed=True)
    store.note(state="closed", doing=None, problem=why, pending_rows=0)
    logger.warning("Project %s is closed: %s", store.folder.name, why)


def _note_problem(store: ProjectStore, problem: str) -> None:
    try:
        state = "ready" if store.current_name() else "failed"
        store.note(state=state, doing=None, problem=problem)
    except OSError:
        logger.error("Project %s: its status cannot be written either", store.folder.name)
