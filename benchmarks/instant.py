"""How soon an annotation is known, in a project of 20 000 texts on a real Label Studio 1.23.2.

From the end of a Submit until /predict answers with it, and until the rows in Label Studio follow: those of the
next batch (five tasks) and of the ten tasks whose label distribution it moved most.

    .venv/bin/python benchmarks/instant.py [--tasks 20000] [--submits 20] [--think 2]    (data: EXEMPLAR_BENCH_DATA)
"""

import argparse
import csv
import gzip
import json
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import numpy as np
from data import FOLDER, is_there
from machine import describe
from running import Json, running

from exemplar.demo import label_studio
from exemplar.model import project_key
from exemplar.rows import SAME, TOLERANCE, generation_name, is_asked
from exemplar.store.project_store import ProjectStore
from exemplar.store.snapshot import Snapshot

IMPORTED_AT_ONCE = 2000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tasks", type=int, default=20_000)
    options.add_argument("--submits", type=int, default=20, help="before the rows are there, and afterwards")
    options.add_argument("--think", type=float, default=2.0, help="seconds from the task to its Submit")
    given = options.parse_args()
    if not is_there("banking77"):
        return
    with running() as it, httpx.Client(base_url=it.url, timeout=60) as ours:
        project, truth = make_project(it.api, given.tasks)
        started = time.monotonic()
        store = it.connect(project)
        print(f"first batch queued after {time.monotonic() - started:.0f} s", flush=True)
        while store.status().doing or (store.facts() and store.facts().n_tasks < given.tasks):
            time.sleep(0.5)
        print(f"whole pool read after {time.monotonic() - started:.0f} s", flush=True)
        print(describe("label-studio-ml", "scikit-learn"))
        print(f"Label Studio {label_studio.VERSION} on SQLite, {given.tasks} texts; seconds since a Submit")
        rows = Rows(store, it.database)
        run = partial(measure, it.api, ours, rows, project, truth, think=given.think)
        # Rows that are not there yet cannot follow.
        tell("before the pool's rows are imported", run(submits=given.submits, moved_too=False))
        while store.status().pending_rows or store.status().doing:
            time.sleep(0.5)
        print(f"all rows are there after {time.monotonic() - started:.0f} s", flush=True)
        tell("afterwards", run(submits=given.submits))


def tell(when: str, measured: dict[str, list[float]]) -> None:
    print(f"\n{when:46}{'n':>4}{'p50':>8}{'p95':>8}{'max':>8}")
    for what, seconds in measured.items():
        p50, p95 = np.percentile(seconds, [50, 95])
        print(f"  until: {what:37}{len(seconds):4}{p50:8.2f}{p95:8.2f}{max(seconds):8.2f}", flush=True)


def texts(n: int) -> list[tuple[str, str]]:
    """Return texts with their intents; past the data's end, pairs of messages of one intent."""
    found = []
    for part in ("train", "test"):
        with gzip.open(FOLDER / f"banking77-{part}.csv.gz", "rt") as file:
            found += [(row["text"], row["category"]) for row in csv.DictReader(file)]
    by_intent: dict[str, list[str]] = {}
    for text, intent in found:
        by_intent.setdefault(intent, []).append(text)
    rng = np.random.default_rng(0)
    while len(found) < n:
        intent = found[int(rng.integers(len(found)))][1]
        found.append((" ".join(rng.choice(by_intent[intent], 2, replace=False)), intent))
    return found[:n]


def make_project(api: httpx.Client, n: int) -> tuple[Json, dict[str, str]]:
    wanted = texts(n)
    choices = "".join(f'<Choice value="{intent}"/>' for intent in sorted({intent for _, intent in wanted}))
    config = (
        f'<View><Text name="text" value="$text"/><Choices name="intent" toName="text">{choices}</Choices></View>'
    )
    project: Json = api.post("/api/projects/", json={"title": "Intents", "label_config": config}).json()
    for start in range(0, n, IMPORTED_AT_ONCE):
        tasks = [{"text": text} for text, _ in wanted[start : start + IMPORTED_AT_ONCE]]
        api.post(f"/api/projects/{project['id']}/import", json=tasks).raise_for_status()
    return project, dict(wanted)


