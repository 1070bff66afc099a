"""Whether a project still stands: Label Studio has it, and it has a model connection to us."""

import logging
import time

from exemplar.context import Project
from exemplar.errors import ClosedError, CredentialsError, ExemplarError, LabelStudioError
from exemplar.labelstudio.client import Client
from exemplar.rows.manage import our_backend
from exemplar.store.records import Connection

logger = logging.getLogger(__name__)

# Label Studio calls /setup, and saves a new connection only after that.
SETTLING = 5.0


def check_connection(project: Project) -> None:
    """Make sure that a project has a model connection to us; once a poll, since its /setup is called for that.

    Raises
    ------
    ClosedError
        If it has none: our webhook is taken back then.
    """
    store, now = project.store, time.time()
    # What is dated ahead was written before a clock was set back.
    is_new = 0 <= now - store.raised_at("introduced") < SETTLING
    if is_new or 0 <= now - store.raised_at("connected") < project.settings.poll:
        return
    if our_backend(project) is None:
        raise disconnected(project)
    store.touch("connected")


def disconnected(project: Project) -> ClosedError:
    """Take back our webhook, which nobody in the project needs any more, and return what is to be said."""
    _remove_webhooks(project)
    return ClosedError(
        "its model connection to us was removed in Label Studio, so nothing is read or written any more. To go on, "
        f"connect the model again; to take back its predictions and sampling: `exemplar disconnect {project.id}`"
    )


def _remove_webhooks(project: Project) -> None:
    """Remove our webhook, and the automatic one that it stood for, where no model connection leads any more."""
    if not project.settings.manage:
        return
    ours = f"/webhook?project={project.connection.key}"
    hooks = project.client.webhooks(project.id)
    connected = {backend["url"].rstrip("/") for backend in project.client.backends(project.id)}
    orphaned = {hook["url"].removesuffix(ours) for hook in hooks if hook["url"].endswith(ours)} - connected
    for hook in hooks:
        if hook["url"].partition("?")[0].removesuffix("/webhook") in orphaned:
            project.client.delete_webhook(hook["id"])
            logger.info("%s: removed the webhook to %s", project, hook["url"])


def why_not_found(client: Client, connection: Connection) -> ExemplarError | None:
    """Return what it means that Label Studio knows no project of that number; None if that is not clear.

    A server that starts, another one at the address, a wrong prefix answer 404 as well, and so does Label Studio
    to a user of another organization. So a project is gone only if Label Studio knows who we are, we are still in
    its organization, and the list of all projects is there, without it.
    """
    try:
        me = client.whoami()
        if connection.organization is not None and me["organization"] != connection.organization:
            return CredentialsError(
                f"Label Studio no longer shows project {connection.project_id} to {me['email']}, the user of "
                "LABEL_STUDIO_API_KEY, who is in another organization now: expected a user who may change it"
            )
        there = {(facts["id"], facts["created"]) for facts in client.projects()}
    except (LabelStudioError, CredentialsError) as error:
        logger.debug("Nobody can tell whether project %s is there: %s", connection.key, error)
        return None
    if (connection.project_id, connection.created) in there:
        return None
    return ClosedError(
        f"it is gone: {client.url} has no such project any more. `exemplar disconnect {connection.project_id}` "
        "deletes what is kept of it here"
    )
