"""What real Label Studio 1.23.2 posts to a webhook, and how fast it is answered.

The payloads were recorded from a running one; its tokens were removed.
"""

import json
import re
import time
from pathlib import Path

import httpx
import pytest

from flows.conftest import Flow
from flows.fake_state import Json

PAYLOADS = Path(__file__).parent / "payloads"
EVENTS = sorted(path.stem for path in PAYLOADS.glob("[A-Z]*.json"))


def recorded(event: str, project: Json | None = None) -> Json:
    """Return a payload; with a project, as if it spoke of that one."""
    payload: Json = json.loads((PAYLOADS / f"{event}.json").read_text())
    if project is not None and "project" in payload:
        payload["project"] |= {"id": project["id"], "created_at": project["created_at"]}
    return payload


def test_every_action_is_recorded() -> None:
    actions = {recorded(event)["action"] for event in EVENTS}
    assert actions == {
        "ANNOTATION_CREATED",
        "ANNOTATION_UPDATED",
        "ANNOTATIONS_CREATED",
        "ANNOTATIONS_DELETED",
        "TASKS_CREATED",
        "TASKS_DELETED",
        "PROJECT_UPDATED",
        "START_TRAINING",
    }


def test_payloads_tell_nothing_of_the_machine_that_they_were_recorded_on() -> None:
    for path in PAYLOADS.glob("*.json"):
        text = path.read_text()
        for told in ("/tmp", "/root", "/home", "/work", "0123456789abcdef"):
            assert told not in text, f"{path.name}: {told}"
        assert text.count("@") == text.count("@example.com"), path.name


def test_the_recorded_setup_is_understood(flow: Flow) -> None:
    project = flow.project(connected=False)
    body = recorded("setup") | {"project": flow.key(project), "hostname": flow.studio.url}
    answer = flow.call("POST", "/setup", body)
    assert answer.status_code == 200, answer.text
    # The proof that Label Studio shows us, so that we know which of its model connections leads here.
    assert re.fullmatch(r"exemplar-0\.[0-9a-f]{16}", answer.json()["model_version"])


@pytest.mark.parametrize("event", EVENTS)
def test_each_recorded_event_marks_its_project_as_due(flow: Flow, event: str) -> None:
    project, other = flow.project(n_tasks=2), flow.project(n_tasks=2)
    payload = recorded(event, project)
    kind = "orders" if payload["action"] == "START_TRAINING" else "webhooks"
    before, before_other = flow.store(project).number(kind), flow.store(other).number(kind)
    answer = flow.call("POST", "/webhook", payload)
    assert answer.status_code == 201
    assert flow.store(project).number(kind) == before + 1
    names_no_project = "project" not in payload
    assert flow.store(other).number(kind) == before_other + names_no_project


def test_a_settled_projects_webhook_marks_that_project_alone(flow: Flow) -> None:
    project, other = flow.project(n_tasks=12), flow.project(n_tasks=12)
    for one in (project, other):
        flow.settle(one)
    before, before_other = flow.store(project).number("webhooks"), flow.store(other).number("webhooks")
    flow.label(project, 2)
    assert flow.store(project).number("webhooks") == before + 2
    assert flow.store(other).number("webhooks") == before_other


@pytest.mark.parametrize(
    ("name", "status", "marked"),
    [
        ("1", 201, (1, 0)),
        ("", 201, (1, 1)),  # it names none: all may have changed
        ("1.1", 201, (0, 0)),  # of another time than ours
        ("../1", 422, (0, 0)),
        ("*", 422, (0, 0)),
    ],
)
def test_the_address_of_a_webhook_names_its_project(
    flow: Flow, name: str, status: int, marked: tuple[int, int]
) -> None:
    stores = [flow.store(flow.project(n_tasks=2)) for _ in marked]
    before = [store.number("webhooks") for store in stores]
    answer = flow.call("POST", f"/webhook?project={name}", {"action": "ANNOTATION_CREATED"})
    assert answer.status_code == status, answer.text
    assert [store.number("webhooks") for store in stores] == [n + m for n, m in zip(before, marked, strict=True)]


def test_an_event_of_an_unknown_project_is_answered_201(flow: Flow) -> None:
    for event in EVENTS:
        assert flow.call("POST", "/webhook", recorded(event)).status_code == 201


def test_the_events_of_the_fake_have_the_shape_of_the_recorded_ones(flow: Flow) -> None:
    project, seen = flow.project(n_tasks=4), {}
    announce = flow.studio.state.announce

    def listen(project_id: int, action: str, payload: Json) -> None:
        seen[action] = payload
        announce(project_id, action, payload)

    state = flow.studio.state
    state.announce = listen
    flow.run(project)
    state.import_tasks(project["id"], [{"image": "x"}])
    task = flow.studio.next_task(project)
    assert task is not None
    annotation = flow.studio.submit(task, "1")
    state.patch_annotation(annotation["id"], {"lead_time": 3})
    state.accept_in_bulk(project["id"], [task["id"]], user=1)
    state.delete_annotation(annotation["id"])
    state.delete_tasks([task["id"]])
    for action, payload in seen.items():
        real = recorded(action)
        assert set(payload) | {"project", "action"} == set(real), action
        for key, value in payload.items():
            assert type(value) is type(real[key]), f"{action}.{key}"
            ours, theirs = (x[0] if isinstance(x, list) else x for x in (value, real[key]))
            assert set(ours) <= set(theirs), f"{action}.{key}: {set(ours) - set(theirs)}"
    assert len(seen) == 7


def test_answers_take_milliseconds(flow: Flow) -> None:
    project = flow.project(n_tasks=2)
    payload = recorded("ANNOTATION_CREATED", project)
    seconds = []
    with httpx.Client(base_url=flow.url, trust_env=False) as label_studio:
        for _ in range(200):
            started = time.perf_counter()
            assert label_studio.post("/webhook", json=payload).status_code == 201
            seconds.append(time.perf_counter() - started)
    seconds.sort()
    print(f"\n200 webhooks: p50 {1000 * seconds[100]:.1f} ms, p99 {1000 * seconds[197]:.1f} ms")
    assert seconds[197] < 0.1


def test_an_import_of_many_tasks_is_answered_in_time(flow: Flow) -> None:
    project = flow.project(n_tasks=2)
    payload = recorded("TASKS_CREATED", project)
    payload["tasks"] = payload["tasks"] * 4000  # some 10 MB, as after an import of 20 000 tasks
    started = time.perf_counter()
    assert flow.call("POST", "/webhook", payload).status_code == 201
    assert time.perf_counter() - started < 5
