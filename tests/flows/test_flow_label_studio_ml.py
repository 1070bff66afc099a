"""ExemplarModel under the server of label-studio-ml 1.0.9, for people who run such servers already."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from exemplar.model import ExemplarModel
from flows.conftest import N_TASKS, Flow, truth
from flows.fake_label_studio import TOKEN
from flows.fake_state import Json


@pytest.fixture
def url(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve its Flask app with our class; settings come from the environment."""
    from label_studio_ml.api import init_app
    from label_studio_ml.model import LabelStudioMLManager
    from werkzeug.serving import make_server

    monkeypatch.setenv("LABEL_STUDIO_URL", flow.studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    monkeypatch.setenv("MODEL_DIR", str(flow.settings.model_dir))
    monkeypatch.setattr(LabelStudioMLManager, "_current_model", {})
    app = init_app(ExemplarModel, model_dir=str(flow.settings.model_dir / "label-studio-ml"))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("EXEMPLAR_URL", address)  # its /setup cannot give our proof
    yield address
    # label-studio-ml waits for no job of its own. What they ask of Label Studio makes that ask this server.
    for job in multiprocessing.active_children():
        job.join(60)
        assert not job.is_alive(), "a job did not end"
    server.shutdown()
    thread.join(10)
    server.server_close()


def wait_for(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"waited 10 s for {what}"
        time.sleep(0.02)


def connected(flow: Flow, url: str) -> Json:
    """Connect that server to a project and let a webhook come; its job refreshes the project."""
    project = flow.project(connected=False)
    flow.studio.connect(project, url)
    task = flow.studio.state.tasks_of(project["id"])[0]
    flow.studio.submit(task, truth(task))
    assert flow.studio.webhook_answers[-1][:2] == ("ANNOTATION_CREATED", 201)
    wait_for(lambda: flow.store(project).current_name(), "a snapshot")
    return project


def predict(flow: Flow, url: str, project: Json, tasks: list[Json]) -> httpx.Response:
    body = {"tasks": tasks, "project": flow.key(project), "label_config": project["label_config"]}
    return httpx.post(url + "/predict", json=body, trust_env=False, timeout=20)


def test_health_and_setup_answer(flow: Flow, url: str) -> None:
    project = flow.project(connected=False)
    assert httpx.get(url + "/health", trust_env=False).json()["status"] == "UP"
    assert flow.studio.connect(project, url)["state"] == "CO"


def test_the_job_of_a_webhook_makes_a_snapshot(flow: Flow, url: str) -> None:
    project = connected(flow, url)
    assert len(flow.snapshot(project).task_ids) == N_TASKS
    assert flow.snapshot(project).facts.n_answered == 1


def test_the_job_of_a_webhook_queues_tasks_in_label_studio(flow: Flow, url: str) -> None:
    project = connected(flow, url)
    wait_for(lambda: project["model_version"] == "exemplar-1", "the queue to be shown")
    assert flow.queue(project)


def test_predict_answers_one_result_a_task(flow: Flow, url: str) -> None:
    project = connected(flow, url)
    wait_for(lambda: flow.store(project).done().webhooks, "the end of the job")
    tasks = flow.studio.state.tasks_of(project["id"])
    answer = predict(flow, url, project, [*tasks, {"id": 10**6, "project": project["id"], "data": {}}])
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert len(results) == N_TASKS + 1
    assert {result["model_version"] for result in results} == {"exemplar-1"}


def test_an_answer_is_learned_by_the_job_of_its_webhook(flow: Flow, url: str) -> None:
    project = connected(flow, url)
    wait_for(lambda: flow.store(project).done().webhooks, "the end of the job")
    task = flow.studio.state.tasks_of(project["id"])[1]
    flow.studio.submit(task, truth(task))
    wait_for(lambda: flow.snapshot(project).facts.n_answered == 2, "the second job")


def test_predict_of_a_project_that_no_event_named_yet_says_so(flow: Flow, url: str) -> None:
    project = flow.project(connected=False)
    flow.studio.connect(project, url)
    answer = predict(flow, url, project, flow.studio.state.tasks_of(project["id"]))
    assert answer.status_code != 200
    assert "is not known here" in answer.text
