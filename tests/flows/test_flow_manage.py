"""What Exemplar sets in a project, takes back, and keeps apart."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from exemplar.commands.disconnect import disconnect_project
from exemplar.errors import LabelStudioError, UnknownProjectError
from exemplar.jobs import Worker, run_once
from exemplar.labelstudio.client import Client
from exemplar.project.introduction import find_forgotten
from exemplar.rows import SECRET_HEADER
from exemplar.store.home import Home
from exemplar.store.records import Connection
from exemplar.values import Secret
from flows.conftest import N_TASKS, Flow, MakeFlow, truth
from flows.fake_label_studio import Faults
from flows.fake_state import Json

PASSWORD = "studio-secret"
BASIC = {"auth_method": "BASIC_AUTH", "basic_auth_user": "label", "basic_auth_pass": PASSWORD}


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.01)


@contextmanager
def working(flow: Flow) -> Iterator[None]:
    """Let a real worker run while the block does."""
    stopping = threading.Event()
    worker = Worker(flow.settings)
    thread = threading.Thread(target=worker.run, args=(lambda: not stopping.is_set(),))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(20)
        assert not thread.is_alive()


# ── MODEL_DIR ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_deleted_model_dir_is_rebuilt_and_the_rows_are_taken_up(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    flow.label_every_cluster(project)
    flow.store(project).raise_number("orders")
    flow.settle(project)
    contents, before = flow.contents(project), flow.studio.writes
    flow.forget()
    find_forgotten(flow.settings, Home(flow.settings.model_dir))
    flow.settle(project)
    assert flow.contents(project) == contents
    assert flow.studio.writes == before
    assert project["model_version"] == "exemplar-1"


def test_after_a_deleted_model_dir_the_generation_is_the_one_that_is_shown(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    flow.studio.state.create_prediction(
        {"task": flow.queue(project)[0], "score": 0.5, "model_version": "exemplar-7"}
    )
    flow.forget()
    flow.studio.list_backends(project["id"])
    flow.settle(project)
    assert project["model_version"] == "exemplar-1"
    assert flow.snapshot(project).facts.generation == 1


def test_a_worker_introduces_itself_again_after_a_deleted_model_dir(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    flow.forget()
    with working(flow):
        wait_for(lambda: flow.store(project).current_name(), "a new snapshot")


def test_a_webhook_of_a_forgotten_project_brings_it_back(make_flow: MakeFlow) -> None:
    flow = make_flow(poll=3600.0, debounce=0.01)
    project = flow.project()
    flow.settle(project)
    with working(flow):
        wait_for(lambda: flow.store(project).done().webhooks == flow.store(project).number("webhooks"), "rest")
        flow.forget()
        task = flow.studio.next_task(project)
        assert task is not None
        flow.studio.submit(task, truth(task))
        assert flow.studio.webhook_answers[-1][1] == 201
        wait_for(lambda: flow.store(project).current_name(), "a new snapshot")
        wait_for(lambda: flow.snapshot(project).facts.n_answered == 1, "the answer to be learned")


# ── Settings of the project ──────────────────────────────────────────────────────────────────────────────


def test_with_manage_off_nothing_of_the_project_is_changed_and_the_log_says_what_to_set(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    flow = make_flow(manage=False)
    project = flow.project()
    before = dict(project)
    flow.settle(project)
    assert project == before
    assert "EXEMPLAR_MANAGE is off" in caplog.text
    assert "model_version to 'exemplar-1'" in caplog.text
    assert "sampling to 'Uncertainty sampling'" in caplog.text
    assert flow.studio.state.model_versions(project["id"])["exemplar-1"] > 0


def test_with_manage_off_idle_means_idle_too(make_flow: MakeFlow) -> None:
    flow = make_flow(manage=False)
    project = flow.project()
    flow.settle(project)
    before = flow.studio.writes
    flow.run(project)
    assert flow.studio.writes == before


def test_a_dry_run_writes_nothing_and_says_what_it_would(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    flow = make_flow()
    project = flow.project()
    state = flow.studio.state
    tasks = [dict(task) for task in state.tasks_of(project["id"])]
    flow.run(project, dry_run=True)
    task = flow.studio.state.task(tasks[0]["id"])
    flow.studio.submit(task, truth(task))
    other = flow.studio.state.task(tasks[1]["id"])
    flow.studio.submit(other, str((int(truth(task)) + 1) % 10))
    flow.run(project, dry_run=True)
    assert sum(flow.studio.writes.values()) == 0
    assert state.predictions_of(project["id"]) == []
    assert project["sampling"] == "Sequential sampling"
    assert "Dry run: would POST /api/predictions" in caplog.text
    assert f"Dry run: would PATCH /api/projects/{project['id']}" in caplog.text


# ── Disconnect ───────────────────────────────────────────────────────────────────────────────────────────


def test_disconnect_takes_back_all_that_is_ours_and_nothing_else(make_flow: MakeFlow) -> None:
    flow = make_flow(basic_auth_user="label", basic_auth_pass=Secret(PASSWORD))
    project = flow.project(connected=False, sampling="Uniform sampling")
    state = flow.studio.state
    theirs = state.create_webhook({"project": project["id"], "url": "http://127.0.0.1:9/hook"})
    task = state.tasks_of(project["id"])[0]
    foreign = dict(state.create_prediction({"task": task["id"], "score": 0.5, "model_version": "somebody-else"}))
    state.patch_project(project["id"], {"model_version": "somebody-else"})
    flow.connect(project, **BASIC)
    flow.settle(project)
    flow.label(project, 5)
    flow.settle(project)
    annotations = {id_: dict(annotation) for id_, annotation in state.annotations.items()}

    taken = disconnect_project(flow.settings, project["id"])

    assert state.predictions_of(project["id"]) == [foreign]
    assert state.webhooks_of(project["id"]) == [theirs]
    assert state.backends_of(project["id"]) == []
    assert (project["sampling"], project["model_version"]) == ("Uniform sampling", "somebody-else")
    for id_, annotation in annotations.items():
        assert state.annotations[id_] == annotation | {"parent_prediction": None}
    assert (taken.rows, taken.backends, taken.webhooks) == (N_TASKS, 1, 2)
    assert not flow.store(project).folder.exists()


def test_disconnect_leaves_what_is_kept_of_another_hosts_project_of_that_number(make_flow: MakeFlow) -> None:
    flow = make_flow()
    project = flow.project()
    flow.settle(project)
    key = flow.key(project)
    other = Home(flow.settings.model_dir).register(Connection(key=key, url="http://other", since=time.time() + 60))
    disconnect_project(replace(flow.settings, label_studio_url=""), project["id"])
    assert not flow.store(project).folder.exists()
    assert other.folder.exists()
    assert other.connection() == Connection(key=key, url="http://other", since=other.connection().since)


def test_disconnect_works_without_model_dir(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    flow.forget()
    disconnect_project(flow.settings, project["id"])
    assert flow.studio.state.predictions_of(project["id"]) == []
    assert (project["sampling"], project["model_version"]) == ("Sequential sampling", "")


def test_disconnect_of_a_project_that_is_not_ours_changes_nothing(flow: Flow) -> None:
    project = flow.project(connected=False)
    before, writes = dict(project), flow.studio.writes
    with pytest.raises(UnknownProjectError):
        disconnect_project(flow.settings, project["id"])
    assert (project, flow.studio.writes) == (before, writes)


def test_after_somebody_removes_the_connection_nothing_is_written_until_it_is_back(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    backend = flow.studio.state.backends_of(project["id"])[0]
    flow.studio.delete_backend(backend["id"])
    before = flow.studio.writes
    flow.label(project, 3)  # its webhook is still there, Label Studio leaves it
    for store in Home(flow.settings.model_dir).stores():
        run_once(store, flow.settings)
    assert flow.studio.writes - before == {"DELETE": 2}, "our webhook, and the automatic one that it stood for"
    before = flow.studio.writes
    flow.label(project, 1)
    for store in Home(flow.settings.model_dir).stores():
        run_once(store, flow.settings)
    assert flow.studio.writes == before
    assert list(Home(flow.settings.model_dir).stores()) == []
    flow.connect(project)
    flow.settle(project)
    assert flow.snapshot(project).facts.n_answered == 4
    assert flow.studio.writes != before


# ── Several projects, several runs ───────────────────────────────────────────────────────────────────────


def test_two_projects_do_not_disturb_each_other(flow: Flow) -> None:
    one, other = flow.project(), flow.project()
    for project in (one, other):
        flow.settle(project)
    untouched, name = flow.contents(other), flow.store(other).current_name()
    flow.label_every_cluster(one)
    flow.settle(other)
    assert flow.contents(other) == untouched
    assert flow.store(other).current_name() == name
    ids = {task["id"] for task in flow.studio.state.tasks_of(one["id"])}
    assert set(flow.rows(one)) <= ids
    assert not set(flow.rows(other)) & ids


def test_a_project_is_refreshed_while_another_is_locked(flow: Flow) -> None:
    one, other = flow.project(), flow.project()
    with flow.store(one).lock() as mine:
        assert mine
        assert run_once(flow.store(one), flow.settings) is None
        flow.settle(other)
    assert flow.queue(other)
    assert flow.studio.state.predictions_of(one["id"]) == []


def test_projects_of_two_label_studios_with_the_same_number_are_kept_apart(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    state = flow.studio.state
    state.projects[project["id"]] = {**project, "created_at": "2020-01-01T00:00:00.000000Z"}
    with pytest.raises(UnknownProjectError, match="is of another time"):
        flow.run(project)
    assert state.projects[project["id"]]["model_version"] == "exemplar-1"


def test_a_burst_of_answers_costs_few_refreshes_and_none_is_missed(make_flow: MakeFlow) -> None:
    flow = make_flow(debounce=0.2, poll=3600.0)
    project = flow.project()
    with working(flow):
        wait_for(lambda: project["model_version"] == "exemplar-1", "a queue")
        store = flow.store(project)
        wait_for(lambda: store.done().webhooks == store.number("webhooks"), "rest")
        first = flow.snapshot(project).facts.number
        flow.label(project, 8)
        wait_for(lambda: flow.snapshot(project).facts.n_answered == 8, "all answers")
        assert flow.snapshot(project).facts.number - first <= 3


def test_an_answer_that_comes_during_a_refresh_is_in_the_last_one(make_flow: MakeFlow) -> None:
    flow = make_flow(debounce=0.01, poll=3600.0)
    project = flow.project()
    with working(flow):
        wait_for(lambda: project["model_version"] == "exemplar-1", "a queue")
        flow.studio.faults = Faults(delay=0.05)
        for _ in range(8):
            flow.label(project, 1)
        flow.studio.faults = Faults()
        wait_for(lambda: flow.snapshot(project).facts.n_answered == 8, "the last answer")


def test_a_refresh_that_fails_is_tried_again(make_flow: MakeFlow) -> None:
    flow = make_flow(debounce=0.01, poll=3600.0)
    project = flow.project()
    flow.studio.faults = Faults(down=True)
    with working(flow):
        wait_for(lambda: flow.store(project).status().problem, "the problem to be told")
        flow.studio.faults = Faults()
        wait_for(lambda: project["model_version"] == "exemplar-1", "a queue")


def test_without_webhooks_changes_are_found_by_polling(make_flow: MakeFlow) -> None:
    flow = make_flow(poll=0.2)
    project = flow.project()
    flow.settle(project)
    for hook in flow.studio.state.webhooks_of(project["id"]):
        hook["is_active"] = False
    flow.label(project, 2)
    with working(flow):
        wait_for(lambda: flow.snapshot(project).facts.n_answered == 2, "the answers to be found")


# ── Basic auth ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def guarded(make_flow: MakeFlow) -> Flow:
    return make_flow(basic_auth_user="label", basic_auth_pass=Secret(PASSWORD))


@pytest.fixture
def behind_basic_auth(guarded: Flow) -> tuple[Flow, Json, Json]:
    """A connected project, settled, and the webhook of our own."""
    project = guarded.project(connected=False)
    guarded.connect(project, **BASIC)
    guarded.settle(project)
    own = [hook for hook in guarded.studio.state.webhooks_of(project["id"]) if SECRET_HEADER in hook["headers"]]
    assert len(own) == 1
    return guarded, project, own[0]


def test_every_route_but_health_demands_the_password(guarded: Flow) -> None:
    routes = [("GET", path) for path in ("/", "/metrics", "/versions", "/docs", "/openapi.json")]
    routes += [
        ("POST", path)
        for path in (
            "/setup",
            "/predict",
            "/webhook",
            "/train",
            "/job_status",
            "/validate",
            "/delete",
            "/duplicate_model",
        )
    ]
    answers = {path: guarded.call(method, path, {} if method == "POST" else None) for method, path in routes}
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(answers, 401)
    assert guarded.call("GET", "/health").status_code == 200
    assert guarded.call("GET", "/", auth=("label", "wrong")).status_code == 401
    assert guarded.call("GET", "/", auth=("label", PASSWORD)).status_code == 200


def test_our_own_webhook_replaces_the_automatic_one_and_does_not_tell_the_password(
    behind_basic_auth: tuple[Flow, Json, Json],
) -> None:
    flow, project, own = behind_basic_auth
    automatic = [hook for hook in flow.studio.state.webhooks_of(project["id"]) if hook is not own]
    assert [hook["is_active"] for hook in automatic] == [False]
    assert own["is_active"]
    assert PASSWORD not in str(own)
    flow.label(project, 1)
    assert flow.studio.webhook_answers[-1][:2] == ("ANNOTATION_CREATED", 201)


def test_behind_basic_auth_idle_means_idle_and_webhooks_are_not_doubled(
    behind_basic_auth: tuple[Flow, Json, Json],
) -> None:
    flow, project, _ = behind_basic_auth
    flow.store(project).raise_number("orders")
    flow.settle(project)
    before = flow.studio.writes
    flow.store(project).raise_number("orders")
    flow.settle(project)
    assert flow.studio.writes == before
    assert len(flow.studio.state.webhooks_of(project["id"])) == 2


def test_a_webhooks_secret_alone_cannot_order_a_training(behind_basic_auth: tuple[Flow, Json, Json]) -> None:
    flow, project, own = behind_basic_auth
    body = {"action": "START_TRAINING", "project": {"id": project["id"]}}
    refused = flow.call("POST", "/webhook", body, headers=own["headers"])
    assert refused.status_code == 403
    assert flow.store(project).number("orders") == 0
    assert flow.call("POST", "/webhook", body, auth=("label", PASSWORD)).status_code == 201
    assert flow.store(project).number("orders") == 1


def test_a_webhooks_secret_opens_no_other_route(behind_basic_auth: tuple[Flow, Json, Json]) -> None:
    flow, project, own = behind_basic_auth
    body = {"tasks": [], "project": flow.key(project)}
    assert flow.call("POST", "/predict", body, headers=own["headers"]).status_code == 401
    wrong = {SECRET_HEADER: "wrong"}
    assert flow.call("POST", "/webhook", {"action": "PROJECT_UPDATED"}, headers=wrong).status_code == 401


def test_a_lost_secret_is_replaced_by_a_new_one(behind_basic_auth: tuple[Flow, Json, Json]) -> None:
    flow, project, _ = behind_basic_auth
    flow.forget()
    flow.studio.list_backends(project["id"])
    flow.settle(project)
    flow.label(project, 1)
    assert flow.studio.webhook_answers[-1][:2] == ("ANNOTATION_CREATED", 201)
    assert len(flow.studio.state.webhooks_of(project["id"])) == 2


def test_a_password_that_is_set_later_gets_its_webhook(make_flow: MakeFlow) -> None:
    flow = make_flow()
    project = flow.project()
    flow.settle(project)
    guarded = make_flow(basic_auth_user="label", basic_auth_pass=Secret(PASSWORD))
    flow.studio.state.backends_of(project["id"])[0].update(BASIC)
    guarded.settle(project)
    own = [hook for hook in flow.studio.state.webhooks_of(project["id"]) if SECRET_HEADER in hook["headers"]]
    assert len(own) == 1


def test_a_second_order_within_moments_is_the_same_order(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    backend = flow.studio.state.backends_of(project["id"])[0]
    jobs = [flow.studio.start_training(backend)["job"] for _ in range(3)]
    assert jobs == [f"{flow.key(project)}:1"] * 3


def test_the_model_card_shows_the_generation_and_hides_the_password(
    behind_basic_auth: tuple[Flow, Json, Json],
) -> None:
    flow, project, _ = behind_basic_auth
    headers = {"Authorization": f"Token {flow.settings.label_studio_api_key}"}
    params = {"project": project["id"]}
    card = httpx.get(f"{flow.studio.url}/api/ml", params=params, headers=headers, trust_env=False).json()[0]
    assert (card["state"], card["model_version"]) == ("CO", "exemplar-1")
    assert PASSWORD not in str(card)


def test_after_a_restart_it_answers_as_before(make_flow: MakeFlow) -> None:
    flow = make_flow()
    project = flow.project()
    flow.settle(project)
    tasks = flow.studio.state.tasks_of(project["id"])
    before = flow.predict(project, tasks)
    assert make_flow().predict(project, tasks) == before


def test_disconnecting_waits_for_a_refresh_that_runs_and_no_other_begins(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    store = flow.store(project)
    ended: list[float] = []

    def disconnect() -> None:
        disconnect_project(flow.settings, project["id"])
        ended.append(time.monotonic())

    with store.lock() as ours:
        assert ours
        thread = threading.Thread(target=disconnect)
        thread.start()
        time.sleep(0.5)
        assert not ended
        assert flow.studio.state.predictions_of(project["id"])
    thread.join(20)
    assert ended
    assert flow.studio.state.predictions_of(project["id"]) == []
    assert not store.folder.exists()


@pytest.mark.parametrize("status", [404, 501])
def test_another_web_server_is_told_in_one_line(flow: Flow, status: int) -> None:
    page = "<!doctype html>\n<html>\n<h1>No such page</h1>\n</html>"
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text=page))
    with httpx.Client(base_url="http://studio", transport=transport) as other:
        client = Client("http://studio", "x" * 40, patience=0)
        client._http = other
        with pytest.raises(LabelStudioError) as raised:
            client.project(1)
    assert "<" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(status) in str(raised.value)
    assert ("is LABEL_STUDIO_URL Label Studio's address?" in str(raised.value)) == (status == 404)
