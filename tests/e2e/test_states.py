"""What becomes of a project on a real Label Studio: odd annotations, a deleted project, a deleted connection."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import Backend
from e2e.annotators import connect, wait_for, wait_until_ready, wait_until_settled
from exemplar.commands.disconnect import disconnect_project
from exemplar.demo import digits
from exemplar.labelstudio.label_config import NO_CHOICES, NO_TEXT, NO_VALUE, UNKNOWN_LABEL
from exemplar.settings import Settings
from exemplar.values import Secret

JSON = {"Content-Type": "application/json"}
ODD = ['{"choices": null}', '{"choices": 3}', '{"choices": [1, 2]}', '{"choices": "3"}', '{"choices": ["zebra"]}']


@pytest.fixture
def backend(make_backend: Callable[..., Backend]) -> Backend:
    return make_backend(EXEMPLAR_POLL="3")


@pytest.fixture
def project(api: httpx.Client, backend: Backend, make_project: Any) -> dict[str, Any]:
    """A connected project with a queue; ``connection`` is its model connection."""
    made: dict[str, Any] = make_project(n_digits=20)
    made["connection"] = connect(api, made, backend)
    wait_until_ready(backend, made)
    return made


def test_odd_annotations_and_a_task_that_label_studio_cannot_show_are_survived(
    api: httpx.Client, backend: Backend, project: dict[str, Any]
) -> None:
    params = {"project": project["id"], "page_size": 100}
    tasks = api.get("/api/tasks", params=params).json()["tasks"]
    regions = [f'{{"from_name": "digit", "to_name": "image", "type": "choices", "value": {odd}}}' for odd in ODD]
    regions.append('{"from_name": "digit", "to_name": "image", "type": "choices"}')
    for task, region in zip(tasks, regions, strict=False):
        body = f'{{"result": [{region}], "lead_time": 1}}'
        api.post(f"/api/tasks/{task['id']}/annotations/", content=body, headers=JSON)  # some: 500, and yet kept
    kept = [len(api.get(f"/api/tasks/{task['id']}/").json()["annotations"]) for task in tasks[: len(regions)]]
    assert kept == [1] * len(regions), "Label Studio refuses some of them now"
    cut = '[{"data": {"image": "/data/upload/x.png", "note": "\\ud83d"}}]'
    assert api.post(f"/api/projects/{project['id']}/import", content=cut, headers=JSON).status_code == 201
    assert api.get("/api/tasks", params=params).status_code == 500, "Label Studio shows it now"
    answer = {"result": _digit(digits.true_digit(tasks[9]["data"])), "lead_time": 1}
    api.post(f"/api/tasks/{tasks[9]['id']}/annotations/", json=answer).raise_for_status()
    now = wait_until_settled(backend, project, answered=1)
    assert now["not_used"] == {NO_CHOICES: 3, NO_TEXT: 1, NO_VALUE: 1, UNKNOWN_LABEL: 1}
    assert (now["tasks"], now["left_out"]) == (21, 1)


def _digit(digit: int) -> list[dict[str, Any]]:
    value = {"choices": [str(digit)]}
    return [{"id": "x", "from_name": "digit", "to_name": "image", "type": "choices", "value": value}]


def test_a_deleted_project_is_closed_once_and_disconnect_takes_back_what_is_left(
    api: httpx.Client, studio: Any, backend: Backend, project: dict[str, Any]
) -> None:
    api.delete(f"/api/projects/{project['id']}/").raise_for_status()
    wait_for(lambda: backend.status(project)["state"] == "closed", f"the end; {backend.status(project)}", 30)
    assert "it is gone" in backend.status(project)["problem"]
    log = backend.log
    assert log.count("is closed: it is gone") == 1
    assert "Traceback" not in log
    other = connect_another(api, backend)
    wait_until_ready(backend, other)
    assert backend.log.count("is closed: it is gone") == 1, "the other one's turns passed"
    settings = Settings(
        label_studio_url=studio.url, label_studio_api_key=Secret(studio.token), model_dir=Path(backend.models)
    )
    assert disconnect_project(settings, project["id"]) is None
    assert backend.status(project) == {}
    api.delete(f"/api/projects/{other['id']}/").raise_for_status()


def connect_another(api: httpx.Client, backend: Backend) -> dict[str, Any]:
    config = (
        '<View><Text name="t" value="$text"/><Choices name="c" toName="t"><Choice value="a"/>'
        '<Choice value="b"/></Choices></View>'
    )
    made: dict[str, Any] = api.post("/api/projects/", json={"title": "Texts", "label_config": config}).json()
    texts = [{"text": f"number {i}"} for i in range(8)]
    api.post(f"/api/projects/{made['id']}/import", json=texts).raise_for_status()
    connect(api, made, backend)
    return made


def test_a_deleted_connection_is_noticed_and_its_webhook_goes_until_it_is_connected_again(
    api: httpx.Client, backend: Backend, project: dict[str, Any]
) -> None:
    assert api.get("/api/webhooks", params={"project": project["id"]}).json()
    api.delete(f"/api/ml/{project['connection']['id']}").raise_for_status()
    wait_for(lambda: backend.status(project)["state"] == "closed", f"the end; {backend.status(project)}", 30)
    assert "connection to us was removed" in backend.status(project)["problem"]
    assert api.get("/api/webhooks", params={"project": project["id"]}).json() == []
    connect(api, project, backend)
    wait_until_settled(backend, project, answered=0)
    assert backend.status(project)["state"] == "ready"
    assert [hook["is_active"] for hook in api.get("/api/webhooks", params={"project": project["id"]}).json()]


def test_a_label_config_that_loses_its_question_is_explained_in_the_connection_and_the_status(
    api: httpx.Client, backend: Backend, project: dict[str, Any]
) -> None:
    config = '<View><Image name="image" value="$image"/><TextArea name="note" toName="image"/></View>'
    api.patch(f"/api/projects/{project['id']}/", json={"label_config": config}).raise_for_status()
    said = "Exemplar classifies with Choices on an Image or a Text"
    wait_for(lambda: said in (backend.status(project)["problem"] or ""), "the reason", 30)
    card = api.get("/api/ml", params={"project": project["id"]}).json()[0]
    assert (card["readable_state"], said in card["error_message"]) == ("Error", True)
    told = [line for line in backend.log.splitlines() if said in line and "POST /setup" not in line]
    assert len(told) == 1, "once, however often it is looked at"
