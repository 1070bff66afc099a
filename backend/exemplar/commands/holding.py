"""A project that a running backend is to leave alone for a moment."""

import time
from contextlib import ExitStack

from exemplar.store.project_store import ProjectStore

# Seconds for which a refresh or an import of a running backend is waited for.
WAIT = 120.0


def hold(store: ProjectStore, held: ExitStack) -> None:
    """Let no refresh begin in a running backend: what it wrote after us would stay. One that runs is waited for."""
    store.raise_number("webhooks")  # it puts off what it still has to write for what is newer
    until = time.monotonic() + WAIT
    while True:
        with ExitStack() as attempt:
            is_ours = attempt.enter_context(store.lock())
            if (is_ours and store.importing() is None) or time.monotonic() > until:
                held.push(attempt.pop_all())
                return
        time.sleep(0.1)