class Rows:
    """What stands in Label Studio against our snapshot; read from its database, so that looking is free."""

    def __init__(self, store: ProjectStore, database: Path) -> None:
        self._store = store
        self._database = sqlite3.connect(f"file:{database}?mode=ro", uri=True)

    def snapshot(self) -> Snapshot:
        snapshot = self._store.current()
        assert snapshot is not None
        return snapshot

    def follow(self, tasks: list[int]) -> bool:
        """Return whether these tasks' rows are as the newest snapshot wants them."""
        snapshot = self.snapshot()
        marks = ",".join("?" * len(tasks))
        query = f"SELECT task_id, score, result FROM prediction WHERE model_version = ? AND task_id IN ({marks})"
        found = self._database.execute(query, (generation_name(snapshot.facts.generation), *tasks))
        there = {task: (score, json.loads(result)) for task, score, result in found}
        return all(task in there and self._is_as_wanted(snapshot, task, *there[task]) for task in tasks)

    def _is_as_wanted(self, snapshot: Snapshot, task: int, score: float, result: list[Json]) -> bool:
        row = snapshot.row(task)
        assert row is not None
        same = result == snapshot.facts.labeling.result(int(snapshot.shown[row]))
        wanted = float(snapshot.scores[row])
        within = SAME if is_asked(min(score, wanted)) else TOLERANCE
        return same and abs(score - wanted) <= within


def measure(
    api: httpx.Client,
    ours: httpx.Client,
    rows: Rows,
    project: Json,
    truth: dict[str, str],
    *,
    submits: int,
    think: float,
    moved_too: bool = True,
) -> dict[str, list[float]]:
    names = ["/predict answers with it", "the next batch's rows follow", "the ten most moved tasks' rows follow"]
    found: dict[str, list[float]] = {name: [] for name in (names if moved_too else names[:2])}
    for _ in range(submits):
        before = rows.snapshot()
        task = api.get(f"/api/projects/{project['id']}/next").raise_for_status().json()
        time.sleep(think)
        answer = truth[task["data"]["text"]]
        submit(api, task, answer)
        submitted = time.perf_counter()
        seconds = [_until(partial(_is_predicted, ours, project, task, answer)) - submitted]
        after = rows.snapshot()
        for tasks in (_next_batch(after), _most_moved(before, after))[: len(found) - 1]:
            seconds.append(_until(partial(rows.follow, tasks)) - submitted)
        for values, value in zip(found.values(), seconds, strict=True):
            values.append(value)
    return found


def submit(api: httpx.Client, task: Json, answer: str) -> None:
    result = [{"from_name": "intent", "to_name": "text", "type": "choices", "value": {"choices": [answer]}}]
    shown = task["predictions"][0]["id"] if task["predictions"] else None
    body = {"result": result, "lead_time": 2.0, "parent_prediction": shown}
    api.post(f"/api/tasks/{task['id']}/annotations/", json=body).raise_for_status()


def _is_predicted(ours: httpx.Client, project: Json, task: Json, answer: str) -> bool:
    """Return whether /predict says the annotator's own answer, which scores 1."""
    asked = {"id": task["id"], "data": task["data"]}
    request = {"tasks": [asked], "project": project_key(project), "label_config": project["label_config"]}
    [said] = ours.post("/predict", json=request).json()["results"]
    return bool(said["score"] == 1.0 and said["result"][0]["value"]["choices"] == [answer])


def _next_batch(snapshot: Snapshot) -> list[int]:
    queue = np.argsort(snapshot.scores, kind="stable")[:5]
    return [int(id_) for id_ in snapshot.task_ids[queue[is_asked(snapshot.scores[queue])]]]


def _most_moved(before: Snapshot, after: Snapshot) -> list[int]:
    if len(before.task_ids) != len(after.task_ids):
        return []
    moved = np.abs(after.distributions - before.distributions).sum(axis=1)
    return [int(id_) for id_ in after.task_ids[np.argsort(-moved, kind="stable")[:10]]]


def _until(is_so: Callable[[], bool], *, patience: float = 300) -> float:
    """Return when something is so."""
    end = time.perf_counter() + patience
    while time.perf_counter() < end:
        if is_so():
            return time.perf_counter()
        time.sleep(0.05)
    raise TimeoutError(f"not so after {patience:g} s")


if __name__ == "__main__":
    main()
