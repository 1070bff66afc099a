"""`exemplar serve` as processes: one that dies is started again, and all end when they are told to."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from conftest import Backend
from exemplar import jobs
from exemplar.demo.processes import LOOPBACK, free_port
from exemplar.server import serve, supervisor
from exemplar.server.supervisor import Child, supervise

NICENESS = {0: "web", serve.PREDICTOR_NICENESS: "predictor", jobs.NICENESS: "worker"}

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    backend = Backend(free_port(9390), tmp_path, {})
    backend.start()
    try:
        until(lambda: children(backend).keys() == set(NICENESS.values()))
        yield backend
    finally:
        if backend.process is not None and backend.process.poll() is None:
            backend.stop(signal.SIGKILL)


def until(holds: Callable[[], bool], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.02)


def children(backend: Backend) -> dict[str, int]:
    """Return the processes by their names, as their command lines and niceness tell (one that starts: "web")."""
    assert backend.process is not None
    pid = backend.process.pid
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just died
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                niceness = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[16])
                found[NICENESS[niceness]] = int(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def health(backend: Backend) -> int:
    return httpx.get(f"http://{LOOPBACK}:{backend.port}/health", timeout=20, trust_env=False).status_code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS])
def test_a_web_process_that_dies_is_started_again_and_no_caller_is_refused(
    backend: Backend, number: signal.Signals
) -> None:
    web = children(backend)["web"]
    os.kill(web, number)
    until(lambda: not is_alive(web))
    for _ in range(3):
        assert health(backend) == 200
    assert children(backend)["web"] != web
    assert f"The web process died ({number.name}); it is started again in 0.1 s" in backend.log


def test_a_worker_that_dies_is_started_again_while_the_web_process_answers(backend: Backend) -> None:
    before = children(backend)
    os.kill(before["worker"], signal.SIGKILL)
    until(lambda: children(backend).get("worker", before["worker"]) != before["worker"])
    assert children(backend)["web"] == before["web"]
    assert health(backend) == 200
    assert "The worker process died (SIGKILL); it is started again" in backend.log


def predict(backend: Backend) -> httpx.Response:
    url = f"http://{LOOPBACK}:{backend.port}/predict"
    return httpx.post(url, json={"tasks": [{}], "project": "1.2"}, timeout=20, trust_env=False)


def test_a_predictor_that_dies_is_started_again_and_who_asks_meanwhile_waits(backend: Backend) -> None:
    before = children(backend)
    os.kill(before["predictor"], signal.SIGKILL)
    until(lambda: not is_alive(before["predictor"]))
    assert health(backend) == 200
    answer = predict(backend)
    assert answer.status_code == 404
    assert answer.reason_phrase.startswith("Project '1.2' is not known here")  # as on Label Studio's model card
    after = children(backend)
    assert after["web"] == before["web"]
    assert after["predictor"] != before["predictor"]
    assert "The predictor process died (SIGKILL); it is started again" in backend.log


def test_the_worker_gives_way_to_other_sessions_as_well(backend: Backend) -> None:
    worker = children(backend)["worker"]
    group = Path(f"/proc/{worker}/autogroup")
    if not group.exists():
        pytest.skip("this kernel does not share its processors by session")
    until(lambda: group.read_text().split()[-1] == str(jobs.NICENESS))
    assert Path(f"/proc/{children(backend)['web']}/autogroup").read_text().split()[-1] == "0"


@pytest.mark.parametrize(
    ("number", "to_all", "code"),
    [(signal.SIGTERM, False, 143), (signal.SIGTERM, True, 143), (signal.SIGINT, True, 0)],
)
def test_told_to_stop_all_end_quietly(backend: Backend, number: signal.Signals, to_all: bool, code: int) -> None:
    assert backend.process is not None
    pids, process = children(backend).values(), backend.process
    (os.killpg if to_all else os.kill)(process.pid, number)
    assert process.wait(10) == code
    assert not any(is_alive(pid) for pid in pids)
    assert "died" not in backend.log
    assert "Traceback" not in backend.log
    assert "ERROR" not in backend.log


def test_a_request_that_is_being_answered_is_answered_before_it_ends(backend: Backend) -> None:
    assert backend.process is not None
    with socket.create_connection((LOOPBACK, backend.port)) as caller:
        caller.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n")
        time.sleep(0.2)
        backend.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        caller.sendall(b'{"action": "OTHER"} ')
        assert caller.recv(1000).startswith(b"HTTP/1.1 201")
    assert backend.process.wait(10) == 143


def test_when_the_parent_is_killed_nobody_is_left_behind(backend: Backend) -> None:
    assert backend.process is not None
    pids = children(backend).values()
    os.kill(backend.process.pid, signal.SIGKILL)
    backend.process.wait(10)
    until(lambda: not any(is_alive(pid) for pid in pids), seconds=5)
    until(lambda: free_port(backend.port) == backend.port, seconds=5)


def _ends(code: int) -> None:
    raise SystemExit(code)


def test_what_cannot_be_started_at_all_ends_with_an_error_after_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "PAUSES", (0.01, 0.02, 0.03))
    assert supervise([Child("odd", _ends, (3,))]) == 1
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        *(f"The odd process died (exit code 3); it is started again in {pause} s" for pause in (0.01, 0.02, 0.03)),
        "The odd process died (exit code 3); it is started again in 0.03 s",
        "The odd process cannot be started: see above",
    ]
