"""The memory that a large pool of texts takes in the worker by the default features, and that it is embedded once.

The product's own functions, from the tasks to their clusters; peaks above what the tasks and X take.

    .venv/bin/python benchmarks/features_memory.py [--tasks 100000]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
from machine import describe

from exemplar.context import Project
from exemplar.demo import messages
from exemplar.features import Embedder
from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.tasks import Task
from exemplar.project.own_vectors import Own
from exemplar.project.pool import build_pool
from exemplar.project.reading import Read, read_on
from exemplar.project.sync import Held
from exemplar.project.views import Sight, sight_of
from exemplar.settings import Settings
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Connection
from exemplar.store.vectors import Vectors

LABELING = Labeling("intent", "message", "message", "text", messages.intents())
N_CHARACTERS = 200


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tasks", type=int, default=100_000)
    n_tasks = options.parse_args().tasks
    print(describe("numpy", "scikit-learn"), "\n", flush=True)
    held = Held({"organization": 1}, LABELING, texts(n_tasks), cursor="", own=Own())
    with tempfile.TemporaryDirectory() as folder:
        project = a_project(Path(folder))
        sight = sight_of(project.settings, LABELING, held.own)
        given = counted(sight)
        base = memory("VmRSS")
        read = step(
            f"{n_tasks} texts of {N_CHARACTERS} characters embedded", base, lambda: read_all(project, held, sight)
        )
        print(f"  {sum(given)} vectors made; MB on disk: {on_disk(Path(folder)):.0f}", flush=True)
        given.clear()
        read = step("a second run", base, lambda: read_all(project, held, sight))
        print(f"  {sum(given)} vectors made", flush=True)
        size = 4 * n_tasks * sum(block.n_features or 128 for block in sight.blocks) / 2**20
        pool = step(
            f"X of {size:.0f} MB, clusters and graph",
            base + size,
            lambda: build_pool(project, sight, held.tasks, None, read, anew=True),
        )
        assert pool is not None and pool.geometry.X.nbytes / 2**20 == size
        print("  " + " + ".join(f"{block.weight:.2g}*{block.embedder}" for block in pool.blocks))


def read_all(project: Project, held: Held, sight: Sight) -> Read:
    return read_on(project, held, sight, None, anew=False, seconds=1e9)


def step(what: str, base: float, do: Callable[[], Any]) -> Any:
    """Do something, and print its seconds and its peak above ``base`` MB."""
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    done = do()
    print(f"{what}: {time.perf_counter() - start:.0f} s, {memory('VmHWM') - base:.0f} MB", flush=True)
    return done


def memory(which: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(which)).split()[1]) / 1024


def counted(sight: Sight) -> list[int]:
    """Return how many values each call embeds, as it goes on."""
    given: list[int] = []
    for one in sight.embedders.values():
        if isinstance(one, Embedder):
            transform = one.transform

            def counting(values: Any, transform: Any = transform) -> Any:
                given.append(len(values))
                return transform(values)

            one.transform = counting  # type: ignore[method-assign]
    return given


def texts(n: int) -> tuple[Task, ...]:
    """Return tasks of different texts: some of the demo's messages in a row, cut."""
    rng = np.random.default_rng(0)
    said = np.array(messages.texts_and_intents()[0])
    rows = rng.integers(len(said), size=(n, 8))
    return tuple(Task(i + 1, str(i), f"{i} {' '.join(said[rows[i]])}"[:N_CHARACTERS], ()) for i in range(n))


def a_project(folder: Path) -> Project:
    store = ProjectStore(folder / "host" / "1.1")
    store.folder.mkdir(parents=True)
    files = Mock()
    files.breakers.left_alone.return_value = {}
    files.allowed.rules = ()
    vectors = Vectors(folder / ".vectors", 2**33)
    connection = Connection(key="1.1", url="http://127.0.0.1")
    return Project(connection, store, Mock(), files, Settings(model_dir=folder), vectors)


def on_disk(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*.records")) / 2**20


if __name__ == "__main__":
    main()
