"""What the speed tables share: medians of interleaved runs, and the rows that hold them."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def interleaved(n_runs: int, *measured: Callable[[], object]) -> list[float]:
    """Return each one's median of several runs, taken in turn so that what else the machine does hits all."""
    seconds = np.empty((n_runs, len(measured)))
    for run in range(n_runs):
        for i, function in enumerate(measured):
            start = time.perf_counter()
            function()
            seconds[run, i] = time.perf_counter() - start
    medians: list[float] = np.median(seconds, axis=0).tolist()
    return medians


def row(what: str, ours: float, peer: float | None = None, peer_name: str = "", must: str = "") -> dict[str, Any]:
    """Return a row of a table; the ratio is how many times ours the peer takes."""
    ratio = None if peer is None else peer / ours
    return {"what": what, "ours": ours, "peer": peer, "peer_name": peer_name, "ratio": ratio, "must": must}
