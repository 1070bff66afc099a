"""What /predict does to the other routes, and what becomes of large ones."""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import pytest

import hostile
from conftest import Backend
from exemplar.demo.processes import LOOPBACK, free_port
from exemplar.model import project_key
from exemplar.server.bodies import MIB, MOST_VALUES
from flows.conftest import Flow
from flows.fake_label_studio import TOKEN
from flows.fake_state import Json
from flows.test_flow_memory import wait
from hostile import hosting

# Nearly as many values as are taken.
MOST = MOST_VALUES["/predict"] - 10_000
# Not in this process: it measures. Each caller asks over and over, one body after the other.
CALL = """
import itertools, sys, httpx
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
url, n_callers, *paths = sys.argv[1:]
bodies = [Path(path).read_bytes() for path in paths]
def call(first):
    with httpx.Client(trust_env=False, verify=False, timeout=60) as client:
        for n in itertools.count(first, int(n_callers)):
            headers = {"Content-Type": "application/json"}
            sys.stdout.write(f"{client.post(url, content=bodies[n % len(bodies)], headers=headers).status_code}\\n")
            sys.stdout.flush()
with ThreadPoolExecutor(int(n_callers)) as callers:
    list(callers.map(call, range(int(n_callers))))
"""
N_PROBES = 200
AT_ONCE = 0.05


@pytest.fixture
def backend(flow: Flow, tmp_path: Path) -> Iterator[Backend]:
    """The real `exemplar serve` beside the in-memory Label Studio."""
    settings = {"LABEL_STUDIO_URL": flow.studio.url, "LABEL_STUDIO_API_KEY": TOKEN}
    backend = Backend(free_port(9290), tmp_path, settings)
    backend.start()
    yield backend
    backend.stop()


@pytest.fixture
def project(flow: Flow, backend: Backend) -> Json:
    project = flow.project(connected=False)
    flow.studio.connect(project, backend.url, extra_params=flow.extra_params)
    wait(lambda: backend.status(project).get("state") == "ready" and flow.queue(project))
    return project


def large_ones(task: Json) -> list[bytes]:
    """Return what takes longest to read or to answer; some of it is refused."""
    long = json.dumps({"data": {"text": "word " * 400}}).encode()
    return [
        b",".join([long] * 12_000),
        b",".join([json.dumps(task).encode()] * 10_000),
        b'"' + b"x" * (31 * MIB) + b'"',
        b"[]," * (MOST // 2) + b"1",
        b"[]," * MOST + b"1",
        (b"[" * 500 + b"]" * 500 + b",") * (MOST // 501) + b"1",
        b"[" * MIB,
        b"{" + b",".join(b'"k%d":1' % n for n in range(MOST)) + b"}",
        b",".join(
            b'{"data": {%s}}' % b",".join(b'"k%d":[]' % k for k in range(9_000)) for _ in range(MOST // 18_000)
        ),
    ]


@dataclass(frozen=True)
class Asked:
    """How many callers ask /predict at once, of which tasks, until so many answers came, of which statuses."""

    n_callers: int
    tasks: list[bytes]
    n_answers: int
    statuses: set[str]


@pytest.fixture(params=["large ones", "many small ones", "dripping hosts", "hanging hosts"])
def asked(request: pytest.FixtureRequest, flow: Flow, project: Json) -> Iterator[Asked]:
    tasks = flow.studio.state.tasks_of(project["id"])
    if request.param == "large ones":
        large = large_ones(tasks[0])
        yield Asked(2, large, len(large), {"200", "413", "422"})
    elif request.param == "many small ones":
        yield Asked(30, [json.dumps(task).encode() for task in tasks], 100, {"200"})
    else:
        with hosting(hostile.drip(0.5) if request.param == "dripping hosts" else hostile.hang) as host:
            yield Asked(60, [json.dumps({"data": {"image": f"{host.url}/x.png"}}).encode()], 0, set())


@contextmanager
def calling(url: str, n_callers: int, bodies: Sequence[bytes], folder: Path) -> Iterator[Callable[[], list[str]]]:
    """Let /predict be asked meanwhile; yields a function that returns the statuses of the answers so far."""
    paths = [folder / f"body-{n}" for n in range(len(bodies))]
    for path, body in zip(paths, bodies, strict=True):
        path.write_bytes(body)
    said = folder / "said"
    with said.open("w") as output:
        command = [sys.executable, "-c", CALL, url, str(n_callers), *map(str, paths)]
        process = subprocess.Popen(command, stdout=output)
    try:
        yield lambda: said.read_text().split()
    finally:
        process.kill()
        process.wait()


@contextmanager
def unhalted() -> Iterator[None]:
    """Keep this process, which measures, from looking for garbage: with all that pytest holds that takes 0.3 s."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.timeout(300)
def test_whatever_predict_does_all_other_routes_answer_at_once(
    flow: Flow, backend: Backend, project: Json, asked: Asked, tmp_path: Path
) -> None:
    bodies = [b'{"tasks": [%s], "project": "%s"}' % (some, flow.key(project).encode()) for some in asked.tasks]
    [connection] = flow.studio.state.backends_of(project["id"])
    calls = {
        "health": ("GET", "/health", None),
        "setup": ("POST", "/setup", flow.studio._setup_body(connection)),
        "webhook": ("POST", "/webhook", {"action": "ANNOTATION_CREATED", "project": {"id": 10**6}}),
    }
    took: dict[str, list[float]] = {name: [] for name in calls}
    with (
        unhalted(),
        httpx.Client(base_url=f"http://{LOOPBACK}:{backend.port}", trust_env=False, timeout=20) as client,
        calling(f"{backend.url}/predict", asked.n_callers, bodies, tmp_path) as said,
    ):
        while len(took["health"]) < N_PROBES or len(said()) < asked.n_answers:
            for name, (method, path, body) in calls.items():
                started = time.perf_counter()
                assert client.request(method, path, json=body).is_success
                took[name].append(time.perf_counter() - started)
            time.sleep(0.02)
        statuses = set(said())
    worst = {name: max(seconds) for name, seconds in took.items()}
    print(f"the slowest of {len(took['health'])}: {worst}")
    assert statuses == asked.statuses
    assert max(worst.values()) < AT_ONCE


def ask(backend: Backend, project: Json, tasks: list[Json]) -> httpx.Response:
    # As Label Studio writes it: what is asked comes after the tasks.
    content = orjson.dumps({"tasks": tasks, "project": project_key(project), "params": {"login": None}})
    headers = {"Content-Type": "application/json"}
    return httpx.post(f"{backend.url}/predict", content=content, headers=headers, timeout=60, trust_env=False)


def test_a_whole_tab_of_tasks_is_answered_as_each_of_them_alone(
    flow: Flow, backend: Backend, project: Json
) -> None:
    tasks = flow.studio.state.tasks_of(project["id"])
    alone = [ask(backend, project, [task]).json()["results"][0] for task in tasks]
    outside = [{"id": 10**6 + n, "data": {"image": "", "text": "word " * 400}} for n in range(12_000)]
    answer = ask(backend, project, [*outside, *tasks])
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert results[len(outside) :] == alone
    assert len(results) == len(outside) + len(tasks)
    assert all(result["result"] == [] for result in results[: len(outside)])
