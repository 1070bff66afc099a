"""Submit as the annotator feels it: the POST of an annotation to a real Label Studio 1.23.2.

An annotator is logged in, takes each task from Label Studio's queue, thinks, and sends what the label stream sends.

Five cases in one run, in turns: a project without a backend; one with pre-annotations that somebody imported, which
Label Studio copies into each annotation; the same with a webhook to a bare socket, which answers at once and does
nothing: what Label Studio takes to tell anybody of an annotation; ours idle (its webhooks are answered, no refresh
runs: we hold the project's lock); ours training (a refresh and its patches all the time).

    .venv/bin/python benchmarks/submit.py [--rounds 30] [--submits 10] [--think 0.7]
"""

import argparse
import multiprocessing
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--submits", type=int, default=10, help="of each case in each round")
    options.add_argument("--think", type=float, default=0.7, help="seconds from the task to its Submit")
    given = options.parse_args()
    with running() as it, logged_in(it.studio) as annotator, bare_listener() as listener:
        alone, imported, told, ours = (make_digits(it.api) for _ in range(4))
        for project in (imported, told):
            import_rows(it.api, project, Client(it.studio.url, it.studio.token).task_ids(project["id"]))
        hook = {"project": told["id"], "url": listener, "send_payload": False, "send_for_all_actions": True}
        it.api.post("/api/webhooks/", json=hook).raise_for_status()
        store = it.connect(ours)
        projects = dict(zip(CASES, (alone, imported, told, ours, ours), strict=True))
        seconds, busy = measure(annotator, projects, store, given)
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


def measure(
    annotator: httpx.Client, projects: dict[str, Json], store: ProjectStore, given: argparse.Namespace
) -> tuple[dict[str, list[float]], float]:
    """Return the seconds of each Submit by case, and in which share of the last case ours was at work."""
    seconds: dict[str, list[float]] = {case: [] for case in CASES}
    busy: list[bool] = []
    shuffle = random.Random(0)
    for _ in range(given.rounds):
        for case in shuffle.sample(CASES, len(CASES)):
            with undisturbed(store, training=case == TRAINING):
                for _ in range(given.submits):
                    task = annotator.get(f"/api/projects/{projects[case]['id']}/next").raise_for_status().json()
                    time.sleep(given.think)
                    if case == TRAINING:
                        busy.append(bool(store.status().doing or store.status().pending_rows))
                    seconds[case].append(submit(annotator, task))
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
    print(f"ours was at work at {busy:.0%} of the Submits of the last case\n")
    against = (ALONE, IMPORTED, TOLD)
    print(f"{'POST of an annotation':22}{'n':>5}{'p50':>9}{'p95':>9}{'p99':>9}   median against (95 % interval)")
    print(f"{'':54}" + "".join(f"   {base:22}" for base in against))
    for case, values in seconds.items():
        times = np.array(values)
        p50, p95, p99 = 1e3 * np.percentile(times, [50, 95, 99])
        print(f"{case:22}{len(times):5}{p50:7.1f}ms{p95:7.1f}ms{p99:7.1f}ms", end="")
        print("".join(f"   {ratio_of_medians(times, np.array(seconds[base])):22}" for base in against))


def ratio_of_medians(times: np.ndarray, base: np.ndarray) -> str:
    """Return the ratio with its bootstrap interval."""
    random_state = np.random.default_rng(0)
    ratios = [
        np.median(random_state.choice(times, len(times))) / np.median(random_state.choice(base, len(base)))
        for _ in range(2000)
    ]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return f"{np.median(times) / np.median(base):.3f} ({low:.3f}-{high:.3f})"


if __name__ == "__main__":
    main()
