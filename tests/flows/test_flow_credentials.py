"""Where the key to Label Studio comes from, and what is said when it does not fit."""

from dataclasses import replace

import pytest

from exemplar.errors import CredentialsError, LabelStudioError
from exemplar.values import Secret
from flows.conftest import Flow, MakeFlow, truth
from flows.fake_label_studio import PERSONAL_TOKEN, TOKEN, ApiError

WHAT_TO_DO = "set LABEL_STUDIO_API_KEY to a token from Account & Settings"


def test_without_settings_the_credentials_of_setup_are_used(make_flow: MakeFlow) -> None:
    flow = make_flow(label_studio_url="", label_studio_api_key=Secret(""))
    project = flow.project()
    connection = flow.store(project).connection()
    assert connection is not None
    assert (connection.url, connection.access_token) == (flow.studio.url, TOKEN)
    flow.settle(project)
    assert flow.queue(project)


def test_the_setting_wins_over_what_setup_sends_and_that_is_not_kept(make_flow: MakeFlow) -> None:
    flow = make_flow(label_studio_api_key=Secret(PERSONAL_TOKEN))
    project = flow.project()
    connection = flow.store(project).connection()
    assert connection is not None
    assert connection.access_token == ""
    files = [path for path in flow.settings.model_dir.rglob("*") if path.is_file()]
    assert files
    assert not any(TOKEN.encode() in path.read_bytes() for path in files)


def test_a_wrong_key_is_explained_in_the_status_line_of_setup(make_flow: MakeFlow) -> None:
    flow = make_flow(label_studio_api_key=Secret("9" * 40))
    with pytest.raises(ApiError, match=WHAT_TO_DO):
        flow.project()


def test_a_legacy_token_that_is_switched_off_is_explained(make_flow: MakeFlow) -> None:
    flow = make_flow(label_studio_url="", label_studio_api_key=Secret(""))
    flow.studio.legacy_tokens = False
    with pytest.raises(ApiError, match=WHAT_TO_DO):
        flow.project()


def test_no_key_at_all_is_explained(make_flow: MakeFlow) -> None:
    flow = make_flow(label_studio_url="", label_studio_api_key=Secret(""))
    project = flow.project(connected=False)
    body = {"project": flow.key(project), "schema": project["label_config"], "hostname": flow.studio.url}
    answer = flow.call("POST", "/setup", body)
    assert answer.status_code == 424
    assert "LABEL_STUDIO_API_KEY" in answer.reason_phrase
    answer = flow.call("POST", "/setup", {**body, "hostname": ""})
    assert "No address of Label Studio" in answer.reason_phrase


def test_a_key_that_is_revoked_later_is_told_and_the_snapshot_served(make_flow: MakeFlow) -> None:
    flow = make_flow()
    project = flow.project()
    flow.settle(project)
    flow.label_every_cluster(project)
    tasks = flow.studio.state.tasks_of(project["id"])
    before = flow.predict(project, tasks)
    flow.studio.users = {"8" * 40: 1}
    with pytest.raises(CredentialsError):
        flow.run(project)
    assert flow.predict(project, tasks) == before
    problem = flow.call("GET", "/").json()["projects"][flow.key(project)]["problem"]
    assert WHAT_TO_DO in problem


def test_a_label_studio_that_refuses_our_webhook_is_told_as_such_and_learned_from(flow: Flow) -> None:
    """Started with ML_BLOCK_LOCAL_IP=false alone it keeps the connection, and answers 403 to the webhook."""
    flow.studio.refuses_local_webhooks = True
    project = flow.project(connected=False)
    with pytest.raises(ApiError, match="reserved network address"):
        flow.studio.connect(project, flow.url)
    with pytest.raises(LabelStudioError, match="SSRF_PROTECTION_ENABLED=false, too"):
        flow.run(project)
    status = flow.call("GET", "/").json()["projects"][flow.key(project)]
    assert "refuses webhooks to this backend's address" in status["problem"]
    assert "API key" not in status["problem"]
    assert status["tasks"] == len(flow.studio.state.tasks_of(project["id"]))


def test_a_personal_access_token_works_and_is_renewed_when_its_access_token_expires(make_flow: MakeFlow) -> None:
    flow = make_flow(label_studio_api_key=Secret(PERSONAL_TOKEN))
    flow.studio.legacy_tokens = False
    project = flow.project()
    flow.settle(project)
    assert flow.queue(project)

    # It expires in the middle of a refresh: after the third row was written.
    renewals, write, n_written = flow.studio.n_renewals, flow.studio.state.create_prediction, [0]

    def expiring(values: dict[str, object]) -> dict[str, object]:
        n_written[0] += 1
        if n_written[0] == 3:
            flow.studio.access_tokens.clear()
        return write(values)

    other = flow.project()
    flow.studio.state.create_prediction = expiring  # type: ignore[method-assign]
    flow.run(other)
    assert len(flow.queue(other)) == len(flow.queue(project))
    assert flow.studio.n_renewals > renewals + 1


def test_a_personal_access_token_is_renewed_once_and_not_for_each_request(make_flow: MakeFlow) -> None:
    flow = make_flow(label_studio_api_key=Secret(PERSONAL_TOKEN))
    project = flow.project()
    renewals = flow.studio.n_renewals
    flow.run(project)
    assert flow.studio.n_renewals == renewals + 1


def test_a_wrong_personal_access_token_is_explained(make_flow: MakeFlow) -> None:
    flow = make_flow(label_studio_api_key=Secret("a.b.c"))
    with pytest.raises(ApiError, match="a personal access token, with status 401: create a new one"):
        flow.project()


def test_a_changed_address_of_label_studio_is_another_store(make_flow: MakeFlow) -> None:
    flow = make_flow()
    project = flow.project()
    flow.settle(project)
    localhost = replace(flow.settings, label_studio_url=flow.studio.url.replace("127.0.0.1", "localhost"))
    other = replace(flow, settings=localhost)
    assert other.store(project).folder != flow.store(project).folder


def test_the_token_of_setup_is_taken_anew_when_it_changes(make_flow: MakeFlow) -> None:
    flow = make_flow(label_studio_url="", label_studio_api_key=Secret(""))
    project = flow.project()
    flow.settle(project)
    flow.studio.users = {"7" * 40: 1}
    flow.studio.list_backends(project["id"])
    task = flow.studio.next_task(project)
    assert task is not None
    flow.studio.submit(task, truth(task))
    flow.settle(project)
    assert flow.snapshot(project).facts.n_answered == 1
