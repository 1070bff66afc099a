"""Projects that are gone or have disconnected us are closed once, and nothing is closed by mistake."""

import os
import time
from typing import Any

import pytest
from typer.testing import CliRunner

from exemplar.cli import app
from exemplar.commands.accept import accept
from exemplar.commands.disconnect import disconnect_project
from exemplar.commands.report import report
from exemplar.context import open_project
from exemplar.errors import (
    CredentialsError,
    ExemplarError,
    LabelStudioError,
    NothingLearnedError,
    UnknownProjectError,
)
from exemplar.jobs import run_once
from exemplar.reception import Reception
from exemplar.rows import check_connection
from exemplar.store.home import Home
from flows.conftest import N_TASKS, Flow, MakeFlow
from flows.fake_label_studio import Faults
from flows.fake_state import Json

TEXT_AREA = '<View><Image name="image" value="$image"/><TextArea name="note" toName="image"/></View>'


@pytest.fixture
def settled(flow: Flow) -> Json:
    project = flow.project()
    flow.settle(project)
    return project


def status(flow: Flow, project: Json) -> Json:
    projects: dict[str, Json] = flow.call("GET", "/").json()["projects"]
    return projects[flow.key(project)]


def open_stores(flow: Flow) -> list[Any]:
    return list(Home(flow.settings.model_dir).stores())


def find_forgotten(flow: Flow) -> None:
    """Look for projects that show our rows, as the worker does, and let Label Studio confirm them."""
    reception = Reception(flow.settings, Home(flow.settings.model_dir))
    reception._find_forgotten()
    reception.close()
    flow.receive()


def a_poll_later(flow: Flow, project: Json, *, seconds: float = 61) -> None:
    """Let it be so long ago that the connection was looked at and that Label Studio introduced the project."""
    ago = time.time() - seconds
    for name in ("connected", "introduced"):
        (flow.store(project).folder / name).touch()
        os.utime(flow.store(project).folder / name, (ago, ago))


# ── Gone ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_deleted_project_is_closed_once_with_one_line(
    flow: Flow, settled: Json, caplog: pytest.LogCaptureFixture
) -> None:
    flow.studio.state.delete_project(settled["id"])
    flow.run(settled)
    now = status(flow, settled)
    assert (now["state"], now["doing"], now["pending_rows"]) == ("closed", None, 0)
    assert now["problem"].startswith("it is gone")
    assert [record.levelname for record in caplog.records if "is closed: it is gone" in record.message] == [
        "WARNING"
    ]
    assert open_stores(flow) == [], "nobody looks at it any more"


def test_a_project_deleted_while_it_is_refreshed_is_closed_as_well(flow: Flow, settled: Json) -> None:
    flow.label(settled, 1)

    def twist(path: str, answer: Any) -> Any:
        if path == "/api/tasks" and settled["id"] in flow.studio.state.projects:
            flow.studio.state.delete_project(settled["id"])
        return answer

    flow.studio.faults = Faults(twist=twist)
    for _ in range(3):
        if open_stores(flow):
            try:
                flow.run(settled)
            except ExemplarError:
                continue
    assert status(flow, settled)["state"] == "closed"


@pytest.mark.parametrize("closed_before", [True, False])
def test_disconnect_of_a_deleted_project_takes_back_what_is_left_here(
    flow: Flow, settled: Json, closed_before: bool
) -> None:
    flow.studio.state.delete_project(settled["id"])
    if closed_before:
        flow.run(settled)
    folder = flow.store(settled).folder
    assert disconnect_project(flow.settings, settled["id"]) is None
    assert not folder.exists()


def test_disconnect_says_that_a_project_is_gone(flow: Flow, settled: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", flow.studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", str(flow.settings.label_studio_api_key))
    monkeypatch.setenv("MODEL_DIR", str(flow.settings.model_dir))
    flow.studio.state.delete_project(settled["id"])
    ran = CliRunner().invoke(app, ["disconnect", str(settled["id"])])
    assert (ran.exit_code, ran.output.strip()) == (
        0,
        f"Project {settled['id']} is gone from Label Studio; what was kept of it here is deleted.",
    )


