"""How long it takes until every task of a big project has its row, and what annotators feel of it meanwhile.

On a real Label Studio 1.23.2, two projects of the same texts. Into one a bare client imports a row for each task,
in one request, which is the quickest way that there is. In the other ours takes up the pool, and the clock runs
from when it is read (from then on there is something to say) until the last row stands. In both an annotator goes
on submitting; a second bare import is left alone.

    .venv/bin/python benchmarks/fill.py [--tasks 20000 100000] [--think 2]    (data: EXEMPLAR_BENCH_DATA)
"""

import argparse
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np
from data import is_there
from instant import make_project, submit
from machine import describe
from running import Json, Running, running

from exemplar.demo import label_studio


@dataclass
class Filled:
    """How long a project took to fill, and the Submits meanwhile."""

    seconds: float = 0.0
    rows: int = 0
    twice: int = 0
    submits: list[float] = field(default_factory=list)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tasks", type=int, nargs="+", default=[20_000, 100_000])
    options.add_argument("--think", type=float, default=2.0, help="seconds from the task to its Submit")
    given = options.parse_args()
    if not is_there("banking77"):
        return
    print(describe("label-studio-ml", "scikit-learn"))
    print(f"Label Studio {label_studio.VERSION} on SQLite, an annotator with {given.think:g} s to think\n")
    head = f"{'tasks':>7}  {'':22}{'seconds':>9}{'rows':>9}{'twice':>7}"
    print(f"{head}   {'Submits meanwhile: n':>20}{'p50':>9}{'p95':>9}")
    for n in given.tasks:
        with running() as it:
            bare, ours = fill_bare(it, n, given.think), fill_ours(it, n, given.think)
            alone = fill_bare(it, n, None)
        for name, filled in (("a bare import", bare), ("ours", ours), ("a bare import, alone", alone)):
            p50, p95 = 1e3 * np.percentile(filled.submits or [np.nan], [50, 95])
            print(
                f"{n:7}  {name:22}{filled.seconds:9.1f}{filled.rows:9}{filled.twice:7}   "
                f"{len(filled.submits):20}{p50:7.0f}ms{p95:7.0f}ms"
            )
        best = min(bare.seconds, alone.seconds)
        print(f"{n:7}  ours against the quicker bare import: {ours.seconds / best:.2f}\n", flush=True)


def fill_bare(it: Running, n: int, think: float | None) -> Filled:
    """Import a row for each task as anybody can, in one request."""
    project, truth = make_project(it.api, n)
    tasks = sqlite3.connect(f"file:{it.database}?mode=ro", uri=True).execute(
        "SELECT id FROM task WHERE project_id = ?", (project["id"],)
    )
    rows = [
        {"task": task, "result": said(next(iter(truth.values()))), "score": 0.5, "model_version": "imported"}
        for (task,) in tasks
    ]
    filled = Filled()
    with annotator_at_work(it, project, truth, think, filled):
        started = time.monotonic()
        it.api.post(f"/api/projects/{project['id']}/import/predictions", json=rows).raise_for_status()
        filled.seconds = time.monotonic() - started
    filled.rows, filled.twice = count_rows(it, project, "imported")
    return filled


def fill_ours(it: Running, n: int, think: float) -> Filled:
    """Let ours take up the project; the clock runs once the pool is read: from then on it can predict."""
    project, truth = make_project(it.api, n)
    store = it.connect(project, until_at_rest=False)
    while not (facts := store.facts()) or facts.n_tasks < n or store.reading.notes().n_unread:
        time.sleep(0.05)
    filled, started = Filled(), time.monotonic()
    with annotator_at_work(it, project, truth, think, filled):
        while count_rows(it, project, "exemplar-1")[0] < n:
            time.sleep(0.2)
        filled.seconds = time.monotonic() - started
    while "import" in (store.status().doing or ""):  # what it still imports may double rows
        time.sleep(0.5)
    filled.rows, filled.twice = count_rows(it, project, "exemplar-1")
    return filled


@contextmanager
def annotator_at_work(
    it: Running, project: Json, truth: dict[str, str], think: float | None, filled: Filled
) -> Iterator[None]:
    """Answer one task after the other beside the block, unless there is nobody."""
    if think is None:
        yield
        return
    over = threading.Event()

    def work() -> None:
        headers = {"Authorization": f"Token {it.studio.token}"}
        with httpx.Client(base_url=it.studio.url, headers=headers, timeout=600) as api:
            while not over.is_set():
                filled.submits.append(answer_next(api, project, truth, think=think))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def answer_next(api: httpx.Client, project: Json, truth: dict[str, str], *, think: float) -> float:
    """Answer the next task of the queue with the truth; return the seconds that the Submit took."""
    task = api.get(f"/api/projects/{project['id']}/next").raise_for_status().json()
    time.sleep(think)
    started = time.perf_counter()
    submit(api, task, truth[task["data"]["text"]])
    return time.perf_counter() - started


def said(intent: str) -> list[Json]:
    return [{"from_name": "intent", "to_name": "text", "type": "choices", "value": {"choices": [intent]}}]


def count_rows(it: Running, project: Json, version: str) -> tuple[int, int]:
    """Return how many tasks have a row of that version, and how many have more than one; from the database."""
    with sqlite3.connect(f"file:{it.database}?mode=ro", uri=True) as database:
        [(rows, tasks)] = database.execute(
            "SELECT count(*), count(DISTINCT task_id) FROM prediction WHERE project_id = ? AND model_version = ?",
            (project["id"], version),
        )
    return tasks, rows - tasks


if __name__ == "__main__":
    main()
