"""`exemplar disconnect`: find the way to a project and take back all that is ours."""

import shutil
from contextlib import ExitStack

from exemplar.commands.holding import hold
from exemplar.errors import ClosedError, CredentialsError, LabelStudioError, UnknownProjectError
from exemplar.labelstudio.client import Client
from exemplar.rows import Disconnected, disconnect, why_not_found
from exemplar.settings import Settings
from exemplar.store.home import Home
from exemplar.store.records import Connection


def disconnect_project(settings: Settings, project_id: int) -> Disconnected | None:
    """Disconnect a project by its number and forget what is kept of it here; not what another host's has.

    Return what was taken back; None for a project that is gone from Label Studio, with all that stood there.

    Raises
    ------
    CredentialsError
        If neither the settings nor MODEL_DIR tell how to reach Label Studio.
    UnknownProjectError
        If nothing of ours is in the project.
    """
    home = Home(settings.model_dir, settings.label_studio_url)
    known = home.known(project_id)
    connection = known.connection() if known else None
    stores = [
        store
        for store in home.introduced(f"{project_id}.*")
        if known is not None and store.folder.parent == known.folder.parent
    ]
    with ExitStack() as held:
        for store in stores:
            hold(store, held)
        taken = _take_back(settings, project_id, connection)
        for store in stores:
            shutil.rmtree(store.folder, ignore_errors=True)
    home.note_disconnected(project_id)
    return taken


def _take_back(settings: Settings, project_id: int, connection: Connection | None) -> Disconnected | None:
    url = settings.label_studio_url or (connection.url if connection else "")
    if not url:
        raise CredentialsError("Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, so that the project can be reached")
    client = Client(url, settings.label_studio_api_key or (connection.access_token if connection else ""))
    try:
        return disconnect(client, project_id, (connection.before or {}) if connection else None)
    except LabelStudioError as error:
        if error.status_code != 404:
            raise
        if connection is None:
            raise UnknownProjectError(str(project_id), f"{url} has no such project, nor has MODEL_DIR") from error
        why = why_not_found(client, connection)
        if not isinstance(why, ClosedError):
            raise why or error from error
        return None
    finally:
        client.close()
