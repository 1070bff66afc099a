"""Both kinds of credentials, none, wrong ones, and Basic auth, on a real Label Studio."""

from collections.abc import Callable
from typing import Any

import httpx

from conftest import Backend
from e2e.annotators import Annotator, connect, wait_for, wait_until_ready, wait_until_settled

BASIC = {"BASIC_AUTH_USER": "label", "BASIC_AUTH_PASS": "studio-secret"}
MakeBackend = Callable[..., Backend]


def label_one(api: httpx.Client, project: dict[str, Any], backend: Backend) -> None:
    annotator = Annotator(api)
    task = annotator.next_task(project)
    assert task is not None
    annotator.submit(task)
    wait_until_settled(backend, project, answered=1)


def test_a_personal_access_token_works(api: httpx.Client, make_backend: MakeBackend, make_project: Any) -> None:
    token = api.post("/api/token").raise_for_status().json()["token"]
    backend, project = make_backend(LABEL_STUDIO_API_KEY=token), make_project(n_digits=20)
    connect(api, project, backend)
    wait_until_ready(backend, project)
    label_one(api, project, backend)


def test_without_settings_the_credentials_of_setup_are_used(
    api: httpx.Client, make_backend: MakeBackend, make_project: Any
) -> None:
    backend = make_backend(LABEL_STUDIO_URL="", LABEL_STUDIO_API_KEY="")
    project = make_project(n_digits=20)
    connect(api, project, backend)
    wait_until_ready(backend, project)
    label_one(api, project, backend)


def test_a_wrong_key_is_explained_where_the_model_is_connected(
    api: httpx.Client, make_backend: MakeBackend, make_project: Any
) -> None:
    backend, project = make_backend(LABEL_STUDIO_API_KEY="0" * 40), make_project(n_digits=2)
    body = {"project": project["id"], "url": backend.url, "title": "Exemplar"}
    refused = api.post("/api/ml", json=body)
    assert refused.status_code == 400
    assert "set LABEL_STUDIO_API_KEY to a token from Account" in refused.text
    assert "set LABEL_STUDIO_API_KEY to a token from Account" in backend.log


def test_a_key_that_is_revoked_later_is_explained_in_the_model_card(
    api: httpx.Client, backend: Backend, make_project: Any
) -> None:
    project = make_project(n_digits=2)
    connect(api, project, backend)
    wait_until_ready(backend, project)
    backend.stop()
    backend.start(LABEL_STUDIO_API_KEY="0" * 40)
    card = api.get("/api/ml", params={"project": project["id"]}).json()[0]
    assert card["readable_state"] == "Error"
    assert "set LABEL_STUDIO_API_KEY" in card["error_message"]


def test_a_label_config_without_choices_is_explained(
    api: httpx.Client, backend: Backend, make_project: Any
) -> None:
    config = '<View><Image name="image" value="$image"/><TextArea name="note" toName="image"/></View>'
    project = make_project(n_digits=0, label_config=config)
    body = {"project": project["id"], "url": backend.url, "title": "Exemplar"}
    refused = api.post("/api/ml", json=body)
    assert refused.status_code == 400
    # Label Studio leaves control tags that it cannot classify with out of its own words as well.
    assert "Exemplar classifies with Choices on an Image or a Text" in refused.text


def test_behind_basic_auth_a_webhook_of_our_own_brings_the_news(
    api: httpx.Client, make_backend: MakeBackend, make_project: Any
) -> None:
    # With an hour between two polls, only a webhook can tell.
    backend, project = make_backend(**BASIC, EXEMPLAR_POLL="3600"), make_project(n_digits=20)
    connect(
        api,
        project,
        backend,
        auth_method="BASIC_AUTH",
        basic_auth_user=BASIC["BASIC_AUTH_USER"],
        basic_auth_pass=BASIC["BASIC_AUTH_PASS"],
    )
    wait_until_ready(backend, project)
    hooks = wait_for(
        lambda: (
            (found := api.get("/api/webhooks/", params={"project": project["id"]}).json())
            and len(found) == 2
            and found
        ),
        "the webhook of our own",
    )
    automatic = next(hook for hook in hooks if not hook["headers"])
    own = next(hook for hook in hooks if hook["headers"])
    assert not automatic["is_active"]
    assert own["is_active"]
    assert BASIC["BASIC_AUTH_PASS"] not in str(own)
    label_one(api, project, backend)
    assert httpx.get(backend.url + "/", trust_env=False).status_code == 401
    assert httpx.get(backend.url + "/health", trust_env=False).status_code == 200
