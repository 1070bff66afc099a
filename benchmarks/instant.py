"""How soon an annotation is known, in a project of 20 000 texts on a real Label Studio 1.23.2.

From the end of a Submit until /predict answers with it, and until its row in Label Studio shows it.

    .venv/bin/python benchmarks/instant.py [--tasks 20000] [--submits 30] [--think 2]    (data: EXEMPLAR_BENCH_DATA)
"""

import argparse
import csv
import gzip
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from data import FOLDER, is_there
from machine import describe
from submit import backend, ready

from exemplar.demo import label_studio
from exemplar.demo.processes import free_port
from exemplar.model import project_key

REPOSITORY = Path(__file__).parent.parent
IMPORTED_AT_ONCE = 2000
Json = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tasks", type=int, default=20_000)
    options.add_argument("--submits", type=int, default=30)
    options.add_argument("--think", type=float, default=2.0, help="seconds from the task to its Submit")
    given = options.parse_args()
    if not is_there("banking77"):
        return
    venv = REPOSITORY / ".demo" / "venv"
    label_studio.install(venv)
    with tempfile.TemporaryDirectory(prefix="exemplar-benchmark-") as folder:
        log = Path(folder) / "label-studio.log"
        with (
            label_studio.running(venv, Path(folder) / "data", port=free_port(8480), log_path=log) as studio,
            httpx.Client(
                base_url=studio.url, headers={"Authorization": f"Token {studio.token}"}, timeout=600
            ) as api,
            backend(studio, Path(folder)) as url,
        ):
            project, truth = make_project(api, given.tasks)
            api.post("/api/ml", json={"project": project["id"], "url": url, "title": "E"}).raise_for_status()
            started = time.monotonic()
            store = ready(Path(folder) / "models")
            print(f"first batch queued after {time.monotonic() - started:.0f} s", flush=True)
            while store.status().doing or (store.facts() and store.facts().n_tasks < given.tasks):
                time.sleep(0.5)
            print(f"whole pool read after {time.monotonic() - started:.0f} s", flush=True)
            measured = measure(api, url, project, truth, given)
    print(describe("label-studio-ml", "scikit-learn"))
    print(
        f"Label Studio {label_studio.VERSION} on SQLite, {given.tasks} texts, {len(set(truth.values()))} classes\n"
    )
    for what, seconds in measured.items():
        p50, p95 = np.percentile(seconds, [50, 95])
        print(f"{what:45} n {len(seconds):3}   p50 {p50:6.2f} s   p95 {p95:6.2f} s   max {max(seconds):6.2f} s")


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


def measure(
    api: httpx.Client, url: str, project: Json, truth: dict[str, str], given: argparse.Namespace
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"until /predict answers with it": [], "until its row shows it": []}
    for _ in range(given.submits):
        task = api.get(f"/api/projects/{project['id']}/next").raise_for_status().json()
        time.sleep(given.think)
        answer = truth[task["data"]["text"]]
        choice = {"choices": [answer]}
        result = [{"from_name": "intent", "to_name": "text", "type": "choices", "value": choice}]
        body = {"result": result, "lead_time": given.think}
        api.post(f"/api/tasks/{task['id']}/annotations/", json=body).raise_for_status()
        submitted = time.perf_counter()
        for what, look in zip(found, (_predicted, _in_rows), strict=True):
            found[what].append(_until(partial(look, api, url, project, task), answer) - submitted)
    return found


def _predicted(api: httpx.Client, url: str, project: Json, task: Json) -> list[Json]:
    asked = {"id": task["id"], "data": task["data"]}
    request = {"tasks": [asked], "project": project_key(project), "label_config": project["label_config"]}
    results: list[Json] = httpx.post(f"{url}/predict", json=request, timeout=60).json()["results"]
    return results


def _in_rows(api: httpx.Client, url: str, project: Json, task: Json) -> list[Json]:
    predictions: list[Json] = api.get(f"/api/tasks/{task['id']}").json()["predictions"]
    return predictions


def _until(look: Callable[[], list[Json]], answer: str, *, patience: float = 120) -> float:
    """Return when a prediction says the annotator's own answer, which scores 1."""
    end = time.perf_counter() + patience
    while time.perf_counter() < end:
        if any(p["score"] == 1.0 and p["result"][0]["value"]["choices"] == [answer] for p in look() if p["result"]):
            return time.perf_counter()
        time.sleep(0.03)
    raise TimeoutError(f"not known after {patience:g} s")


if __name__ == "__main__":
    main()
