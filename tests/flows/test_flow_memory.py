"""How far the real processes grow over what hostile hosts and images send."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

import hostile
from bombs import BOMBS, bomb
from conftest import Backend
from exemplar.demo.processes import free_port
from flows.conftest import Flow
from flows.fake_label_studio import TOKEN
from hostile import answer, hosting

ALLOWED = 500 * 2**20


@pytest.fixture
def backend(flow: Flow, tmp_path: Path) -> Iterator[Backend]:
    """The real `exemplar serve` beside the in-memory Label Studio."""
    backend = Backend(
        free_port(9190), tmp_path, {"LABEL_STUDIO_URL": flow.studio.url, "LABEL_STUDIO_API_KEY": TOKEN}
    )
    backend.start()
    yield backend
    backend.stop()


def processes(of: int) -> list[int]:
    """Return a process and all that it started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found = [of]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def memory(process: int, what: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(what)), 0)


@pytest.mark.timeout(300)
def test_bombs_of_every_kind_leave_worker_and_server_within_500_mb(flow: Flow, backend: Backend) -> None:
    project = flow.project(connected=False)
    flow.studio.connect(project, backend.url, extra_params=flow.extra_params)
    wait(lambda: backend.status(project).get("state") == "ready" and flow.queue(project))
    time.sleep(1)
    assert backend.process is not None
    ours = processes(backend.process.pid)
    idle = {process: memory(process, "VmRSS") for process in ours}
    for process in ours:
        Path(f"/proc/{process}/clear_refs").write_text("5")

    with ExitStack() as ended:
        served = [hostile.gzip_bomb(), hostile.endless, hostile.gzip_bomb(256 * 2**20)]
        hosts = [ended.enter_context(hosting(manner)) for manner in served]
        hosts += [ended.enter_context(hosting(answer(bomb(kind)))) for kind in BOMBS]
        addresses = [f"{host.url}/{n}.png" for host in hosts for n in range(2)]
        addresses += [hostile.data_address(bomb("png, 89 million pixels of grey"))]
        n_before = len(flow.studio.state.tasks_of(project["id"]))
        tasks = flow.studio.state.import_tasks(project["id"], [{"image": address} for address in addresses])
        # The same ones through /predict, as a stranger without credentials would.
        body = {"tasks": [{"data": task["data"]} for task in tasks], "project": flow.key(project)}
        said = httpx.post(f"{backend.url}/predict", json=body, timeout=60, trust_env=False)
        assert said.status_code == 200
        assert len(said.json()["results"]) == len(tasks)

        def all_read() -> bool:
            now = backend.status(project)
            return bool(now["unread"] == 0 and now["tasks"] == n_before + len(tasks) and now["left_out"] > 20)

        wait(all_read, 150)
        grown = {process: memory(process, "VmHWM") - idle[process] for process in ours}
    assert processes(backend.process.pid) == ours, "a process died and was started again"
    assert max(grown.values()) < ALLOWED, {process: n >> 20 for process, n in grown.items()}


def wait(holds: Callable[[], Any], seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it never held"
        time.sleep(0.2)
