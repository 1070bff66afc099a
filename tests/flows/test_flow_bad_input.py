"""Whatever comes in, the answer is a sentence, and one bad thing does not spoil the others."""

import logging
from typing import Any

import httpx
import pytest

from exemplar.errors import LabelStudioDownError, LabelStudioError
from exemplar.labelstudio.client import Client
from exemplar.server import setup
from flows.conftest import N_TASKS, Flow, said
from flows.fake_label_studio import ApiError, Faults
from flows.fake_state import Json

TEXT_AREA = '<View><Image name="image" value="$image"/><TextArea name="note" toName="image"/></View>'


@pytest.fixture
def labelled(flow: Flow) -> Json:
    project = flow.project()
    flow.settle(project)
    flow.label_every_cluster(project)
    return project


def status(flow: Flow, project: Json) -> Json:
    projects: dict[str, Json] = flow.call("GET", "/").json()["projects"]
    return projects[flow.key(project)]


# ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────


BODIES = (b"", b"{", b"[1, 2]", b'"text"', b"null", b"{}", b'{"project": [1]}', b"\xff\xfe")


@pytest.mark.parametrize(
    "path", ["/setup", "/predict", "/webhook", "/train", "/job_status", "/validate", "/delete"]
)
def test_a_body_that_cannot_be_used_is_answered_422_with_a_sentence(flow: Flow, path: str) -> None:
    headers = {"Content-Type": "application/json"}
    for body in BODIES:
        answer = httpx.post(flow.url + path, content=body, headers=headers, trust_env=False)
        assert answer.status_code == 422, f"{body[:20]!r}: {answer.status_code} {answer.text}"
        assert answer.json()["error"], body[:20]


@pytest.mark.parametrize(
    ("method", "path", "code"), [("GET", "/nothing", 404), ("GET", "/setup", 405), ("POST", "/predict", 422)]
)
def test_refusals_of_the_framework_are_sentences_too(flow: Flow, method: str, path: str, code: int) -> None:
    deep = b'{"a":' * 2000
    headers = {"Content-Type": "application/json"}
    answer = httpx.request(method, flow.url + path, content=deep, headers=headers, trust_env=False)
    assert answer.status_code == code
    assert answer.json()["error"]


def test_an_unknown_project_is_answered_404_with_what_to_do(flow: Flow) -> None:
    for project in ("999.1700000000", "no-number", "../../etc", "1", ""):
        for path, body in (
            ("/predict", {"tasks": [], "project": project}),
            ("/job_status", {"job": f"{project}:1"}),
        ):
            answer = flow.call("POST", path, body)
            assert answer.status_code == 404, f"{path} {project!r}: {answer.text}"
            assert "open Settings ▸ Model in Label Studio" in answer.json()["error"]


def test_a_project_name_that_is_a_path_leaves_no_folder(flow: Flow, tmp_path: Any) -> None:
    body = {"project": "../../evil.1", "schema": "<View/>", "hostname": flow.studio.url}
    assert flow.call("POST", "/setup", body).status_code in (404, 422)
    assert not list(tmp_path.rglob("*evil*"))


def test_a_webhook_with_a_strange_project_is_no_server_error(flow: Flow) -> None:
    for project in ("x", {"id": "x"}, {"id": None}, {}, [], True, 10**30, -1):
        answer = flow.call("POST", "/webhook", {"action": "ANNOTATION_CREATED", "project": project})
        assert answer.status_code in (201, 422), f"{project!r}: {answer.text}"


# ── Label configs ────────────────────────────────────────────────────────────────────────────────────────


CHOICES_ON = '<Choices name="c" toName="{}"><Choice value="1"/></Choices>'
USELESS_CONFIGS = (
    TEXT_AREA,
    "<View></View>",
    "",
    "<View",
    "<View><Choices/></View>",
    '<View><Image name="image" value="$image"/><Choices name="c" toName="image"/></View>',
    f'<View><Image name="image" value="$image"/>{CHOICES_ON.format("nothing")}</View>',
    f'<View><Audio name="a" value="$a"/>{CHOICES_ON.format("a")}</View>',
    f'<View><Image name="image"/>{CHOICES_ON.format("image")}</View>',
    f'<View><Image name="image" value="fixed.png"/>{CHOICES_ON.format("image")}</View>',
    '<View><Choices name="c"><Choice value="1"/></Choices></View>',
)


@pytest.mark.parametrize("config", USELESS_CONFIGS, ids=range(len(USELESS_CONFIGS)))
def test_a_label_config_without_what_we_classify_is_explained_in_the_status_line(flow: Flow, config: str) -> None:
    body = {"project": "1.1700000000", "schema": config, "hostname": flow.studio.url, "access_token": "x"}
    answer = flow.call("POST", "/setup", body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"].startswith(
        ("Exemplar classifies with Choices on", "The label config is no valid")
    )
    assert answer.reason_phrase.startswith(answer.json()["error"][:30])


