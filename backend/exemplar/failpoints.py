"""Named points at which a process can be made to die or to fail, so that tests can try what is left then.

They are armed by the environment variable FAILPOINTS, the path of a folder. A file in it that is named like a point
says what happens there: ``kill`` (the first process that gets there takes the file away and kills itself, as the
system would) or an error's name such as ``ENOSPC`` (each process that gets there fails with it, while the file
stands). A name may say more, after a colon: ``write.after`` is any file's, ``write.after:done.json`` that one's.
Without the variable, a point does nothing.
"""

import errno
import os
import signal
import threading
import time
from pathlib import Path

_FOLDER = os.environ.get("FAILPOINTS", "")
# A request takes milliseconds: so long after it was sent, it is under way.
UNDER_WAY = 0.002


def reach(point: str, detail: str = "") -> None:
    """Do what a test has asked for here."""
    if _FOLDER:
        for name in (point, f"{point}:{detail}"):
            _act(Path(_FOLDER, name))


def reach_soon(point: str, detail: str = "") -> None:
    """Do it a moment later, while this thread goes on."""
    if _FOLDER:
        threading.Thread(target=_later, args=(point, detail), daemon=True).start()


def _later(point: str, detail: str) -> None:
    time.sleep(UNDER_WAY)
    reach(point, detail)


def _act(armed: Path) -> None:
    try:
        said = armed.read_text().strip()
        if said == "kill":
            armed.unlink()  # of two that get here at once, one dies
    except FileNotFoundError:
        return
    if said == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    number = getattr(errno, said)
    raise OSError(number, os.strerror(number))
