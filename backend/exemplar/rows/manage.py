"""What we change in a Label Studio project besides rows, and how all of it is taken back."""

import logging
import secrets
from dataclasses import dataclass
from typing import Any

from exemplar.context import Project
from exemplar.errors import UnknownProjectError
from exemplar.labelstudio.client import Client
from exemplar.rows.generation import generation_name, generation_number

logger = logging.getLogger(__name__)

SAMPLING = "Uncertainty sampling"
DEFAULT_SAMPLING = "Sequential sampling"
SECRET_HEADER = "X-Exemplar-Secret"


def is_managed(project: Project) -> bool:
    """Return whether the project is set as we need it, as far as we know; a password may be new."""
    connection, settings = project.connection, project.settings
    return connection.managed and bool(
        connection.webhook_secret or not settings.basic_auth_pass or not settings.manage
    )


def make_current(project: Project, facts: dict[str, Any], generation: int) -> None:
    """Let Label Studio show our generation and order its queue by our scores.

    With EXEMPLAR_MANAGE=off this only says what to set.
    """
    wanted = {"model_version": generation_name(generation), "sampling": SAMPLING}
    changes = {name: value for name, value in wanted.items() if facts.get(name) != value}
    if not facts.get("show_collab_predictions", True):
        logger.warning(
            "%s: pre-annotations are switched off; set 'Use predictions to prelabel tasks' in "
            "Settings ▸ Annotation to see them",
            project,
        )
    if not changes:
        return
    said = ", ".join(f"{name} to {value!r} (was {facts.get(name)!r})" for name, value in changes.items())
    if not project.settings.manage:
        logger.warning("%s: EXEMPLAR_MANAGE is off; for the queue to work, set %s", project, said)
        return
    connection = project.store.connection()
    if connection and connection.before is None and not project.client.dry_run:
        project.store.update_connection(before={name: facts.get(name) for name in wanted})
    project.client.set_project(project.id, **changes)
    logger.info("%s: set %s", project, said)


def ensure_webhook(project: Project) -> None:
    """Replace the webhook that Label Studio makes on connecting by one of our own that costs annotators less.

    For the automatic one, Label Studio counts the whole project and serialises task and annotation inside each
    Submit; ours carries no payload and names the project in its address. Behind Basic auth the automatic one
    cannot give the password; ours has a secret of its own in a header. Never the password: the project's
    members can read webhook headers.
    """
    if not project.settings.manage:
        if project.settings.basic_auth_pass:
            logger.warning("%s: EXEMPLAR_MANAGE is off, so no webhook reaches us behind Basic auth", project)
        return
    backend = our_backend(project)
    if backend is None:
        return
    automatic = backend["url"].rstrip("/") + "/webhook"
    url = f"{automatic}?project={project.connection.key}"
    headers = {SECRET_HEADER: _secret(project)} if project.settings.basic_auth_pass else {}
    hooks = project.client.webhooks(project.id)
    own = [hook for hook in hooks if hook["url"] == url]
    if not own:
        project.client.create_webhook(
            project=project.id, url=url, headers=headers, send_payload=False, send_for_all_actions=True
        )
        logger.info("%s: registered a webhook of our own", project)
    elif own[0]["headers"] != headers or not own[0]["is_active"]:
        project.client.patch_webhook(own[0]["id"], headers=headers, is_active=True)
    for hook in hooks:
        if hook["url"] == automatic and hook["is_active"]:
            project.client.patch_webhook(hook["id"], is_active=False)
            logger.info("%s: switched the automatic webhook off", project)


def _secret(project: Project) -> str:
    secret = project.connection.webhook_secret or secrets.token_urlsafe(24)
    project.store.update_connection(webhook_secret=secret)
    return secret


def our_backend(project: Project) -> dict[str, Any] | None:
    """Return the model connection that Label Studio confirmed to lead to us, or None if it is gone."""
    url = project.connection.backend_url
    return next((backend for backend in project.client.backends(project.id) if backend["url"] == url), None)


@dataclass(frozen=True)
class Disconnected:
    """What ``disconnect`` has taken back."""

    rows: int
    webhooks: int
    backends: int
    sampling: str


def disconnect(client: Client, project_id: int, before: dict[str, Any] | None) -> Disconnected:
    """Take back all that we put into a project: connection, webhook, rows; restore its settings.

    ``before`` are the settings as they were, None if the project is not known here: then Label Studio's default is
    set, and something of ours must be there.

    Raises
    ------
    UnknownProjectError
        If nothing of ours is there.
    """
    facts = client.project(project_id)
    backends, there = client.backends(project_id), client.model_versions(project_id)
    ours = [backend for backend in backends if generation_number(backend["model_version"]) is not None]
    versions = {version: count for version, count in there.items() if generation_number(version) is not None}
    is_ours = generation_number(facts["model_version"]) is not None
    if not ours and not versions and not is_ours and before is None:
        why = "it has no model connection to us and no predictions of ours, so there is nothing to take back"
        raise UnknownProjectError(f"{project_id} ({facts['title']})", why)
    key = f"{facts['id']}.{facts['created']}"
    hooks = [hook for hook in client.webhooks(project_id) if _is_ours(hook["url"], key, ours)]
    for hook in hooks:
        client.delete_webhook(hook["id"])
    for backend in ours:
        client.delete_backend(backend["id"])
    before = before or {}
    sampling = before.get("sampling") or DEFAULT_SAMPLING
    others = {backend["title"] for backend in backends if backend not in ours} | there.keys() - versions.keys()
    if is_ours:
        client.set_project(project_id, sampling=sampling, model_version=_version_of(before, others))
    for version in versions:
        client.delete_model_version(project_id, version)
    return Disconnected(sum(versions.values()), len(hooks), len(ours), sampling)


def _is_ours(url: str, key: str, backends: list[dict[str, Any]]) -> bool:
    """Return whether a webhook is ours, or the automatic one of a connection to us."""
    automatic = {backend["url"].rstrip("/") + "/webhook" for backend in backends}
    return url.endswith(f"/webhook?project={key}") or url.partition("?")[0] in automatic


def _version_of(before: dict[str, Any], there: set[str]) -> str:
    """Return the model version of before, if it is still there: the title of a connection, a set of predictions."""
    version = before.get("model_version") or ""
    return version if version in there else ""
