"""Whatever Label Studio holds or answers, the project goes on, and what cannot be used is counted and named."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exemplar.commands.report import report
from exemplar.errors import ExemplarError, LabelStudioError
from exemplar.labelstudio.label_config import (
    NO_CHOICES,
    NO_CONTROL,
    NO_REGION,
    NO_TEXT,
    NO_VALUE,
    SEVERAL_CHOICES,
    SEVERAL_REGIONS,
    UNKNOWN_LABEL,
)
from exemplar.labelstudio.tasks import NO_ID, ODD_SKIP
from exemplar.server import setup
from flows.conftest import N_TASKS, Flow, MakeFlow
from flows.fake_label_studio import Faults, choices
from flows.fake_state import Json

TEXT_CONFIG = (
    '<View><Text name="image" value="$text"/><Choices name="digit" toName="image">'
    '<Choice value="a"/><Choice value="b"/></Choices></View>'
)


@pytest.fixture
def flow(make_flow: MakeFlow) -> Flow:
    """What sees the pictures does not matter here: the quickest does."""
    return make_flow(features="thumbnail")


def deep(n: int) -> Any:
    nested: list[Any] = []
    for _ in range(n):
        nested = [nested]
    return nested


def status(flow: Flow, project: Json) -> Json:
    projects: dict[str, Json] = flow.call("GET", "/").json()["projects"]
    return projects[flow.key(project)]


def region(value: Any, **changes: Any) -> Json:
    return {"from_name": "digit", "to_name": "image", "type": "choices", "value": value} | changes


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────

ODD_RESULTS: list[tuple[Any, str | None]] = [
    (None, None),
    (3, NO_REGION),
    ("3", NO_REGION),
    ({"choices": ["3"]}, NO_REGION),
    ([3], NO_REGION),
    ([None, "3", [3]], NO_REGION),
    ([{}], NO_CONTROL),
    ([region({"choices": ["3"]}, from_name=None)], NO_CONTROL),
    ([region({"choices": ["3"]}, from_name=["digit"])], NO_CONTROL),
    ([{"from_name": "digit", "type": "choices"}], NO_VALUE),
    ([region(None)], NO_VALUE),
    ([region([3])], NO_VALUE),
    ([region({})], NO_CHOICES),
    ([region({"choices": None})], NO_CHOICES),
    ([region({"choices": 3})], NO_CHOICES),
    ([region({"choices": "3"})], NO_CHOICES),
    ([region({"choices": [3, 4]})], NO_TEXT),
    ([region({"choices": [["3"], {"3": 3}, None]})], NO_TEXT),
    ([region({"choices": ["zebra"]})], UNKNOWN_LABEL),
    ([region({"choices": ["\ud800"]})], None),  # Label Studio itself cannot show it
    ([region({"choices": [], "x": deep(300)})], None),
    ([{"type": "relation", "from_id": "a", "to_id": "b"}], None),
    ([{"from_name": "note", "type": "textarea", "value": None}], None),
    ([{"from_name": "box", "type": "rectanglelabels", "value": {"x": 1}}] * 1000, None),
]


@pytest.mark.parametrize(("result", "why"), ODD_RESULTS, ids=range(len(ODD_RESULTS)))
def test_an_odd_annotation_is_survived_and_named_and_the_others_answers_count(
    flow: Flow, result: Any, why: str | None
) -> None:
    project = flow.project()
    flow.settle(project)
    tasks = flow.studio.state.tasks_of(project["id"])
    flow.studio.state.create_annotation(tasks[0]["id"], {"result": result, "lead_time": 1.0}, 1)
    flow.studio.submit(tasks[1], "3")
    flow.settle(project)
    flow.studio.submit(tasks[2], "4")
    flow.settle(project)
    now = status(flow, project)
    assert (now["state"], now["problem"], now["answered"]) == ("ready", None, 2)
    assert now["not_used"] == ({why: 1} if why else {})


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ([region({"choices": ["3", "4"]})], SEVERAL_CHOICES),
        ([*choices("3"), *choices("4")], SEVERAL_REGIONS),
        ([region({"choices": ["zebra", "3"]})], UNKNOWN_LABEL),
        ([region({"choices": [3, "3"]})], NO_TEXT),
        ([None, *choices("3")], NO_REGION),
        ([region({"choices": ["3"], "x": deep(300)})], None),
    ],
)
def test_of_an_answer_with_too_much_the_first_label_counts_and_the_rest_is_named(
    flow: Flow, result: Any, why: str | None
) -> None:
    project = flow.project()
    task = flow.studio.state.tasks_of(project["id"])[0]
    flow.studio.state.create_annotation(task["id"], {"result": result, "lead_time": 1.0}, 1)
    flow.settle(project)
    assert status(flow, project)["answered"] == 1
    assert status(flow, project)["not_used"] == ({why: 1} if why else {})
    assert flow.snapshot(project).by_id[task["id"]].answer(flow.snapshot(project).facts.labeling) == 3


def test_what_is_not_used_is_told_in_log_status_and_report(flow: Flow, caplog: pytest.LogCaptureFixture) -> None:
    project = flow.project()
    tasks = flow.studio.state.tasks_of(project["id"])
    for task in tasks[:7]:
        flow.studio.submit(task, "zebra")
    flow.settle(project)
    flow.studio.submit(tasks[8], "3")
    flow.settle(project)
    told = f"7 answer(s), of task {', '.join(str(task['id']) for task in tasks[:5])}, …: {UNKNOWN_LABEL}"
    assert [told in record.message for record in caplog.records].count(True) == 1, "once for each change"
    assert status(flow, project)["not_used"] == {UNKNOWN_LABEL: 7}
    assert f'exemplar_not_used{{project="{flow.key(project)}"}} 7.0' in flow.call("GET", "/metrics").text
    assert f"Not used       {told}" in list(report(flow.settings, project["id"]))


def test_a_label_that_comes_back_counts_again(flow: Flow) -> None:
    project = flow.project()
    flow.studio.submit(flow.studio.state.tasks_of(project["id"])[0], "zebra")
    flow.settle(project)
    assert status(flow, project)["answered"] == 0
    project["label_config"] = project["label_config"].replace('value="9"', 'value="zebra"')
    flow.settle(project)
    assert (status(flow, project)["answered"], status(flow, project)["not_used"]) == (1, {})


ODD_FIELDS: list[tuple[Json, str | None, int]] = [
    ({"was_cancelled": "yes"}, ODD_SKIP, 0),
    ({"was_cancelled": [1]}, ODD_SKIP, 0),
    ({"was_cancelled": None}, None, 1),
    ({"completed_by": None}, None, 1),
    ({"completed_by": {"id": 7, "email": "a@b.c"}}, None, 1),
    ({"completed_by": {}}, None, 1),
    ({"completed_by": [7]}, None, 1),
    ({"lead_time": "x"}, None, 1),
    ({"lead_time": -1}, None, 1),
    ({"created_at": None}, None, 1),
    ({"parent_prediction": {"id": 3}}, None, 1),
    ({"id": None}, NO_ID, 0),
    ({"id": [3]}, NO_ID, 0),
    ({"id": "7"}, None, 1),
    ({"id": 2**70}, NO_ID, 0),
]


@pytest.mark.parametrize(("changes", "why", "answered"), ODD_FIELDS, ids=[str(row[0]) for row in ODD_FIELDS])
def test_an_annotation_with_odd_fields_stops_nothing(
    flow: Flow, changes: Json, why: str | None, answered: int
) -> None:
    project = flow.project()
    tasks = flow.studio.state.tasks_of(project["id"])
    flow.studio.submit(tasks[0], "3")
    flow.studio.submit(tasks[1], "4")

    def twist(path: str, answer: Any) -> Any:
        for task in answer["tasks"] if path == "/api/tasks" else ():
            if task["id"] == tasks[0]["id"]:
                task["annotations"] = [annotation | changes for annotation in task.get("annotations", [])]
        return answer

    flow.studio.faults = Faults(twist=twist)
    flow.settle(project)
    assert status(flow, project)["answered"] == 1 + answered
    assert status(flow, project)["not_used"] == ({why: 1} if why else {})


# ── Tasks ────────────────────────────────────────────────────────────────────────────────────────────────

ODD_DATA: list[tuple[Any, str | None]] = [
    (None, "its data is null"),
    ([], "its data is a list"),
    (["text"], "its data is a list"),
    (3, "its data is a number"),
    ("text", "its data is a text"),
    ({}, "has no 'text'"),
    ({"other": "x"}, "has no 'text'"),
    ({"text": None}, "has no 'text'"),
    ({"text": ""}, "has no 'text'"),
    ({"text": " \n"}, "has no 'text'"),
    ({"text": [1, 2]}, "its 'text' is a list"),
    ({"text": {"a": "b"}}, "its 'text' is an object"),
    ({"text": True}, "its 'text' is true or false"),
    ({"text": 3}, None),
    ({"text": int("9" * 300)}, None),
    ({"text": "a\0b"}, None),
    ({"text": "x", "more": deep(800)}, None),
    ({"text": "x", "more": deep(1500)}, "Label Studio itself fails to show it"),
    ({"text": "\ud800"}, "Label Studio itself fails to show it"),
    ({"text": "x", "\udfff": "half a character in a key"}, "Label Studio itself fails to show it"),
    ({"text": "word " * 400_000}, None),
]


@pytest.mark.parametrize(("data", "why"), ODD_DATA, ids=range(len(ODD_DATA)))
def test_odd_data_leaves_its_task_out_alone(flow: Flow, data: Any, why: str | None) -> None:
    project = flow.project(n_tasks=0, label_config=TEXT_CONFIG)
    good = flow.studio.state.import_tasks(project["id"], [{"text": f"number {i}"} for i in range(9)])
    odd = flow.studio.state._new_task(project["id"], data)
    flow.settle(project)
    assert status(flow, project)["left_out"] == (1 if why else 0)
    assert len(flow.snapshot(project).task_ids) == len(good) + (0 if why else 1)
    if why:
        assert flow.snapshot(project).facts.unreadable[odd["id"]].startswith(why)
        assert any(f"first is {odd['id']}: {why}" in line for line in report(flow.settings, project["id"]))
    flow.studio.submit(good[0], "a")
    flow.settle(project)
    assert status(flow, project)["answered"] == 1
    flow.studio.state.patch_task(odd["id"], {"text": "mended"})
    flow.studio.submit(good[1], "b")
    flow.settle(project)
    assert (status(flow, project)["left_out"], status(flow, project)["answered"]) == (0, 2)


def test_a_known_task_that_label_studio_no_longer_shows_stays_as_it_was(flow: Flow) -> None:
    project = flow.project()
    tasks = flow.studio.state.tasks_of(project["id"])
    flow.studio.submit(tasks[0], "3")
    flow.settle(project)
    flow.studio.state.create_annotation(tasks[0]["id"], {"result": [region({"choices": ["\ud800"]})]}, 1)
    flow.studio.submit(tasks[1], "4")
    flow.settle(project)
    assert status(flow, project)["answered"] == 2
    assert len(flow.snapshot(project).task_ids) == N_TASKS


def test_a_label_studio_that_can_show_nothing_is_down_and_no_task_is_left_out(flow: Flow) -> None:
    project = flow.project()
    for task in flow.studio.state.tasks_of(project["id"]):
        task["data"]["x"] = "\ud800"
    with pytest.raises(LabelStudioError):
        flow.run(project)
    assert flow.store(project).current() is None


ODD_TIMES = (
    None,
    7,
    [],
    "yesterday",
    "2026-11-25T10:00:00",
    "2026-11-25",
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z",
)


@pytest.mark.parametrize("time", ODD_TIMES)
def test_a_task_changed_at_an_odd_time_hides_no_later_change(flow: Flow, time: Any) -> None:
    project = flow.project()
    tasks = flow.studio.state.tasks_of(project["id"])

    def twist(path: str, answer: Any) -> Any:
        for task in answer["tasks"] if path == "/api/tasks" else ():
            if task["id"] == tasks[3]["id"]:
                task |= {"updated_at": time, "created_at": time}
        return answer

    flow.studio.faults = Faults(twist=twist)
    flow.settle(project)
    flow.studio.submit(tasks[0], "3")
    flow.settle(project)
    assert status(flow, project)["answered"] == 1


# ── Projects, predictions, pages ─────────────────────────────────────────────────────────────────────────


def changed(wanted: str, **values: Any) -> Callable[[str, Any], Any]:
    """Return a twist that gives all objects that a path answers other values; DROP leaves one out."""

    def twist(path: str, answer: Any) -> Any:
        if path != wanted:
            return answer
        for one in answer if isinstance(answer, list) else [answer]:
            one |= values
            for name in [name for name, value in values.items() if value is ...]:
                del one[name]
        return answer

    return twist


@pytest.mark.parametrize("value", [None, ..., 7, [], {}, "x" * 70_000])
@pytest.mark.parametrize("field", ["title", "model_version", "sampling", "show_collab_predictions", "task_number"])
def test_odd_facts_of_a_project_stop_nothing(flow: Flow, field: str, value: Any) -> None:
    project = flow.project()
    flow.studio.faults = Faults(twist=changed(f"/api/projects/{project['id']}", **{field: value}))
    flow.run(project)
    flow.studio.submit(flow.studio.state.tasks_of(project["id"])[0], "3")
    flow.run(project)
    assert status(flow, project)["answered"] == 1


@pytest.mark.parametrize("value", [None, ..., 7, [], "", "soon", "<View", "\0", "<View>" * 500])
@pytest.mark.parametrize("field", ["id", "created_at", "label_config"])
def test_facts_without_which_nothing_can_be_done_are_a_sentence_and_mended_facts_go_on(
    flow: Flow, field: str, value: Any
) -> None:
    project = flow.project()
    flow.studio.faults = Faults(twist=changed(f"/api/projects/{project['id']}", **{field: value}))
    if (field, value) == ("id", 7):
        flow.settle(project)
        return
    with pytest.raises(ExemplarError):
        flow.run(project)
    assert status(flow, project)["problem"]
    flow.studio.faults = Faults()
    flow.settle(project)
    assert status(flow, project)["problem"] is None


ODD_PREDICTIONS: list[Json] = [
    {"score": None},
    {"score": "high"},
    {"score": True},
    {"score": 1e300},
    {"result": None},
    {"result": 7},
    {"result": [None]},
    {"result": ...},
    {"model_version": None},
    {"model_version": 5},
    {"model_version": ["exemplar-1"]},
    {"task": None},
    {"task": [1]},
    {"id": None},
    {"id": "x"},
]


@pytest.mark.parametrize("changes", ODD_PREDICTIONS, ids=map(str, ODD_PREDICTIONS))
def test_odd_predictions_of_others_stop_nothing(flow: Flow, changes: Json) -> None:
    project = flow.project()
    state = flow.studio.state
    task = state.tasks_of(project["id"])[0]
    odd = state.create_prediction({"task": task["id"], "result": [], "score": 0.5, "model_version": "mine"})

    def twist(path: str, answer: Any) -> Any:
        if path != "/api/predictions" or not isinstance(answer, list):
            return answer
        new = {name: value for name, value in (odd | changes).items() if value is not ...}
        return [new, None, 7, *(row for row in answer if row["id"] != odd["id"])]

    flow.studio.faults = Faults(twist=twist)
    flow.settle(project)
    flow.label(project, 2)
    flow.settle(project)
    assert status(flow, project)["answered"] == 2
    assert state.predictions[odd["id"]] == odd


@pytest.mark.parametrize(
    "answer",
    [None, 7, "x", [], {}, {"tasks": []}, {"total": 3}, {"tasks": None, "total": 0}, {"tasks": {}, "total": "x"}],
)
def test_a_page_of_tasks_that_is_none_is_a_sentence(flow: Flow, answer: Any) -> None:
    project = flow.project()
    flow.studio.faults = Faults(twist=lambda path, real: answer if path == "/api/tasks" else real)
    with pytest.raises(LabelStudioError, match="page of tasks"):
        flow.run(project)
    flow.studio.faults = Faults()
    flow.settle(project)


def test_entries_that_are_no_task_or_twice_there_are_left_out(flow: Flow) -> None:
    project = flow.project()

    def twist(path: str, answer: Any) -> Any:
        if path == "/api/tasks":
            answer["tasks"] += [None, 7, {"id": None}, {"data": {}}, answer["tasks"][0]]
            answer["total"] += 5
            answer["tasks"][1]["id"] = str(answer["tasks"][1]["id"])
        return answer

    flow.studio.faults = Faults(twist=twist)
    flow.settle(project)
    assert len(flow.snapshot(project).task_ids) == N_TASKS


ODD_ANSWERS: list[Any] = [None, 7, "x", [], {}, [None, 7, "x", [], {}, {"id": "x"}, {"id": 99}]]


@pytest.mark.parametrize("path", ["/api/webhooks", "/model-versions", "/api/predictions", "/api/projects"])
@pytest.mark.parametrize("answer", ODD_ANSWERS, ids=range(len(ODD_ANSWERS)))
def test_odd_answers_raise_our_own_errors_at_most(flow: Flow, path: str, answer: Any) -> None:
    project = flow.project()
    flow.studio.faults = Faults(twist=lambda asked, real: answer if asked.endswith(path) else real)
    try:
        flow.run(project)
    except ExemplarError:
        assert status(flow, project)["problem"]
    flow.studio.faults = Faults()
    flow.settle(project)
    assert status(flow, project)["problem"] is None


# ── Anything ─────────────────────────────────────────────────────────────────────────────────────────────

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=10,
)
values_of_ours = st.fixed_dictionaries(
    {}, optional={"choices": json_values | st.lists(st.sampled_from("369")), "x": json_values}
)
regions_of_ours = st.fixed_dictionaries(
    {},
    optional={
        "from_name": json_values | st.just("digit"),
        "value": json_values | values_of_ours,
        "type": json_values,
    },
)


@pytest.fixture
def hospitable(make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch) -> Flow:
    """A backend that takes in projects as fast as they are invented."""
    monkeypatch.setattr(setup, "NEWS", 10_000)
    return make_flow(features="thumbnail")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    result=json_values | st.lists(json_values | regions_of_ours, max_size=3), data=json_values, event=json_values
)
def test_no_json_whatever_stops_a_project(hospitable: Flow, result: Any, data: Any, event: Any) -> None:
    flow, state = hospitable, hospitable.studio.state
    project = flow.project(n_tasks=5, connected=False)
    flow.connect(project)
    tasks = state.tasks_of(project["id"])
    flow.run(project)
    odd = state._new_task(project["id"], data)
    state.create_annotation(tasks[0]["id"], {"result": result, "lead_time": 1.0}, 1)
    state.create_annotation(odd["id"], {"result": result, "lead_time": 1.0}, 1)
    flow.studio.submit(tasks[1], "3")
    flow.settle(project)
    assert flow.snapshot(project).facts.n_answered in (1, 2), "the others' answers count"
    answer = flow.call("POST", "/webhook", event if isinstance(event, dict) else {"action": "X", "project": event})
    assert answer.status_code in (201, 422), answer.text
    assert len(flow.predict(project, [data, {"data": data}, {"id": data, "data": {"image": data}}])) == 3


def test_a_webhook_with_half_a_character_is_noted(flow: Flow) -> None:
    project = flow.project()
    before = flow.store(project).number("webhooks")
    body = b'{"action": "TASKS_CREATED", "project": {"id": %d}, "tasks": [{"data": "\\ud800"}]}' % project["id"]
    answer = flow.call("POST", "/webhook", None, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 201
    assert flow.store(project).number("webhooks") == before + 1


def test_nothing_of_it_is_an_error_in_the_log(flow: Flow, caplog: pytest.LogCaptureFixture) -> None:
    project = flow.project()
    for task, (result, _) in zip(flow.studio.state.tasks_of(project["id"]), ODD_RESULTS, strict=False):
        flow.studio.state.create_annotation(task["id"], {"result": result, "lead_time": 1.0}, 1)
    flow.settle(project)
    assert [
        record for record in caplog.records if record.levelno >= logging.ERROR and "exemplar" in record.name
    ] == []
