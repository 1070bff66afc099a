"""Submit as the annotator feels it: the POST of an annotation to a real Label Studio 1.23.2.

Each task comes from Label Studio's queue, as in the label stream; then the annotator thinks, then Submits.

Four cases in one run, in turns: a project without a backend; the same with pre-annotations that somebody imported,
which Label Studio copies into each annotation; one with ours idle (its webhooks are answered, no refresh runs: we
hold the project's lock); one with ours training (a refresh and its patches all the time).

    .venv/bin/python benchmarks/submit.py [--rounds 30] [--submits 5] [--think 0.7]
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from machine import describe

from exemplar.demo import digits, label_studio
from exemplar.demo.processes import LOOPBACK, free_port, running_server, wait_until_up
from exemplar.labelstudio.client import Client
from exemplar.store.home import Home
from exemplar.store.project_store import ProjectStore

REPOSITORY = Path(__file__).parent.parent
ALONE, IMPORTED, IDLE, TRAINING = "without a backend", "imported rows alone", "ours, idle", "ours, training"
CASES = (ALONE, IMPORTED, IDLE, TRAINING)
Json = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--submits", type=int, default=5, help="of each case in each round")
    options.add_argument("--think", type=float, default=0.7, help="seconds from the task to its Submit")
    given = options.parse_args()
    venv = REPOSITORY / ".demo" / "venv"
    label_studio.install(venv)
    with tempfile.TemporaryDirectory(prefix="exemplar-benchmark-") as folder:
        studio_log = Path(folder) / "label-studio.log"
        with (
            label_studio.running(venv, Path(folder) / "data", port=free_port(8280), log_path=studio_log) as studio,
            httpx.Client(
                base_url=studio.url, headers={"Authorization": f"Token {studio.token}"}, timeout=120
            ) as api,
            backend(studio, Path(folder)) as url,
        ):
            alone, imported, ours = make_project(api), make_project(api), make_project(api)
            # An organization's first visit writes a row, and is refused while an import holds the database.
            for _ in range(2):
                api.get(f"/api/projects/{alone['id']}/next").raise_for_status()
            import_rows(api, imported, Client(studio.url, studio.token).task_ids(imported["id"]))
            body = {"project": ours["id"], "url": url, "title": "Exemplar"}
            api.post("/api/ml", json=body).raise_for_status()
            store = ready(Path(folder) / "models")
            projects = {ALONE: alone, IMPORTED: imported, IDLE: ours, TRAINING: ours}
            try:
                seconds, busy = measure(api, projects, store, given)
            except httpx.HTTPStatusError:
                print(studio_log.read_text()[-10_000:])  # why it refused, before the log goes with its folder
                raise
    report(seconds, busy, given)


@contextmanager
def backend(studio: label_studio.LabelStudio, folder: Path) -> Iterator[str]:
    port, log = free_port(9380), folder / "backend.log"
    environment = {
        **os.environ,
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": studio.token,
        "MODEL_DIR": str(folder / "models"),
    }
    command = [sys.executable, "-m", "exemplar", "serve", "--port", str(port)]
    with running_server(command, env=environment, log_path=log) as server:
        wait_until_up(server, f"http://{LOOPBACK}:{port}/health", name="The backend", log_path=log, seconds=60)
        yield f"http://localhost:{port}"


def make_project(api: httpx.Client) -> Json:
    config = (REPOSITORY / "label_config.xml").read_text()
    project: Json = api.post("/api/projects/", json={"title": "Digits", "label_config": config}).json()
    for start in range(0, len(digits.POOL), 100):
        files = {
            digits.file_name(i): (digits.file_name(i), digits.png(i), "image/png")
            for i in range(start, start + 100)
        }
        api.post(f"/api/projects/{project['id']}/import", files=files).raise_for_status()
    return project


def import_rows(api: httpx.Client, project: Json, tasks: set[int]) -> None:
    """Give a project pre-annotations as anybody can, shown and served in the order of their scores as ours are."""
    rows = [
        {"task": task, "result": answer("3"), "score": i / len(tasks), "model_version": "imported"}
        for i, task in enumerate(sorted(tasks))
    ]
    api.post(f"/api/projects/{project['id']}/import/predictions", json=rows).raise_for_status()
    shown = {"model_version": "imported", "sampling": "Uncertainty sampling", "show_collab_predictions": True}
    api.patch(f"/api/projects/{project['id']}/", json=shown).raise_for_status()


def answer(digit: str) -> list[Json]:
    return [{"from_name": "digit", "to_name": "image", "type": "choices", "value": {"choices": [digit]}}]


def ready(models: Path) -> ProjectStore:
    while True:
        for store in Home(models).stores():
            if store.status().state == "ready" and not store.status().doing:
                return store
        time.sleep(0.2)


def measure(
    api: httpx.Client, projects: dict[str, Json], store: ProjectStore, given: argparse.Namespace
) -> tuple[dict[str, list[float]], float]:
    """Return the seconds of each Submit by case, and in which share of the last case ours was at work."""
    seconds: dict[str, list[float]] = {case: [] for case in CASES}
    busy: list[bool] = []
    shuffle = random.Random(0)
    for _ in range(given.rounds):
        for case in shuffle.sample(CASES, len(CASES)):
            with undisturbed(store, training=case == TRAINING):
                for _ in range(given.submits):
                    task = api.get(f"/api/projects/{projects[case]['id']}/next").raise_for_status().json()
                    time.sleep(given.think)
                    if case == TRAINING:
                        busy.append(bool(store.status().doing or store.status().pending_rows))
                    seconds[case].append(submit(api, task))
    return seconds, sum(busy) / len(busy)


@contextmanager
def undisturbed(store: ProjectStore, *, training: bool) -> Iterator[None]:
    """Let the worker train, or hold the project's lock against it, once the refresh that runs has ended."""
    if training:
        time.sleep(2)  # to get going
        yield
        return
    store.raise_number("webhooks")  # it puts off its patches for what is newer
    while True:
        with store.lock() as ours:
            if ours:
                yield
                return
        time.sleep(0.01)