def test_a_label_config_without_choices_is_explained_on_the_model_card(flow: Flow) -> None:
    with pytest.raises(ApiError, match="Exemplar classifies with Choices on an Image or a Text"):
        flow.project(label_config=TEXT_AREA)


def test_a_label_config_that_loses_its_choices_later_is_told_and_learning_goes_on_after(
    flow: Flow, labelled: Json
) -> None:
    good = labelled["label_config"]
    labelled["label_config"] = TEXT_AREA
    with pytest.raises(Exception, match="Exemplar classifies with Choices"):
        flow.run(labelled)
    assert "Exemplar classifies with Choices" in status(flow, labelled)["problem"]
    labelled["label_config"] = good
    flow.settle(labelled)
    assert status(flow, labelled)["problem"] is None


# ── Tasks ────────────────────────────────────────────────────────────────────────────────────────────────


def bad_tasks(flow: Flow) -> list[Json]:
    flow.studio.state.files["x/text.png"] = b"this is no image"
    flow.studio.state.files["x/gone.png"] = b""  # the record is there, the file is not: 404
    return [
        {"image": "/data/upload/x/text.png"},
        {"image": "/data/upload/x/gone.png"},
        {"image": ""},
        {"image": None},
        {"image": 7},
        {"image": {"a": 1}},
        {"picture": "/data/upload/x/text.png"},
        {"image": "s3://bucket/x.png"},
        {"image": "data:image/png;base64,%%%"},
        {"image": "http://127.0.0.1:9/x.png"},
        {"image": "http://[broken/x.png"},
        {"image": "http://127.0.0.1:port/x.png"},
        {"image": "/data/upload/\x07bell.png"},
        {"image": "http://a b/\nx.png"},
        {"image": "/data/upload/../../etc/passwd"},
    ]


def test_tasks_that_cannot_be_read_are_left_out_and_counted(flow: Flow, caplog: pytest.LogCaptureFixture) -> None:
    project = flow.project()
    bad = flow.studio.state.import_tasks(project["id"], bad_tasks(flow))
    flow.settle(project)
    assert status(flow, project)["left_out"] == len(bad)
    assert len(flow.queue(project)) > 0
    flow.label_every_cluster(project)
    assert len(flow.rows(project)) == N_TASKS
    assert f"task {bad[0]['id']} is left out: not an image that can be read" in caplog.text


def test_one_bad_task_never_fails_the_others(flow: Flow) -> None:
    for data in bad_tasks(flow):
        project = flow.project(n_tasks=6)
        flow.studio.state.import_tasks(project["id"], [data])
        flow.run(project)
        assert status(flow, project)["left_out"] == 1, data
        assert flow.queue(project), data


def test_a_file_that_label_studio_forgot_leaves_only_its_task_out(flow: Flow) -> None:
    # The real one answers 500 to a file without record ("'NoneType' object has no attribute 'has_permission'").
    project = flow.project()
    flow.studio.state.import_tasks(project["id"], [{"image": "/data/upload/1/deleted.png"}])
    flow.settle(project)
    assert status(flow, project)["left_out"] == 1
    assert flow.queue(project)


def test_a_pool_of_nothing_readable_says_so(flow: Flow) -> None:
    project = flow.project(n_tasks=0)
    flow.studio.state.import_tasks(project["id"], bad_tasks(flow)[:3])
    flow.run(project)
    assert status(flow, project)["doing"] == "waiting for a task that can be read"


def test_a_task_that_becomes_readable_joins(flow: Flow) -> None:
    project = flow.project()
    task = flow.studio.state.import_tasks(project["id"], [{"image": "/data/upload/x/late.png"}])[0]
    flow.studio.state.files["x/late.png"] = b"no image"
    flow.settle(project)
    flow.studio.state.files["x/late.png"] = next(iter(flow.studio.state.files.values()))
    flow.store(project).raise_number("orders")
    flow.settle(project)
    assert status(flow, project)["left_out"] == 0
    assert flow.snapshot(project).row(task["id"]) is not None


STRANGE: list[Any] = [
    None,
    7,
    "task",
    [],
    {},
    {"id": "x"},
    {"data": None},
    {"data": []},
    {"data": {}},
    {"id": None, "data": {"image": None}},
    {"id": -1, "data": {"image": 3}},
    {"id": 2**70, "data": {"image": "/data/upload/x/gone.png"}},
    {"id": 2**62, "data": {"image": "/data/upload/x/gone.png"}},
    {"id": True, "data": {"image": "/data/upload/x/text.png"}},
    {"data": {"image": "http://127.0.0.1:9/x.png"}},
]


