"""Load on a running ``exemplar serve``: webhooks, /predict, and bodies as large as are taken, with their memory.

Label Studio is the in-memory one of the tests, with 10 000 short texts. The requests come over keep-alive
connections from a process of their own. Webhooks are due at a fixed rate and timed from when they were due, so that
a slow answer is not hidden by the requests that waited for it. Memory is resident: before, after, and the peak.

    .venv/bin/python benchmarks/load.py [--seconds 10] [--rate 2000]
"""

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from machine import describe

from exemplar.demo.processes import LOOPBACK, free_port, running_server, wait_until_up
from exemplar.model import project_key
from exemplar.server.bodies import CAPS, MIB, MOST_VALUES, n_values

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from flows import fake_label_studio
from flows.fake_label_studio import TOKEN
from flows.serving import Switch, serving
from flows.test_flow_webhook import recorded

N_TASKS = 10_000
N_CONNECTIONS = 32
N_LARGE = 8
ALLOWED = 500 * MIB
SETTLED_WITHIN = 60
CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="topic" toName="text">'
    '<Choice value="A"/><Choice value="B"/></Choices></View>'
)
Answers = list[tuple[int, float]]
Json = dict[str, Any]


@dataclass(frozen=True)
class Served:
    """A running backend: its port, its processes' names by their ids, and the project it knows."""

    port: int
    processes: dict[int, str]
    project: Json
    tasks: list[Json]

    def predict_body(self, tasks: list[Json]) -> bytes:
        body = {"tasks": tasks, "project": project_key(self.project), "label_config": CONFIG}
        return json.dumps(body).encode()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=int, default=10, help="of webhooks")
    options.add_argument("--rate", type=int, default=2_000, help="webhooks a second")
    given = options.parse_args()
    print(describe("uvicorn", "fastapi", "orjson"))
    with served() as it:
        print(f"\n{'':40}{'n':>7}{'not 2xx':>9}{'a second':>10}{'p50':>10}{'p99':>10}{'max':>10}   memory, MiB")
        event = json.dumps(recorded("ANNOTATION_CREATED", it.project)).encode()
        n = given.rate * given.seconds
        measure(it, f"webhooks, {given.rate} a second", at_a_rate, "/webhook", event, n, given.rate)
        measure(it, f"webhooks, {N_CONNECTIONS} connections at once", at_once, "/webhook", event, n, N_CONNECTIONS)
        all_tasks = it.predict_body(it.tasks)
        measure(it, f"/predict of {N_TASKS} tasks", at_once, "/predict", all_tasks, 5, 1)
        measure(
            it, "/predict of one task, 100 at once", at_once, "/predict", it.predict_body(it.tasks[:1]), 300, 100
        )
        print(f"\n{N_LARGE} bodies at once, as large as are taken:")
        grown = [
            measure(it, "webhooks of 256 MiB", at_once, "/webhook", large_event(event), N_LARGE, N_LARGE),
            measure(it, "/predict of 32 MiB", at_once, "/predict", large_predict(it), N_LARGE, N_LARGE),
        ]
        print(f"most that a process grew over large bodies: {max(grown) // MIB} MiB, allowed {ALLOWED // MIB}")


@contextmanager
def served() -> Iterator[Served]:
    """Run the backend beside the in-memory Label Studio until its queue is ready."""
    switch = Switch()
    with (
        tempfile.TemporaryDirectory(prefix="exemplar-load-") as folder,
        serving(switch) as address,
        fake_label_studio.running(switch, address) as studio,
    ):
        project = studio.state.create_project({"title": "Load", "label_config": CONFIG})
        texts = [{"text": f"text {i} of {i % 97} and {i % 89}, {i % 7}"} for i in range(N_TASKS)]
        tasks = studio.state.import_tasks(project["id"], texts)
        port, log = free_port(9680), Path(folder) / "backend.log"
        environment = {
            **os.environ,
            "LABEL_STUDIO_URL": studio.url,
            "LABEL_STUDIO_API_KEY": TOKEN,
            "MODEL_DIR": f"{folder}/models",
        }
        command = [sys.executable, "-m", "exemplar", "serve", "--port", str(port)]
        with running_server(command, env=environment, log_path=log) as server:
            url = f"http://{LOOPBACK}:{port}"
            wait_until_up(server, f"{url}/health", name="The backend", log_path=log, seconds=60)
            studio.connect(project, url)
            wait_until_settled(url)
            yield Served(port, processes(server.pid), project, tasks)