def submit(api: httpx.Client, task: Json) -> float:
    result = answer(str(digits.true_digit(task["data"])))
    shown = task["predictions"][0]["id"] if task.get("predictions") else None  # the label stream sends it back
    annotation = {"result": result, "lead_time": 1.5, "parent_prediction": shown}
    started = time.perf_counter()
    response = api.post(f"/api/tasks/{task['id']}/annotations/", json=annotation)
    seconds = time.perf_counter() - started
    response.raise_for_status()
    return seconds


def report(seconds: dict[str, list[float]], busy: float, given: argparse.Namespace) -> None:
    print(describe("label-studio-ml", "scikit-learn", "uvicorn"))
    print(f"Label Studio {label_studio.VERSION} on SQLite, 1 400 tasks a project, {given.think:g} s to think;")
    print(f"ours was at work at {busy:.0%} of the Submits of the last case\n")
    print(f"{'POST of an annotation':22}{'n':>5}{'p50':>9}{'p95':>9}{'p99':>9}   medians against")
    print(f"{'':54}   {'no backend':24}imported rows (95 % interval)")
    for case, values in seconds.items():
        times = np.array(values)
        p50, p95, p99 = np.percentile(times, [50, 95, 99])
        print(f"{case:22}{len(times):5}{1e3 * p50:7.0f}ms{1e3 * p95:7.0f}ms{1e3 * p99:7.0f}ms", end="")
        print("".join(f"   {ratio_of_medians(times, np.array(seconds[base]))}" for base in (ALONE, IMPORTED)))


def ratio_of_medians(times: np.ndarray, base: np.ndarray) -> str:
    """Return the ratio with its bootstrap interval."""
    random_state = np.random.default_rng(0)
    ratios = [
        np.median(random_state.choice(times, len(times))) / np.median(random_state.choice(base, len(base)))
        for _ in range(2000)
    ]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return f"{np.median(times) / np.median(base):.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