def test_predict_answers_exactly_one_result_a_task_in_order(flow: Flow, labelled: Json) -> None:
    good = flow.studio.state.tasks_of(labelled["id"])
    expected = [said(answer) for answer in flow.predict(labelled, good)]
    assert None not in expected
    bad_tasks(flow)
    mixed = [task for pair in zip(STRANGE, good, strict=False) for task in pair]
    answers = flow.predict(labelled, mixed)
    assert len(answers) == len(mixed)
    assert [said(answer) for answer in answers[1::2]] == expected[: len(STRANGE)]
    assert [answer["result"] for answer in answers[::2]] == [[]] * len(STRANGE)


def test_a_strange_task_alone_gets_one_empty_result(flow: Flow, labelled: Json) -> None:
    for task in STRANGE:
        assert [answer["result"] for answer in flow.predict(labelled, [task])] == [[]], task


def test_one_bad_file_outside_the_pool_never_fails_its_neighbours(flow: Flow, labelled: Json) -> None:
    outside = {"data": flow.studio.state.tasks_of(labelled["id"])[0]["data"]}
    for data in [*bad_tasks(flow), {"image": "/data/upload/1/deleted.png"}]:
        answers = flow.predict(labelled, [outside, {"data": data}, outside])
        assert [said(answer) is None for answer in answers] == [False, True, False], data


def test_a_task_with_half_a_character_gets_an_empty_result(flow: Flow, labelled: Json) -> None:
    task = '{"data": {"image": "\\ud800"}}'
    body = f'{{"project": "{flow.key(labelled)}", "tasks": [{task}]}}'
    answer = flow.call("POST", "/predict", None, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert [result["result"] for result in answer.json()["results"]] == [[]]


def test_the_same_task_twice_is_answered_twice(flow: Flow, labelled: Json) -> None:
    task = flow.studio.state.tasks_of(labelled["id"])[0]
    answers = flow.predict(labelled, [task, task, task])
    assert answers == [answers[0]] * 3


def test_no_tasks_get_no_results(flow: Flow, labelled: Json) -> None:
    assert flow.predict(labelled, []) == []


def test_before_the_first_snapshot_results_are_empty(flow: Flow) -> None:
    project = flow.project()
    answers = flow.predict(project, flow.studio.state.tasks_of(project["id"]))
    assert [answer["result"] for answer in answers] == [[]] * N_TASKS


# ── Label Studio down or slow ────────────────────────────────────────────────────────────────────────────


def test_while_label_studio_is_down_the_snapshot_is_served(flow: Flow, labelled: Json) -> None:
    tasks = flow.studio.state.tasks_of(labelled["id"])
    before = flow.predict(labelled, tasks)
    flow.label(labelled, 1)
    flow.studio.faults = Faults(down=True)
    with pytest.raises(LabelStudioDownError):
        flow.run(labelled)
    assert flow.predict(labelled, tasks) == before
    assert "answered GET /api/projects" in status(flow, labelled)["problem"]
    assert status(flow, labelled)["state"] == "ready"
    flow.studio.faults = Faults()
    flow.settle(labelled)
    assert status(flow, labelled)["problem"] is None


def test_a_label_studio_that_refuses_connections_is_told_as_such(flow: Flow, labelled: Json) -> None:
    client = Client("http://127.0.0.1:9", "x" * 40)
    with pytest.raises(LabelStudioDownError, match=r"at http://127.0.0.1:9 cannot be reached"):
        client.project(1)
    client.close()


def test_another_server_at_the_address_is_explained(flow: Flow) -> None:
    client = Client(flow.url, "x" * 40)  # that is us, not Label Studio
    with pytest.raises(LabelStudioError, match="answered GET /api/projects/1 with 404"):
        client.project(1)
    client.close()


def test_while_label_studio_is_slow_predict_and_setup_answer_in_time(
    flow: Flow, labelled: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "TRY_EVERY", 0.0)
    tasks = flow.studio.state.tasks_of(labelled["id"])
    flow.studio.faults = Faults(delay=10)
    assert len(flow.predict(labelled, tasks)) == N_TASKS
    backend = flow.studio.state.backends_of(labelled["id"])[0]
    answer = flow.call("POST", "/setup", flow.studio._setup_body(backend))
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() < 3, "Label Studio waits 3 s"


# ── Said to nobody ───────────────────────────────────────────────────────────────────────────────────────


def test_no_key_is_ever_logged(flow: Flow, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "exemplar")
    project = flow.project()
    flow.settle(project)
    flow.label(project, 4)
    flow.studio.faults = Faults(down=True)
    with pytest.raises(LabelStudioDownError):
        flow.run(project)
    flow.studio.faults = Faults()
    flow.settle(project)
    assert flow.settings.label_studio_api_key not in caplog.text


def test_what_is_kept_of_the_connection_is_readable_by_its_owner_alone(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    assert (flow.store(project).folder / "connection.json").stat().st_mode & 0o077 == 0