def wait_until_settled(url: str) -> None:
    """Return once the queue is ready and no row is left to write; after a while, say what is left and go on."""
    ends = time.monotonic() + SETTLED_WITHIN
    while True:
        now: Json = next(iter(httpx.get(url, trust_env=False).json()["projects"].values()), {})
        if now.get("state") == "ready" and not now.get("doing") and not now.get("pending_rows"):
            return
        if time.monotonic() > ends:
            print(f"still at work: {now.get('state')}, {now.get('doing')}, {now.get('pending_rows')} rows pending")
            return
        time.sleep(0.2)


def measure(
    it: Served,
    what: str,
    manner: Callable[[int, str, bytes, int, int], Awaitable[Answers]],
    path: str,
    body: bytes,
    n: int,
    pace: int,
) -> int:
    """Send requests from a process of their own; print a row, return the most that a process of ours grew."""
    before = {process: memory(process, "VmRSS") for process in it.processes}
    for process in it.processes:
        Path(f"/proc/{process}/clear_refs").write_text("5")  # the peak is counted from now
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        answers, took = pool.apply_async(_run, (manner, it.port, path, body, n, pace)).get(timeout=60)
    p50, p99 = np.percentile([seconds for _, seconds in answers], [50, 99])
    slowest = max(seconds for _, seconds in answers)
    n_wrong = sum(not 200 <= status < 300 for status, _ in answers)
    peak = {process: memory(process, "VmHWM") for process in it.processes}
    used = "; ".join(
        f"{name} {before[process] // MIB} → {memory(process, 'VmRSS') // MIB}, peak {peak[process] // MIB}"
        for process, name in it.processes.items()
    )
    times = "".join(f"{1000 * seconds:>8.1f}ms" for seconds in (p50, p99, slowest))
    print(f"{what:40}{n:>7}{n_wrong:>9}{n / took:>10.0f}{times}   {used}", flush=True)
    return max(peak[process] - before[process] for process in it.processes)


def _run(manner: Any, *arguments: Any) -> tuple[Answers, float]:
    gc.disable()  # to look for garbage among all that is imported here halts this process for a tenth of a second
    started = time.perf_counter()
    return asyncio.run(manner(*arguments)), time.perf_counter() - started


async def at_a_rate(port: int, path: str, body: bytes, n: int, rate: int) -> Answers:
    """Send each request when it is due; a connection that is late sends at once, and its lateness counts."""
    started = time.perf_counter() + 0.1

    async def due(first: int) -> AsyncIterator[float]:
        for i in range(first, n, N_CONNECTIONS):
            at = started + i / rate
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            yield at

    connections = (_connection(port, path, body, due(first)) for first in range(N_CONNECTIONS))
    return [answer for answers in await asyncio.gather(*connections) for answer in answers]


async def at_once(port: int, path: str, body: bytes, n: int, n_connections: int) -> Answers:
    """Send as fast as answers come, over so many connections."""

    async def now(first: int) -> AsyncIterator[float]:
        for _ in range(first, n, n_connections):
            yield time.perf_counter()

    connections = (_connection(port, path, body, now(first)) for first in range(n_connections))
    return [answer for answers in await asyncio.gather(*connections) for answer in answers]


async def _connection(port: int, path: str, body: bytes, times: AsyncIterator[float]) -> Answers:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    head = f"POST {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    answers = []
    async for since in times:
        writer.write(head.encode())
        for start in range(0, len(body), MIB):
            writer.write(body[start : start + MIB])
            await writer.drain()
        answered = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = answered.partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        answers.append((int(answered.split()[1]), time.perf_counter() - since))
    writer.close()
    return answers


def large_event(event: bytes) -> bytes:
    """Return a webhook's event as long as is taken; its action stands first."""
    start = event[:-1] + b', "tasks": "'
    return start + b"x" * (CAPS["/webhook"] - len(start) - 2) + b'"}'


def large_predict(it: Served) -> bytes:
    """Return a /predict as long and of as many values as are taken."""
    tasks = [dict(task) for task in it.tasks]
    n_left = MOST_VALUES["/predict"] - n_values(it.predict_body(tasks)) - N_TASKS * 2
    empty: list[Any] = [[]] * (n_left // 2 // N_TASKS)  # a value is a bracket and a comma
    tasks = [task | {"meta": {"x": empty, "y": ""}} for task in tasks]
    room = (CAPS["/predict"] - len(it.predict_body(tasks))) // N_TASKS
    for task in tasks:
        task["meta"] = {"x": empty, "y": "x" * room}
    body = it.predict_body(tasks)
    assert len(body) <= CAPS["/predict"]
    assert n_values(body) <= MOST_VALUES["/predict"]
    return body


def processes(supervisor: int) -> dict[int, str]:
    """Return the processes that the supervisor has started, in this order."""
    started = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == supervisor and b"spawn_main" in command:
            started.append(int(path.parent.name))
    return dict(zip(sorted(started), ("web", "predictor", "worker"), strict=True))


def memory(process: int, what: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


if __name__ == "__main__":
    main()