def project_404(flow: Flow, project: Json) -> Faults:
    """A Label Studio that answers 404 to the project, though it has it."""
    return Faults(not_found=f"/api/projects/{project['id']}")


def test_a_404_for_a_project_that_is_listed_closes_nothing(flow: Flow, settled: Json) -> None:
    flow.studio.faults = project_404(flow, settled)
    with pytest.raises(LabelStudioError):
        flow.run(settled)
    with pytest.raises(LabelStudioError):
        disconnect_project(flow.settings, settled["id"])
    assert len(open_stores(flow)) == 1
    flow.studio.faults = Faults()
    flow.run(settled)
    assert status(flow, settled)["problem"] is None


@pytest.mark.parametrize("missing", ["/api", "/api/current-user/whoami", "/api/projects"])
def test_a_server_that_answers_404_to_more_than_the_project_closes_nothing(
    flow: Flow, settled: Json, missing: str
) -> None:
    # Another server, a wrong prefix, a Label Studio that is starting behind a proxy.
    flow.studio.state.delete_project(settled["id"])
    flow.studio.faults = Faults(not_found=missing)
    with pytest.raises(LabelStudioError):
        flow.run(settled)
    with pytest.raises(LabelStudioError):
        disconnect_project(flow.settings, settled["id"])
    assert len(open_stores(flow)) == 1
    assert flow.store(settled).current() is not None


@pytest.mark.parametrize("answer", [None, 7, [], {}, {"results": None}, {"id": None}, "<html>"])
@pytest.mark.parametrize("path", ["/api/current-user/whoami", "/api/projects"])
def test_whoever_answers_anything_to_anything_closes_nothing(
    flow: Flow, settled: Json, path: str, answer: Any
) -> None:
    flow.studio.state.delete_project(settled["id"])
    flow.studio.faults = Faults(twist=lambda asked, real: answer if asked == path else real)
    with pytest.raises(LabelStudioError):
        flow.run(settled)
    assert len(open_stores(flow)) == 1


@pytest.mark.parametrize("organization", [None, 2])
def test_a_user_who_left_the_organization_closes_nothing_and_is_told(
    flow: Flow, settled: Json, organization: int | None
) -> None:
    flow.studio.organization_of_key = organization
    flow.studio.state.delete_project(settled["id"])  # for this user it looks the same
    with pytest.raises(CredentialsError, match=r"user1@example\.com"):
        flow.run(settled)
    assert len(open_stores(flow)) == 1


def test_a_project_that_comes_back_goes_on_when_it_is_connected(flow: Flow, settled: Json) -> None:
    project = flow.studio.state.projects.pop(settled["id"])
    flow.run(settled)
    assert status(flow, settled)["state"] == "closed"
    flow.studio.state.projects[settled["id"]] = project
    flow.studio.list_backends(settled["id"])  # as opening Settings ▸ Model does
    flow.label(settled, 1)
    flow.settle(settled)
    assert (status(flow, settled)["state"], status(flow, settled)["answered"]) == ("ready", 1)


# ── Disconnected ─────────────────────────────────────────────────────────────────────────────────────────


def delete_connection(flow: Flow, project: Json) -> None:
    for backend in flow.studio.state.backends_of(project["id"]):
        flow.studio.delete_backend(backend["id"])


