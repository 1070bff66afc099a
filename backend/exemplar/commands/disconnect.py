"""`exemplar disconnect`: find the way to a project and take back all that is ours."""

import shutil

from exemplar.errors import CredentialsError
from exemplar.labelstudio.client import Client
from exemplar.rows import Disconnected, disconnect
from exemplar.settings import Settings
from exemplar.store.home import Home


def disconnect_project(settings: Settings, project_id: int) -> Disconnected:
    """Disconnect a project by its number and forget what is kept of it here.

    Raises
    ------
    CredentialsError
        If neither the settings nor MODEL_DIR tell how to reach Label Studio.
    UnknownProjectError
        If nothing of ours is in the project.
    """
    stores = Home(settings.model_dir).with_id(project_id)
    connection = stores[0].connection() if stores else None
    url = settings.label_studio_url or (connection.url if connection else "")
    if not url:
        raise CredentialsError("Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, so that the project can be reached")
    client = Client(url, settings.label_studio_api_key or (connection.access_token if connection else ""))
    try:
        taken = disconnect(client, project_id, connection.before if connection else None)
    finally:
        client.close()
    for store in stores:
        shutil.rmtree(store.folder, ignore_errors=True)
    return taken
