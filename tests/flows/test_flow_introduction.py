"""Only Label Studio itself can connect a project: what a caller of /setup says is a hint."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from exemplar.reception import Reception
from exemplar.store.home import Home
from exemplar.store.records import Connection
from exemplar.values import Secret
from flows import fake_label_studio
from flows.conftest import Flow, MakeFlow, said, truth
from flows.fake_label_studio import TOKEN, ApiError, FakeLabelStudio
from flows.fake_state import Json
from flows.serving import Switch, serving
from flows.test_flow_manage import wait_for, working


def setup_body(flow: Flow, project: Json, **changes: Any) -> Json:
    return {
        "project": flow.key(project),
        "schema": project["label_config"],
        "hostname": flow.studio.url,
        "access_token": TOKEN,
        "extra_params": flow.extra_params,
        **changes,
    }


def forge(flow: Flow, body: Json, **headers: str) -> httpx.Response:
    """Call /setup as a stranger."""
    return flow.call("POST", "/setup", body, headers=headers)


def reception_done(flow: Flow) -> list[str]:
    """Let the worker ask Label Studio until nobody waits; return what was refused, and why."""
    home = Home(flow.settings.model_dir, flow.settings.label_studio_url)
    reception = Reception(flow.settings, home)
    try:

        def nobody_waits() -> bool:
            reception.look()
            return not list(home.introductions.waiting())

        wait_for(nobody_waits, "nobody to wait")
    finally:
        reception.close()
    return [refusal.why for refusal in home.introductions.refused()]


def folders(flow: Flow) -> list[str]:
    """Return the folders of projects."""
    return sorted(path.name for path in flow.settings.model_dir.glob("*/*.*") if path.is_dir())


def in_label_studio(flow: Flow, project: Json) -> tuple[Json, list[Json], list[Json]]:
    state = flow.studio.state
    return dict(project), list(state.predictions_of(project["id"])), list(state.webhooks_of(project["id"]))


@contextmanager
def another_backend(answer: str = "exemplar-1") -> Iterator[str]:
    """Serve a backend that is not ours, and says what another Exemplar would."""
    app = FastAPI(openapi_url=None)

    @app.get("/health")
    def health() -> Json:
        return {"status": "UP"}

    @app.post("/setup")
    def setup() -> Json:
        return {"model_version": answer}

    @app.post("/webhook", status_code=201)
    def webhook() -> Json:
        return {}

    with serving(app) as url:
        yield url


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exemplar.reception.TRY_AGAIN_AFTER", (0.01, 0.05))


# ── A project of somebody else's ─────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("forwarded", [False, True])
def test_another_backends_project_is_not_taken_over(flow: Flow, forwarded: bool) -> None:
    with another_backend() as theirs:
        project = flow.project(connected=False)
        flow.studio.connect(project, theirs)
        before = in_label_studio(flow, project)
        host = theirs.partition("://")[2]
        headers = {"Host": host, "X-Forwarded-Host": host} if forwarded else {"Host": host}
        assert forge(flow, setup_body(flow, project), **headers).status_code == 200
        refused = reception_done(flow)
        assert in_label_studio(flow, project) == before
    assert folders(flow) == []
    assert "none of its 1 model connections leads here" in refused[0]


@pytest.mark.usefixtures("quick")
def test_what_was_refused_is_told_in_the_status_and_in_the_log(
    flow: Flow, caplog: pytest.LogCaptureFixture
) -> None:
    project = flow.project(connected=False)
    forge(flow, setup_body(flow, project))
    reception_done(flow)
    status = flow.call("GET", "/").json()
    assert status["projects"] == {}
    [refusal] = status["refused"]
    assert refusal["project"] == flow.key(project)
    assert "it has no model connection" in refusal["why"]
    assert "it has no model connection" in caplog.text


@pytest.mark.usefixtures("quick")
def test_the_proof_is_of_no_use_to_who_cannot_make_label_studio_show_it(flow: Flow) -> None:
    """A stranger gets the proof, and sets up another project with it."""
    project, other = flow.project(connected=False), flow.project(connected=False)
    proof = forge(flow, setup_body(flow, project)).json()["model_version"]
    assert proof != forge(flow, setup_body(flow, other)).json()["model_version"]
    assert forge(flow, setup_body(flow, project, hostname="http://127.0.0.1:9")).json()["model_version"] != proof
    reception_done(flow)
    assert folders(flow) == []


def test_a_listed_backend_that_answers_with_our_proof_is_taken_for_ours(flow: Flow) -> None:
    """What is left: who runs a backend of a project can have us manage that project, and no other."""
    project, other = flow.project(connected=False), flow.project(connected=False)
    proof = forge(flow, setup_body(flow, project)).json()["model_version"]
    with another_backend(proof) as theirs:
        flow.studio.connect(project, theirs)
        flow.studio.connect(other, theirs)
        forge(flow, setup_body(flow, other))
        reception_done(flow)
    assert folders(flow) == [flow.key(project)]


@pytest.mark.usefixtures("quick")
def test_a_project_that_an_older_version_kept_without_asking_is_not_written_to(flow: Flow) -> None:
    with another_backend() as theirs:
        project = flow.project(connected=False)
        flow.studio.connect(project, theirs)
        before = in_label_studio(flow, project)
        home = Home(flow.settings.model_dir, flow.settings.label_studio_url)
        home.register(Connection(key=flow.key(project), url=flow.studio.url))
        with pytest.raises(Exception, match="none of its 1 model connections leads here"):
            flow.run(project)
        assert in_label_studio(flow, project) == before
    problem = flow.call("GET", "/").json()["projects"][flow.key(project)]["problem"]
    assert "none of its 1 model connections leads here" in problem


def test_a_connected_project_that_an_older_version_kept_goes_on(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    flow.store(project).update_connection(backend_url="", known_as="")
    flow.label(project, 1)
    flow.studio.list_backends(project["id"])  # as whenever somebody looks at the model's page
    flow.settle(project)
    assert flow.snapshot(project).facts.n_answered == 1
    connection = flow.store(project).connection()
    assert connection is not None
    assert connection.backend_url == flow.url


# ── What a stranger says of a project that is ours ───────────────────────────────────────────────────────


@pytest.mark.usefixtures("quick")
def test_extra_params_are_read_from_label_studio(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    forge(flow, setup_body(flow, project, extra_params={"queue": "random", "batch_size": 1}))
    reception_done(flow)
    connection = flow.store(project).connection()
    assert connection is not None
    assert connection.extra_params == flow.extra_params

    flow.studio.state.backends_of(project["id"])[0]["extra_params"] = {"queue": "random"}
    flow.studio.list_backends(project["id"])  # Label Studio says so itself
    reception_done(flow)
    connection = flow.store(project).connection()
    assert connection is not None
    assert connection.extra_params == {"queue": "random"}


@pytest.mark.usefixtures("quick")
def test_a_forged_token_or_hostname_does_not_replace_the_real_one(make_flow: MakeFlow) -> None:
    flow = make_flow(label_studio_url="", label_studio_api_key=Secret(""))
    project = flow.project()
    before = flow.store(project).connection()
    forge(flow, setup_body(flow, project, access_token=fake_label_studio.COLLEAGUE_TOKEN))
    forge(flow, setup_body(flow, project, access_token="9" * 40))
    reception_done(flow)
    assert flow.store(project).connection() == before


@pytest.mark.usefixtures("quick")
def test_a_forged_hostname_does_not_become_the_name_that_label_studio_knows_itself_by(flow: Flow) -> None:
    project = flow.project()
    before = flow.store(project).connection()
    assert before is not None
    assert before.known_as == flow.studio.url
    forge(flow, setup_body(flow, project, hostname="http://127.0.0.1:9"))
    reception_done(flow)
    assert flow.store(project).connection() == before


def test_label_studio_shows_the_generation_again_after_it_was_asked(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    forge(flow, setup_body(flow, project, extra_params={"queue": "random"}))
    flow.receive()
    [backend] = flow.studio.state.backends_of(project["id"])
    assert backend["model_version"] == "exemplar-1"


def test_a_connection_that_gets_another_address_is_followed(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    [backend] = flow.studio.state.backends_of(project["id"])
    backend["url"] = flow.url.replace("127.0.0.1", "localhost")
    with working(flow):
        flow.store(project).raise_number("orders")
        wait_for(lambda: _backend_url(flow, project) == backend["url"], "the new address")
    flow.label(project, 1)
    flow.settle(project)
    assert flow.snapshot(project).facts.n_answered == 1


def _backend_url(flow: Flow, project: Json) -> str:
    connection = flow.store(project).connection()
    return connection.backend_url if connection and not connection.closed else ""


# ── Another Label Studio with a project of the same name ─────────────────────────────────────────────────


@pytest.fixture
def strangers_studio() -> Iterator[FakeLabelStudio]:
    switch = Switch()
    with serving(switch) as url, fake_label_studio.running(switch, url) as studio:
        yield studio


def test_a_strangers_label_studio_does_not_answer_for_the_real_project(
    make_flow: MakeFlow, strangers_studio: FakeLabelStudio
) -> None:
    flow = make_flow(label_studio_url="", label_studio_api_key=Secret(""))
    project = flow.project()
    flow.settle(project)
    flow.label_every_cluster(project)
    tasks = flow.studio.state.tasks_of(project["id"])
    before = flow.predict(project, tasks)

    stranger = replace(flow, studio=strangers_studio)
    double = stranger.project(connected=False)
    double["created_at"] = project["created_at"]
    assert stranger.key(double) == flow.key(project)
    stranger.connect(double)
    stranger.settle(double)
    assert len(folders(flow)) == 2

    assert flow.predict(project, tasks) == before
    assert any(said(answer) for answer in before)
    backend = flow.studio.state.backends_of(project["id"])[0]
    assert flow.studio.start_training(backend)["job"].startswith(flow.key(project))
    assert flow.store(project).number("orders") == 1
    flow.label(project, 1)
    flow.settle(project)
    assert flow.predict(project, tasks) != before
    connection = flow.store(project).connection()
    assert connection is not None
    assert connection.url == flow.studio.url


def test_the_key_of_the_settings_goes_to_no_address_that_a_stranger_gave_before(
    make_flow: MakeFlow, strangers_studio: FakeLabelStudio
) -> None:
    flow = make_flow(label_studio_url="", label_studio_api_key=Secret(""))
    stranger = replace(flow, studio=strangers_studio)
    stranger.project()
    flow = make_flow()  # now with an address and a key
    with working(flow):
        strangers_studio.requests.clear()
        project = flow.project()
        wait_for(lambda: project["model_version"] == "exemplar-1", "a queue")
    assert strangers_studio.requests == []


# ── Invented projects ────────────────────────────────────────────────────────────────────────────────────


# Not in this process: the server and the worker under test share it with the test.
INVENT = """
import json, sys
import httpx
url, body = sys.argv[1], json.loads(sys.argv[2])
statuses = []
with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
    print("begun", flush=True)
    for n in range(1000, 1985):
        statuses.append(client.post("/setup", json=body | {"project": f"{n}.1700000000"}).status_code)