def test_a_deleted_connection_is_noticed_within_a_poll_and_our_webhook_goes(
    flow: Flow, settled: Json, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(flow.studio.state.webhooks_of(settled["id"])) == 2
    flow.studio.state.create_webhook({"project": settled["id"], "url": "http://elsewhere/webhook"})
    delete_connection(flow, settled)
    a_poll_later(flow, settled)
    flow.run(settled)
    now = status(flow, settled)
    assert now["state"] == "closed"
    assert now["problem"].startswith("its model connection to us was removed in Label Studio")
    assert [hook["url"] for hook in flow.studio.state.webhooks_of(settled["id"])] == ["http://elsewhere/webhook"]
    assert len([record for record in caplog.records if "is closed" in record.message]) == 1
    assert open_stores(flow) == []
    assert len(flow.rows(settled)) > 0, "rows are taken back by `exemplar disconnect` alone"


def test_with_manage_off_no_webhook_is_touched(make_flow: MakeFlow) -> None:
    flow = make_flow(manage=False)
    project = flow.project()
    flow.settle(project)
    before = list(flow.studio.state.webhooks_of(project["id"]))
    delete_connection(flow, project)
    a_poll_later(flow, project)
    flow.run(project)
    assert status(flow, project)["state"] == "closed"
    assert flow.studio.state.webhooks_of(project["id"]) == before


def test_connecting_again_goes_on_where_it_was(flow: Flow, settled: Json) -> None:
    delete_connection(flow, settled)
    a_poll_later(flow, settled)
    flow.run(settled)
    flow.label(settled, 2)
    flow.connect(settled)
    flow.settle(settled)
    now = status(flow, settled)
    assert (now["state"], now["problem"], now["answered"]) == ("ready", None, 2)
    ours = [hook for hook in flow.studio.state.webhooks_of(settled["id"]) if "?project=" in hook["url"]]
    assert [hook["is_active"] for hook in ours] == [True]
    assert settled["model_version"] == "exemplar-1"


def test_disconnect_after_the_connection_was_deleted_takes_back_rows_and_sampling(
    flow: Flow, settled: Json
) -> None:
    delete_connection(flow, settled)
    a_poll_later(flow, settled)
    flow.run(settled)
    taken = disconnect_project(flow.settings, settled["id"])
    assert taken is not None
    assert flow.studio.state.predictions_of(settled["id"]) == []
    assert settled["sampling"] == "Sequential sampling"
    assert not flow.store(settled).folder.exists()


def test_disconnect_takes_the_webhook_of_a_deleted_connection_back_that_nobody_noticed(
    flow: Flow, settled: Json
) -> None:
    delete_connection(flow, settled)
    taken = disconnect_project(flow.settings, settled["id"])
    assert taken is not None
    assert [hook for hook in flow.studio.state.webhooks_of(settled["id"]) if hook["is_active"]] == []


def test_the_connection_is_looked_at_once_a_poll_and_not_at_each_submit(flow: Flow, settled: Json) -> None:
    asked = flow.studio.requests.count(("GET", "/api/ml"))
    project = open_project(flow.store(settled), flow.settings)
    for n_looks in (1, 2):
        a_poll_later(flow, settled)
        for _ in range(3):
            check_connection(project)
            flow.label(settled, 1)
        assert flow.studio.requests.count(("GET", "/api/ml")) - asked == n_looks
    project.client.close()


def test_a_clock_that_was_set_back_hides_no_deleted_connection(flow: Flow, settled: Json) -> None:
    delete_connection(flow, settled)
    a_poll_later(flow, settled, seconds=-86400)
    flow.run(settled)
    assert status(flow, settled)["state"] == "closed"


def test_a_connection_that_is_being_made_is_not_taken_for_a_deleted_one(flow: Flow) -> None:
    project = flow.project(n_tasks=0, connected=False)
    backend = {"project": project["id"], "extra_params": None}
    assert flow.call("POST", "/setup", flow.studio._setup_body(backend)).status_code == 200
    with pytest.raises(ExemplarError):  # Label Studio saves the connection after /setup only
        flow.receive()
    flow.studio.connect(project, flow.url)
    flow.run(project)  # who was introduced waits still
    assert status(flow, project)["state"] == "starting"


# ── Without a question ───────────────────────────────────────────────────────────────────────────────────


def test_a_config_without_questions_is_told_on_the_card_in_the_status_and_once_in_the_log(
    flow: Flow, settled: Json, caplog: pytest.LogCaptureFixture
) -> None:
    settled["label_config"] = TEXT_AREA
    said = "Exemplar classifies with Choices on an Image or a Text"
    for _ in range(3):
        a_poll_later(flow, settled)
        with pytest.raises(ExemplarError):
            flow.run(settled)
    assert said in status(flow, settled)["problem"]
    assert said in flow.studio.state.backends_of(settled["id"])[0]["error_message"]
    told = [record for record in caplog.records if record.name == "exemplar.jobs" and said in record.message]
    assert len([record for record in told if record.levelname == "ERROR"]) == 1


# ── Not known ────────────────────────────────────────────────────────────────────────────────────────────


def refusals(flow: Flow, project_id: int) -> set[str]:
    """Return what `report` and `accept` say of a project."""
    found = set()
    for command in (lambda: list(report(flow.settings, project_id)), lambda: accept(flow.settings, project_id)):
        with pytest.raises(ExemplarError) as refused:
            command()
        found.add(str(refused.value))
    return found


def test_an_empty_model_dir_is_called_so(flow: Flow) -> None:
    (said,) = refusals(flow, 7)
    assert f"MODEL_DIR={flow.settings.model_dir} holds no project at all" in said


def test_another_project_is_told_what_model_dir_holds(flow: Flow, settled: Json) -> None:
    (said,) = refusals(flow, 77)
    assert f"MODEL_DIR={flow.settings.model_dir} holds only {settled['id']}." in said


def test_a_project_without_tasks_is_known_and_waits_for_them(flow: Flow) -> None:
    project = flow.project(n_tasks=0)
    (said,) = refusals(flow, project["id"])
    assert "the backend has not looked at it yet" in said
    flow.run(project)
    (said,) = refusals(flow, project["id"])
    assert said.endswith("nothing is learned yet: waiting for tasks")
    with pytest.raises(NothingLearnedError):
        accept(flow.settings, project["id"])


def test_after_a_disconnect_it_says_so(flow: Flow, settled: Json) -> None:
    disconnect_project(flow.settings, settled["id"])
    (said,) = refusals(flow, settled["id"])
    assert "it was disconnected on 20" in said
    with pytest.raises(UnknownProjectError, match="nothing to take back"):
        disconnect_project(flow.settings, settled["id"])


def test_disconnect_of_a_project_that_exists_nowhere_says_so(flow: Flow) -> None:
    with pytest.raises(UnknownProjectError, match="has no such project, nor has MODEL_DIR"):
        disconnect_project(flow.settings, 999)


def test_a_closed_project_can_still_be_reported(flow: Flow, settled: Json) -> None:
    flow.studio.state.delete_project(settled["id"])
    flow.run(settled)
    lines = list(report(flow.settings, settled["id"]))
    assert lines[0] == f"Project {settled['id']}: 0 of {N_TASKS} tasks answered, 0 predicted"
    assert lines[1].startswith("State          closed: it is gone")


def test_predict_for_a_closed_project_says_why(flow: Flow, settled: Json) -> None:
    flow.studio.state.delete_project(settled["id"])
    flow.run(settled)
    body = {"tasks": [], "project": flow.key(settled)}
    answer = flow.call("POST", "/predict", body)
    assert answer.status_code == 404
    assert "it is gone" in answer.json()["error"]


def test_under_another_server_an_event_of_a_closed_project_ends(flow: Flow, settled: Json) -> None:
    flow.studio.state.delete_project(settled["id"])
    store = flow.store(settled)
    number = store.raise_number("webhooks")
    run_once(store, flow.settings)
    assert store.done().webhooks == number, "who waits for it would wait for ever"


# ── Looking for projects that are not known ──────────────────────────────────────────────────────────────


def test_one_project_that_vanishes_hides_no_other_from_those_who_look_for_it(flow: Flow) -> None:
    lost, found = flow.project(), flow.project()
    for project in (lost, found):
        flow.settle(project)
    flow.forget()
    gone = lost["id"]

    def twist(path: str, answer: Any) -> Any:
        if path == "/api/projects":
            answer["results"].sort(key=lambda project: project["id"])
            flow.studio.state.delete_project(gone)
        return answer

    flow.studio.faults = Faults(twist=twist)
    find_forgotten(flow)
    assert [store.project_id for store in open_stores(flow)] == [found["id"]]


@pytest.mark.parametrize("answer", [None, 7, [], {}, {"results": [None, {"id": "x"}]}])
def test_a_list_of_projects_that_is_none_is_a_line_in_the_log(
    flow: Flow, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    flow.studio.faults = Faults(twist=lambda path, real: answer)
    find_forgotten(flow)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
