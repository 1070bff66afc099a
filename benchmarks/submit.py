"""Submit as the annotator feels it: the POST of an annotation to a real Label Studio 1.23.2.

An annotator is logged in, takes each task from Label Studio's queue, thinks, and sends what the label stream sends.

Five cases in one run: a project without a backend; one with pre-annotations that somebody imported, which
Label Studio copies into each annotation; the same with a webhook to a bare socket, which answers at once and does
nothing: what Label Studio takes to tell anybody of an annotation; ours idle (its webhooks are answered, no refresh
runs: we hold the project's lock); ours training (a refresh and its patches all the time).

They take turns, some Submits each. With ``--together`` an annotator each, who think at the same time and submit one
after the other, the one of ours in training last: so that what ours then does is over, as far as it keeps to their
rhythm, when the others submit again.

    .venv/bin/python benchmarks/submit.py [--rounds 30] [--submits 10] [--think 0.7] [--together] [--cases 2 3 4]
"""

import argparse
import multiprocessing
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import httpx
import numpy as np
from machine import describe
from running import Json, answer, logged_in, make_digits, running

from exemplar.demo import digits, label_studio
from exemplar.demo.processes import LOOPBACK
from exemplar.labelstudio.client import Client
from exemplar.store.project_store import ProjectStore

ALONE, IMPORTED, TOLD = "without a backend", "imported rows", "rows and any webhook"
IDLE, TRAINING = "ours, idle", "ours, training"
CASES = (ALONE, IMPORTED, TOLD, IDLE, TRAINING)
# Annotators who think at the same time submit so many seconds after one another.
BETWEEN = 0.3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--submits", type=int, default=10, help="of each case in each round")
    options.add_argument("--think", type=float, default=0.7, help="seconds from the task to its Submit")
    options.add_argument("--together", action="store_true", help="an annotator for each case, all at once")
    listed = "; ".join(f"{i}: {case}" for i, case in enumerate(CASES))
    options.add_argument("--cases", type=int, nargs="+", default=range(len(CASES)), help=listed)
    given = options.parse_args()
    cases = [CASES[i] for i in sorted(given.cases)]
    with running() as it, logged_in(it.studio) as annotator, bare_listener() as listener:
        projects = {case: make_digits(it.api) for case in cases}
        for project in (projects[case] for case in (IMPORTED, TOLD) if case in cases):
            import_rows(it.api, project, Client(it.studio.url, it.studio.token).task_ids(project["id"]))
        if TOLD in cases:
            hook = {"url": listener, "send_payload": False, "send_for_all_actions": True}
            it.api.post("/api/webhooks/", json={"project": projects[TOLD]["id"], **hook}).raise_for_status()
        stores = {case: it.connect(projects[case]) for case in (IDLE, TRAINING) if case in cases}
        for case in stores:
            fill(annotator, projects[case])
        run = measure_together if given.together else measure
        seconds, busy = run(annotator, projects, stores, given)
    report(seconds, busy, given)


@contextmanager
def bare_listener() -> Iterator[str]:
    """Run what answers a webhook as fast as anything can: a process that only accepts, reads and sends."""
    listener = socket.create_server((LOOPBACK, 0))
    process = multiprocessing.get_context("fork").Process(target=_answer_at_once, args=(listener,), daemon=True)
    process.start()
    try:
        yield f"http://localhost:{listener.getsockname()[1]}/"
    finally:
        process.terminate()
        process.join()
        listener.close()


