"""Hosts that hang, drip, fail and come back: what annotators and other projects notice of them."""

import base64
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

import hostile
from exemplar.demo import digits
from exemplar.hosts import breakers
from exemplar.jobs import Worker
from exemplar.labelstudio import files
from exemplar.project import readers, reading, serve
from exemplar.server import predicting
from flows.conftest import Flow, MakeFlow, said
from flows.fake_state import Json
from hostile import Host, Manner, answer, hosting
from patience import stopwatch

# Where a file or a round is waited for, that takes some 20 seconds.
NOT_WAITED = 10.0


@pytest.fixture
def slow_to_give_up(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files and rounds have their whole time, so that to wait for them can be told from a busy machine."""
    monkeypatch.setitem(files.Files.read.__kwdefaults__, "seconds", reading.ROUND)
    monkeypatch.setattr("exemplar.project.refresh.ROUND", reading.ROUND)


@dataclass
class Moody:
    """A host whose manner is changed by the test."""

    manner: Manner = field(default_factory=lambda: answer(digits.png(1000)))

    def __call__(self, connection: Any, path: str) -> None:
        self.manner(connection, path)


@pytest.fixture
def host() -> Iterator[Callable[[Manner], Host]]:
    with ExitStack() as ended:
        yield lambda manner: ended.enter_context(hosting(manner))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every wait a tenth of what it is, so that what takes a minute takes seconds."""
    for module, name in (
        (files, "FILE_SECONDS"),
        (reading, "PATIENCE"),
        (readers, "LAST_WORDS"),
        (reading, "LATE"),
        (reading, "TRY_AGAIN"),
        (serve, "ANSWER_WITHIN"),
        (predicting, "ANSWER_WITHIN"),
        (breakers, "LEFT_ALONE"),
        (breakers, "HUNG"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name) / 10)
    monkeypatch.setitem(files.Files.read.__kwdefaults__, "seconds", files.FILE_SECONDS)
    monkeypatch.setattr("exemplar.project.refresh.ROUND", reading.ROUND / 10)
    breakers.breakers_of.cache_clear()


def digit(connection: Any, path: str) -> None:
    """Answer ``/<n>.png`` with a digit."""
    answer(digits.png(int(path.strip("/").removesuffix(".png"))))(connection, path)


def add(flow: Flow, project: Json, *addresses: str) -> list[Json]:
    return flow.studio.state.import_tasks(project["id"], [{"image": address} for address in addresses])


def status(flow: Flow, project: Json) -> Json:
    found: Json = flow.call("GET", "/").json()["projects"][flow.key(project)]
    return found


def eventually(holds: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until something holds."""
    with stopwatch() as waited:
        while not holds():
            assert waited() < seconds, "it never held"
            time.sleep(0.02)


# ── The queue ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("n_slow", [1, 5])
@pytest.mark.usefixtures("slow_to_give_up")
def test_the_queue_starts_from_what_is_readable_and_the_rest_joins(
    flow: Flow, host: Callable[[Manner], Host], n_slow: int
) -> None:
    moody = Moody(hostile.drip(0.1))
    slow = host(moody)
    project = flow.project()
    tasks = add(flow, project, *(f"{slow.url}/{n}.png" for n in range(n_slow)))
    with stopwatch() as seconds:
        outcome = flow.run(project)
        assert seconds() < NOT_WAITED
    assert flow.queue(project)
    assert outcome.again_at is not None
    assert status(flow, project)["left_out"] + status(flow, project)["unread"] == n_slow
    moody.manner = answer(digits.png(1000))

    def joined() -> bool:
        flow.run(project)
        return status(flow, project)["left_out"] + status(flow, project)["unread"] == 0

    eventually(joined, 20)
    assert all(flow.snapshot(project).row(task["id"]) is not None for task in tasks)


def test_a_pool_of_which_nothing_comes_ends_its_refresh_all_the_same(
    flow: Flow, host: Callable[[Manner], Host]
) -> None:
    slow = host(hostile.hang)
    project = flow.project(n_tasks=0)
    add(flow, project, *(f"{slow.url}/{n}.png" for n in range(600)))
    with stopwatch() as seconds:
        outcome = flow.run(project)
        assert seconds() < 5
    assert outcome.again_at is not None
    assert status(flow, project)["doing"] == "waiting for a task that can be read"


def test_a_host_that_hangs_is_left_alone_and_named(
    flow: Flow, host: Callable[[Manner], Host], caplog: pytest.LogCaptureFixture
) -> None:
    slow = host(hostile.hang)
    project = flow.project()
    add(flow, project, *(f"{slow.url}/{n}.png" for n in range(600)))
    name = f"127.0.0.1:{slow.port}"
    with stopwatch() as seconds:
        while name not in (now := status(flow, project))["hosts_left_alone"] or now["unread"]:
            flow.run(project)
            assert seconds() < 20
    assert flow.queue(project)
    assert len(slow.requests) <= 10
    assert now["left_out"] == 600
    assert f"{name} does not answer and is left alone; tried again at" in caplog.text
    why = {left_out["why"] for left_out in now["left_out_first"]}
    assert any("does not answer and is left alone" in reason or "in time" in reason for reason in why)
    assert all(left_out["again_at"] for left_out in now["left_out_first"])


def test_any_number_of_hosts_that_hang_leave_the_others_going(flow: Flow, host: Callable[[Manner], Host]) -> None:
    project = flow.project()
    add(flow, project, *(f"{host(hostile.hang).url}/x.png" for _ in range(30)))
    flow.run(project)
    assert len(flow.snapshot(project).task_ids) == 24


def test_files_that_are_late_with_all_others_of_a_host_that_gives_are_read_on_and_not_left_out(
    flow: Flow, host: Callable[[Manner], Host], caplog: pytest.LogCaptureFixture
) -> None:
    going, n_given = threading.Event(), itertools.count(1)

    def manner(connection: Any, path: str) -> None:
        if next(n_given) > 6:
            going.wait(60)
        digit(connection, path)

    busy = host(manner)
    project = flow.project(n_tasks=0)
    add(flow, project, *(f"{busy.url}/{n}.png" for n in range(10)))
    flow.run(project)
    now = status(flow, project)
    assert (now["left_out"], now["unread"]) == (0, 4)
    assert flow.queue(project)
    going.set()
    flow.settle(project)
    assert len(flow.snapshot(project).task_ids) == 10
    assert "is left out" not in caplog.text


def test_a_file_that_is_late_while_its_host_gives_others_is_left_out_for_now(
    flow: Flow, host: Callable[[Manner], Host]
) -> None:
    def manner(connection: Any, path: str) -> None:
        if path == "/drips.png":
            hostile.drip(0.05)(connection, path)
        time.sleep(0.1)
        digit(connection, path)

    mixed = host(manner)
    project = flow.project(n_tasks=0)
    task, *_ = add(flow, project, f"{mixed.url}/drips.png", *(f"{mixed.url}/{n}.png" for n in range(8)))
    flow.run(project)
    [left_out] = status(flow, project)["left_out_first"]
    assert left_out["task"] == task["id"]
    assert "did not come within" in left_out["why"]
    assert left_out["again_at"] is not None


def test_answers_do_not_wait_for_slow_files(
    flow: Flow, host: Callable[[Manner], Host], request: pytest.FixtureRequest
) -> None:
    project = flow.project()
    flow.settle(project)
    slow = host(hostile.drip(0.1))
    add(flow, project, *(f"{slow.url}/{n}.png" for n in range(10)))
    flow.run(project)
    request.getfixturevalue("slow_to_give_up")
    [task_id] = flow.label(project, 1)
    with stopwatch() as seconds:
        flow.run(project)
        assert seconds() < NOT_WAITED
    assert flow.snapshot(project).facts.n_answered == 1
    assert flow.snapshot(project).by_id[task_id].annotations


@pytest.mark.usefixtures("slow_to_give_up")
def test_a_newer_webhook_breaks_a_round_off(flow: Flow, host: Callable[[Manner], Host]) -> None:
    project = flow.project()
    flow.settle(project)
    slow = host(hostile.drip(0.1))
    add(flow, project, *(f"{slow.url}/{n}.png" for n in range(4)))
    threading.Timer(0.3, lambda: flow.store(project).raise_number("webhooks")).start()
    with stopwatch() as seconds:
        flow.run(project)
        assert seconds() < NOT_WAITED


def test_what_was_read_is_kept_when_the_worker_dies(
    flow: Flow, host: Callable[[Manner], Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = flow.project()
    flow.settle(project)
    steady = host(answer(digits.png(1000)))
    add(flow, project, *(f"{steady.url}/{n}.png" for n in range(6)))

    def dies(*args: Any, **options: Any) -> None:
        raise RuntimeError("killed here")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed here"):
        patch.setattr("exemplar.project.refresh.make_snapshot", dies)
        flow.run(project)
    flow.settle(project)
    assert len(steady.requests) == 6
    assert len(flow.snapshot(project).task_ids) == 30
    assert flow.store(project).reading.notes().fresh_since is None


@pytest.mark.parametrize("damage", [b"", b"[1]", b"{", b"\0" * 100, b'{"tasks": {"x": 1}}', b'{"tasks": [1]}'])
def test_broken_notes_are_made_anew(flow: Flow, host: Callable[[Manner], Host], damage: bytes) -> None:
    project = flow.project()
    add(flow, project, "/data/upload/x/none.png")
    flow.studio.state.files["x/none.png"] = b"no image"
    flow.settle(project)
    folder = flow.store(project).folder / "reading"
    (folder / "left-out.json").write_bytes(damage)
    flow.settle(project)
    assert status(flow, project)["left_out"] == 1


# ── For now, or for good ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "trouble",
    [
        answer(b"", status="503 Unavailable"),
        answer(b"", status="500 Error"),
        answer(b"", "Retry-After: 1", status="429 Slow down"),
        lambda connection, path: connection.close(),
    ],
    ids=["503", "500", "429", "cut off"],
)
def test_what_failed_for_a_while_joins_by_itself(
    flow: Flow, host: Callable[[Manner], Host], trouble: Manner
) -> None:
    moody = Moody(trouble)
    busy = host(moody)
    project = flow.project()
    [task] = add(flow, project, f"{busy.url}/x.png")
    flow.run(project)
    [left_out] = status(flow, project)["left_out_first"]
    assert left_out["task"] == task["id"]
    assert left_out["again_at"] is not None
    moody.manner = answer(digits.png(1000))

    def joined() -> bool:
        flow.run(project)
        return flow.snapshot(project).row(task["id"]) is not None

    eventually(joined)
    assert status(flow, project)["left_out"] == 0
    flow.settle(project)
    writes = flow.studio.writes.total()
    flow.settle(project)
    assert flow.studio.writes.total() == writes


def test_label_studios_own_files_that_fail_for_a_while_stop_nothing(flow: Flow) -> None:
    project = flow.project()
    [task] = add(flow, project, "/data/upload/1/deleted.png")  # a record that is gone: 500
    flow.run(project)
    assert flow.queue(project)
    [left_out] = status(flow, project)["left_out_first"]
    assert left_out["again_at"] is not None
    flow.studio.state.files["1/deleted.png"] = digits.png(1000)
    eventually(lambda: flow.run(project) and flow.snapshot(project).row(task["id"]) is not None)


def test_each_try_comes_later_than_the_one_before(flow: Flow, host: Callable[[Manner], Host]) -> None:
    asked: list[float] = []

    def manner(connection: Any, path: str) -> None:
        asked.append(time.time())
        answer(b"", status="500 Error")(connection, path)

    busy = host(manner)
    project = flow.project()
    [task] = add(flow, project, f"{busy.url}/x.png")
    again_at = 0.0
    for n in range(4):
        eventually(lambda n=n: flow.run(project) and len(asked) == n + 1, 30)  # type: ignore[misc]
        ended, pause = time.time(), reading.TRY_AGAIN * 2**n
        assert asked[n] >= again_at
        again_at = flow.store(project).reading.notes().tasks[task["id"]].again_at or 0.0
        assert asked[n] + pause <= again_at <= ended + pause


def test_what_is_not_there_is_tried_again_on_start_training_and_when_the_data_changes(
    flow: Flow, host: Callable[[Manner], Host]
) -> None:
    moody = Moody(answer(b"", status="404 Not Found"))
    gone = host(moody)
    project = flow.project()
    first, second = add(flow, project, f"{gone.url}/1.png", f"{gone.url}/2.png")
    flow.settle(project)
    assert [left_out["again_at"] for left_out in status(flow, project)["left_out_first"]] == [None, None]
    moody.manner = answer(digits.png(1000))
    for _ in range(3):
        flow.run(project)
    assert len(gone.requests) == 2
    flow.studio.state.patch_task(first["id"], {"image": f"{gone.url}/3.png"})
    flow.settle(project)
    assert flow.snapshot(project).row(first["id"]) is not None
    assert len(gone.requests) == 3
    flow.store(project).raise_number("orders")
    flow.settle(project)
    assert flow.snapshot(project).row(second["id"]) is not None
    assert status(flow, project)["left_out"] == 0


def test_a_host_that_is_refused_is_named_with_the_setting_and_read_once_it_is_allowed(
    make_flow: MakeFlow, host: Callable[[Manner], Host], caplog: pytest.LogCaptureFixture
) -> None:
    inner = host(answer(digits.png(1000)))
    flow = make_flow(host="0.0.0.0")
    project = flow.project()
    [task] = add(flow, project, f"{inner.url}/x.png")
    flow.settle(project)
    assert len(flow.snapshot(project).task_ids) == 24  # Label Studio's own files are read
    [left_out] = status(flow, project)["left_out_first"]
    assert "127.0.0.1 is not among EXEMPLAR_ALLOWED_HOSTS" in left_out["why"]
    assert f"task {task['id']} is left out: {inner.url}/x.png: 127.0.0.1 is not among EXEMPLAR" in caplog.text
    answers = flow.predict(project, [{"data": {"image": f"{inner.url}/x.png"}}])
    assert answers[0]["result"] == []
    assert inner.requests == []
    flow = make_flow(host="0.0.0.0", allowed_hosts=("public", "127.0.0.0/8"))
    flow.settle(project)
    assert flow.snapshot(project).row(task["id"]) is not None


# ── Label Studio's key, through the whole product ────────────────────────────────────────────────────────


def test_neither_a_refresh_nor_a_predict_sends_the_key_to_a_host_that_a_task_names(
    make_flow: MakeFlow, host: Callable[[Manner], Host]
) -> None:
    foreign = host(answer(digits.png(1000)))
    flow = make_flow()
    project = flow.project()
    there = f"127.0.0.1:{foreign.port}"
    addresses = [f"http://{there}/x", f"//{there}/x", f"{flow.studio.url}@{there}/x", f"/data/http://{there}/x"]
    addresses = [f"{address}/{digits.file_name(1000)}" for address in addresses]
    add(flow, project, *addresses)
    flow.settle(project)
    flow.label_every_cluster(project)
    flow.predict(project, [{"data": {"image": address}} for address in addresses])
    assert len(foreign.requests) == 6
    assert not any(flow.settings.label_studio_api_key in request for request in foreign.requests)


def test_pictures_in_cloud_storage_are_read_where_label_studio_redirects_to(
    make_flow: MakeFlow, host: Callable[[Manner], Host]
) -> None:
    cloud = host(answer(digits.png(1000)))
    flow = make_flow(host="0.0.0.0")
    project = flow.project()
    flow.studio.state.clouds["czM6Ly9idWNrZXQveC5wbmc="] = f"{cloud.url}/bucket/x.png?signature=1"
    [task] = add(flow, project, "/tasks/1/resolve/?fileuri=czM6Ly9idWNrZXQveC5wbmc=")
    flow.settle(project)
    assert flow.snapshot(project).row(task["id"]) is not None
    assert len(cloud.requests) == 1
    assert "authorization" not in cloud.requests[0].lower()


@pytest.mark.parametrize("own_address", ["", "http://localhost:8080"])
def test_predict_knows_a_picture_in_cloud_storage_by_the_address_that_the_task_has(
    flow: Flow, host: Callable[[Manner], Host], own_address: str
) -> None:
    cloud = host(answer(digits.png(1000)))
    project = flow.project()
    uri = f"s3://bucket/{digits.file_name(1000)}"
    fileuri = base64.urlsafe_b64encode(uri.encode()).decode()
    flow.studio.state.clouds[fileuri] = f"{cloud.url}/x.png"
    n = len(flow.studio.state.tasks) + 1
    [task] = add(flow, project, f"{own_address}/tasks/{n}/resolve/?fileuri={fileuri}")
    assert task["id"] == n
    flow.settle(project)
    flow.label_every_cluster(project)
    assert len(cloud.requests) == 1
    [answered] = flow.predict(project, [{"id": n, "data": {"image": uri}}])
    assert said(answered) is not None
    assert len(cloud.requests) == 1  # it is the pool's: nothing is read for it


# ── Other projects ───────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def working(flow: Flow) -> Iterator[None]:
    """Run the worker, in a thread of this process."""
    ended = threading.Event()
    worker = Worker(flow.settings)
    thread = threading.Thread(target=worker.run, args=(lambda: not ended.is_set(),))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize("n_slow", [4, 12])
def test_dripping_projects_stop_no_other_one(
    flow: Flow, host: Callable[[Manner], Host], n_slow: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exemplar.project.refresh.ROUND", 10.0)
    monkeypatch.setitem(files.Files.read.__kwdefaults__, "seconds", 8.0)
    slow = host(hostile.drip(0.1))
    healthy = flow.project()
    flow.settle(healthy)
    dripping = [flow.project(n_tasks=0) for _ in range(n_slow)]
    for project in dripping:
        add(flow, project, *(f"{slow.url}/{n}.png" for n in range(5)))
    with working(flow):
        time.sleep(0.5)
        for n in range(3):
            flow.label(healthy, 1)
            eventually(lambda n=n: flow.snapshot(healthy).facts.n_answered == n + 1, 3)  # type: ignore[misc]
        newcomer = flow.project()
        eventually(lambda: flow.store(newcomer).current_name() and flow.queue(newcomer), 5)


# ── /predict ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def labelled(flow: Flow) -> Json:
    project = flow.project()
    flow.settle(project)
    flow.label_every_cluster(project)
    return project


def test_predict_answers_in_time_and_empty_for_what_did_not_come(
    flow: Flow, labelled: Json, host: Callable[[Manner], Host], caplog: pytest.LogCaptureFixture
) -> None:
    slow = host(hostile.drip(0.1))
    good = {"data": flow.studio.state.tasks_of(labelled["id"])[0]["data"]}
    bad = {"data": {"image": f"{slow.url}/x.png"}}
    with stopwatch() as seconds:
        answers = flow.predict(labelled, [bad, good, bad, good])
        assert seconds() < serve.ANSWER_WITHIN + 1
    assert [said(answer) is None for answer in answers] == [True, False, True, False]
    assert "is answered empty" in caplog.text


@pytest.mark.parametrize("n_tasks", [1, 3])
def test_predict_waits_once_for_a_host_that_never_answers(
    flow: Flow, labelled: Json, host: Callable[[Manner], Host], n_tasks: int
) -> None:
    slow = host(hostile.hang)
    tasks = [{"data": {"image": f"{slow.url}/{n}.png"}} for n in range(n_tasks)]
    flow.predict(labelled, tasks)
    n_asked = len(slow.requests)
    assert 1 <= n_asked <= 2
    for _ in range(3):
        with stopwatch() as seconds:
            assert [said(answer) for answer in flow.predict(labelled, tasks)] == [None] * n_tasks
            assert seconds() < serve.ANSWER_WITHIN / 4
    assert len(slow.requests) == n_asked


def test_any_number_of_predicts_that_wait_for_files_are_answered_in_time(
    flow: Flow, labelled: Json, host: Callable[[Manner], Host]
) -> None:
    slow = host(hostile.drip(0.1))
    tasks = [{"data": {"image": f"{slow.url}/x.png"}}]
    with ThreadPoolExecutor(60) as callers, stopwatch() as seconds:
        answers = [callers.submit(flow.predict, labelled, tasks) for _ in range(60)]
        assert [said(answer.result()[0]) for answer in answers] == [None] * 60
        assert seconds() < serve.ANSWER_WITHIN + 3


def test_nothing_of_a_file_is_logged_as_a_traceback(
    flow: Flow, host: Callable[[Manner], Host], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "exemplar")
    project = flow.project()
    odd = [
        host(hostile.redirect("http://[bad")),
        host(answer(b"x", "Content-Encoding: gzip")),
        host(lambda connection, path: connection.sendall(b"garbage\r\n\r\n")),
        host(lambda connection, path: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n")),
        host(lambda connection, path: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")),
        host(lambda connection, path: connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 10**6)),
    ]
    add(flow, project, *(f"{one.url}/x.png" for one in odd))
    flow.run(project)
    assert "Traceback" not in caplog.text
    assert status(flow, project)["left_out"] == len(odd)
    assert flow.queue(project)
