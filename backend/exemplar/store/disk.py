"""MODEL_DIR as a place to write: what it does not take (a full disk, a read-only folder) is kept until it does."""

import logging
import tempfile
import threading
import time
from pathlib import Path

from exemplar.failpoints import reach
from exemplar.store.project_store import ProjectStore

logger = logging.getLogger(__name__)

TRY_EVERY = 1.0


class Disk:
    """What could not be written into a folder, and why.

    A dirty number only says that something is to be looked at: of several raises one is enough. After a kill nobody
    remembers them, and the slow poll finds what they told of.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: set[tuple[Path, str]] = set()
        self._lock = threading.Lock()
        self._looked_at = -TRY_EVERY
        self._trouble: str | None = None

    def raise_number(self, store: ProjectStore, kind: str) -> None:
        """Raise a dirty number now, or as soon as it can be written."""
        try:
            store.raise_number(kind)
        except OSError as error:
            self._keep(store, kind, error)

    @property
    def n_kept(self) -> int:
        """How many numbers wait to be raised."""
        return len(self._kept)

    def trouble(self) -> str | None:
        """Say why nothing can be written, None if it can; looked at once a second at most."""
        if time.monotonic() - self._looked_at >= TRY_EVERY:
            self._looked_at, self._trouble = time.monotonic(), _trouble(self._folder)
        return self._trouble

    def _keep(self, store: ProjectStore, kind: str, error: OSError) -> None:
        with self._lock:
            begins = not self._kept
            self._kept.add((store.folder, kind))
        if begins:
            logger.error("%s cannot be written (%s): webhooks are kept in memory", self._folder, error.strerror)
            threading.Thread(target=self._write_later, name="webhooks-kept", daemon=True).start()

    def _write_later(self) -> None:
        while self._kept:
            time.sleep(TRY_EVERY)
            for folder, kind in list(self._kept):
                try:
                    ProjectStore(folder).raise_number(kind)
                except OSError:
                    continue
                with self._lock:
                    self._kept.discard((folder, kind))
        logger.info("%s can be written again: the webhooks that were kept in memory are noted", self._folder)


def _trouble(folder: Path) -> str | None:
    try:
        reach("write.before", "probe")
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"+")
            probe.flush()
    except OSError as error:
        return f"MODEL_DIR={folder} cannot be written: {error.strerror}"
    return None