def _answer_at_once(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            received = connection.recv(65536)
            if not received.endswith(b"}"):  # the head alone: the body comes apart
                connection.recv(65536)
            connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")


def import_rows(api: httpx.Client, project: Json, tasks: set[int]) -> None:
    """Give a project pre-annotations as anybody can, shown and served in the order of their scores as ours are."""
    rows = [
        {"task": task, "result": answer("3"), "score": i / len(tasks), "model_version": "imported"}
        for i, task in enumerate(sorted(tasks))
    ]
    api.post(f"/api/projects/{project['id']}/import/predictions", json=rows).raise_for_status()
    shown = {"model_version": "imported", "sampling": "Uncertainty sampling", "show_collab_predictions": True}
    api.patch(f"/api/projects/{project['id']}/", json=shown).raise_for_status()


def fill(annotator: httpx.Client, project: Json) -> None:
    """Submit until each task has its row: `fill.py` measures what Submits take while rows are imported."""
    while True:
        counts = annotator.get(f"/api/projects/{project['id']}/").raise_for_status().json()
        if counts["total_predictions_number"] >= counts["task_number"]:
            return
        submit(annotator, next_task(annotator, project))
        time.sleep(1)


def measure(
    annotator: httpx.Client,
    projects: dict[str, Json],
    stores: dict[str, ProjectStore],
    given: argparse.Namespace,
) -> tuple[dict[str, list[float]], float]:
    """Return the seconds of each Submit by case, and in which share of the last case ours was at work."""
    seconds: dict[str, list[float]] = {case: [] for case in projects}
    busy: list[bool] = []
    shuffle = random.Random(0)
    for _ in range(given.rounds):
        for case in shuffle.sample(list(projects), len(projects)):
            with ExitStack() as held:
                if IDLE in stores and case != TRAINING:
                    held.enter_context(idle(stores[IDLE]))
                if case == TRAINING:
                    time.sleep(2)  # to get going
                for _ in range(given.submits):
                    task = next_task(annotator, projects[case])
                    time.sleep(given.think)
                    if case == TRAINING:
                        busy.append(is_at_work(stores[TRAINING]))
                    seconds[case].append(submit(annotator, task))
    return seconds, float(np.mean(busy)) if busy else np.nan


def measure_together(
    annotator: httpx.Client,
    projects: dict[str, Json],
    stores: dict[str, ProjectStore],
    given: argparse.Namespace,
) -> tuple[dict[str, list[float]], float]:
    """Return the same of annotators who all think at the same time."""
    seconds: dict[str, list[float]] = {case: [] for case in projects}
    busy: list[bool] = []
    shuffle = random.Random(0)
    others = [case for case in projects if case != TRAINING]
    with ExitStack() as held:
        if IDLE in stores:
            held.enter_context(idle(stores[IDLE]))
        for _ in range(given.rounds * given.submits):
            cases = [*shuffle.sample(others, len(others)), *([TRAINING] if TRAINING in projects else [])]
            tasks = {case: next_task(annotator, projects[case]) for case in cases}
            time.sleep(given.think)
            for case in cases:
                if case == TRAINING:
                    busy.append(is_at_work(stores[TRAINING]))
                seconds[case].append(submit(annotator, tasks[case]))
                time.sleep(BETWEEN)
    return seconds, float(np.mean(busy)) if busy else np.nan


def next_task(annotator: httpx.Client, project: Json) -> Json:
    task: Json = annotator.get(f"/api/projects/{project['id']}/next").raise_for_status().json()
    return task


def is_at_work(store: ProjectStore) -> bool:
    return bool(store.status().doing or store.status().pending_rows)


@contextmanager
def idle(store: ProjectStore) -> Iterator[None]:
    """Hold the project's lock against the worker, once the refresh that runs has ended."""
    store.raise_number("webhooks")  # it puts off its patches for what is newer
    while True:
        with store.lock() as ours:
            if ours:
                yield
                return
        time.sleep(0.01)


def submit(annotator: httpx.Client, task: Json) -> float:
    """Send what the label stream of Label Studio 1.23.2 sends; return how long that took."""
    annotation = {
        "lead_time": 1.5,
        "result": answer(str(digits.true_digit(task["data"]))),
        "draft_id": 0,
        "parent_prediction": task["predictions"][0]["id"] if task["predictions"] else None,
        "parent_annotation": None,
        "started_at": datetime.now(UTC).isoformat(),
        "project": str(task["project"]),
    }
    started = time.perf_counter()
    response = annotator.post(f"/api/tasks/{task['id']}/annotations?project={task['project']}", json=annotation)
    seconds = time.perf_counter() - started
    response.raise_for_status()
    return seconds


def report(seconds: dict[str, list[float]], busy: float, given: argparse.Namespace) -> None:
    print(describe("label-studio-ml", "scikit-learn", "uvicorn"))
    print(f"Label Studio {label_studio.VERSION} on SQLite, 1 400 tasks a project, {given.think:g} s to think;")
    how = "all at once" if given.together else "in turns"
    print(f"{how}; ours had work at {busy:.0%} of the Submits in training\n")
    against = [base for base in (ALONE, IMPORTED, TOLD) if base in seconds]
    print(f"{'POST of an annotation':22}{'n':>5}{'p50':>9}{'p95':>9}{'p99':>9}   median against (95 % interval)")
    print(f"{'':54}" + "".join(f"   {base:22}" for base in against))
    for case, values in seconds.items():
        times = np.array(values)
        p50, p95, p99 = 1e3 * np.percentile(times, [50, 95, 99])
        print(f"{case:22}{len(times):5}{p50:7.1f}ms{p95:7.1f}ms{p99:7.1f}ms", end="")
        print("".join(f"   {ratio(times, np.array(seconds[base]), 50):22}" for base in against))
    for case in (IDLE, TRAINING):
        if TOLD in seconds and case in seconds:
            found = ratio(np.array(seconds[case]), np.array(seconds[TOLD]), 95)
            print(f"{case}: p95 against {TOLD!r}: {found}")


def ratio(times: np.ndarray, base: np.ndarray, percentile: int) -> str:
    """Return the ratio of two percentiles with its bootstrap interval."""
    random_state = np.random.default_rng(0)
    ratios = [
        np.percentile(random_state.choice(times, len(times)), percentile)
        / np.percentile(random_state.choice(base, len(base)), percentile)
        for _ in range(2000)
    ]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return f"{np.percentile(times, percentile) / np.percentile(base, percentile):.3f} ({low:.3f}-{high:.3f})"


if __name__ == "__main__":
    main()