print(json.dumps(statuses))
"""


def test_of_invented_projects_nothing_is_kept_and_a_submit_is_learned_meanwhile(make_flow: MakeFlow) -> None:
    flow = make_flow(debounce=0.05)
    project = flow.project()
    with working(flow):
        wait_for(lambda: project["model_version"] == "exemplar-1", "a queue")
        store = flow.store(project)
        wait_for(lambda: store.done().webhooks == store.number("webhooks"), "rest")
        command = [sys.executable, "-c", INVENT, flow.url, json.dumps(setup_body(flow, project))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stranger:
            assert stranger.stdout is not None
            assert stranger.stdout.readline() == "begun\n"
            learned_after = []
            for n in range(1, 5):
                flow.label(project, 1)
                learned_after.append(_seconds_until(lambda n=n: flow.snapshot(project).facts.n_answered == n))
            statuses = json.loads(stranger.stdout.readline())
    assert max(learned_after) < 1.5, learned_after
    assert sorted(learned_after)[1] < 1.0, learned_after
    assert set(statuses) <= {200, 404}
    assert len(statuses) == 985
    assert folders(flow) == [flow.key(project)]
    n_files = sum(
        1 for path in flow.settings.model_dir.rglob("*") if path.is_file() and store.folder not in path.parents
    )
    assert n_files < 70


def _seconds_until(condition: Callable[[], bool]) -> float:
    started = time.monotonic()
    wait_for(condition, "the answer to be learned")
    return time.monotonic() - started


def test_an_invented_project_is_told_that_label_studio_knows_it_not(flow: Flow) -> None:
    project = flow.project(connected=False)
    for key in (f"{project['id']}.1700000000", "999.1700000000"):
        answer = forge(flow, setup_body(flow, project) | {"project": key})
        assert answer.status_code == 404
        assert "is not known" in answer.json()["error"]
    assert folders(flow) == []


@pytest.mark.usefixtures("quick")
def test_a_flood_of_introductions_is_bounded(make_flow: MakeFlow, tmp_path: Path) -> None:
    flow = make_flow(label_studio_url="", label_studio_api_key=Secret(""))
    project = flow.project(connected=False)
    # Each names a Label Studio that nobody answers at.
    bodies = [setup_body(flow, project, hostname=f"http://127.0.0.1:9/{n}") for n in range(200)]
    started = time.monotonic()
    assert {forge(flow, body).status_code for body in bodies} == {200}
    assert time.monotonic() - started < 10
    assert len(list((flow.settings.model_dir / "introductions").iterdir())) <= 64


def test_a_wrong_key_is_still_explained_on_connecting(make_flow: MakeFlow) -> None:
    flow = make_flow(label_studio_api_key=Secret("9" * 40))
    with pytest.raises(ApiError, match="set LABEL_STUDIO_API_KEY"):
        flow.project()
    assert folders(flow) == []


def test_a_real_project_is_confirmed_at_once_while_a_strangers_host_hangs(
    make_flow: MakeFlow, strangers_studio: FakeLabelStudio
) -> None:
    flow = make_flow(label_studio_url="", label_studio_api_key=Secret(""))
    strangers_studio.faults.delay = 5
    project = flow.project(connected=False)
    with working(flow):
        with ThreadPoolExecutor(3) as threads:
            for n in range(3):
                body = setup_body(flow, project, hostname=f"{strangers_studio.url}/{n}")
                threads.submit(forge, flow, body)
        flow.studio.connect(project, flow.url)
        started = time.monotonic()
        wait_for(lambda: project["model_version"] == "exemplar-1", "a queue")
        assert time.monotonic() - started < 4
        strangers_studio.faults.delay = 0


def test_the_worker_learns_a_real_project_within_seconds_of_connecting(flow: Flow) -> None:
    project = flow.project(connected=False)
    with working(flow):
        flow.studio.connect(project, flow.url, extra_params=flow.extra_params)
        started = time.monotonic()
        wait_for(lambda: project["model_version"] == "exemplar-1", "a queue")
        assert time.monotonic() - started < 3
        task = flow.studio.next_task(project)
        assert task is not None
        flow.studio.submit(task, truth(task))
        wait_for(lambda: flow.snapshot(project).facts.n_answered == 1, "the answer")
