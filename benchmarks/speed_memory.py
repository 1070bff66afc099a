"""The memory that a pool of a million tasks takes beside its features, step by step as the product takes them.

.venv/bin/python benchmarks/speed_memory.py [--quick]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe
from stopwatch import row

from exemplar.engine import Geometry, plan_queue, propagate, survey

N_FEATURES, N_CLASSES, N_LABELED = 64, 10, 50
GIB = 2**30


def rows(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the peak of each step in GiB, and its seconds; ``quick`` is a tenth of the tasks."""
    n_tasks = 100_000 if quick else 1_000_000
    X = _groups(n_tasks)
    size = f"{n_tasks:,} x {N_FEATURES}"
    base = _reset_peak()
    found: dict[str, Any] = {}

    def spread() -> np.ndarray:
        shares = np.zeros((n_tasks, N_CLASSES), np.float32)
        asked = np.random.default_rng(1).choice(n_tasks, N_LABELED, replace=False)
        shares[asked, np.arange(N_LABELED) % N_CLASSES] = 1
        return propagate(found["geometry"], shares)

    def queue() -> np.ndarray:
        geometry: Geometry = found["geometry"]
        nobody = np.zeros(n_tasks, bool)
        return plan_queue(geometry, found["scores"], labeled=nobody, askable=~nobody, n=50)

    steps: list[tuple[str, str, Callable[[], object]]] = [
        ("geometry", "clusters and graph", lambda: survey(X)),
        ("scores", f"labels spread, {N_CLASSES} classes", spread),
        ("queue", "50 tasks planned", queue),
    ]
    highest = 0.0
    for name, what, step in steps:
        _reset_peak()
        start = time.perf_counter()
        found[name] = step()
        seconds = time.perf_counter() - start
        peak = (_peak() - base) / GIB
        highest = max(highest, peak)
        yield row(f"GiB beside the features, {size}: {what} ({seconds:.0f} s)", peak)
    yield row(f"GiB beside the features, {size}: at most", highest, 2.0, "the limit", "<= 2")


def _groups(n_tasks: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((1000, N_FEATURES), np.float32)
    X = rng.standard_normal((n_tasks, N_FEATURES), np.float32)
    X *= np.float32(0.5)
    X += centers[rng.integers(1000, size=n_tasks)]
    return X


def _reset_peak() -> int:
    """Put the process's highest mark back to what it takes now, and return that in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true")
    quick = arguments.parse_args().quick
    print(describe("numpy", "scipy", "scikit-learn"), "\n")
    for found in rows(quick=quick):
        print(f"{found['what']:72}{found['ours']:8.3f}  {found['must']}", flush=True)


if __name__ == "__main__":
    main()
