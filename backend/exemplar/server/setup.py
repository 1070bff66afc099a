"""What /setup does: take note of who connects us, and say at once what stands in the way."""

import json
import time
from dataclasses import replace
from typing import Any

from exemplar.errors import CredentialsError, InputError, LabelStudioError
from exemplar.labelstudio.client import Client
from exemplar.labelstudio.label_config import read_label_config
from exemplar.rows import RETIRED, generation_name
from exemplar.server.messages import SetupRequest
from exemplar.settings import Settings, address, for_project
from exemplar.store.home import Home
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Connection

# The credentials are tried in every so many seconds at most: /setup comes before every /predict.
TRY_EVERY = 30.0
_tried_at: dict[tuple[str, str], float] = {}


def introduce_project(home: Home, settings: Settings, request: SetupRequest, seen_as: str) -> ProjectStore:
    """Register the project that Label Studio introduces; a new or changed one is due for a refresh.

    Raises
    ------
    LabelConfigError, SettingError, CredentialsError
        Whatever the person in front of the model card has to mend.
    """
    read_label_config(request.label_config)
    extra_params = _parsed(request.extra_params)
    for_project(settings, extra_params)
    url = settings.label_studio_url or address("hostname", request.hostname)
    if not url:
        raise CredentialsError("No address of Label Studio: set LABEL_STUDIO_URL for the backend")
    store = home.store(url, request.project)
    known = store.connection() or Connection(key=request.project, url=url)
    connection = replace(
        known,
        access_token="" if settings.label_studio_api_key else request.access_token,
        seen_as=seen_as,
        known_as=request.hostname,
        extra_params=extra_params,
        managed=known.managed and not known.closed,
        closed=False,
    )
    _try_credentials(connection, settings)
    is_news = connection != store.connection()
    home.register(connection)
    if is_news:
        store.raise_number("webhooks")
    return store


def served_version(store: ProjectStore) -> str:
    """Return the generation that the project's answers stand under; generation 0 before the first."""
    facts = store.facts()
    return generation_name(facts.generation if facts else RETIRED)


def _parsed(extra_params: dict[str, Any] | str | None) -> dict[str, Any]:
    if isinstance(extra_params, str):
        try:
            extra_params = json.loads(extra_params or "{}")
        except json.JSONDecodeError as error:
            raise InputError(f"extra params {extra_params!r}: expected a JSON object") from error
    if not isinstance(extra_params, dict | None):
        raise InputError(f"extra params {extra_params!r}: expected a JSON object")
    return extra_params or {}


def _try_credentials(connection: Connection, settings: Settings) -> None:
    """Make sure that Label Studio accepts our key, so that its model card says if it does not."""
    key = settings.label_studio_api_key or connection.access_token
    if time.monotonic() - _tried_at.get((connection.url, key), -TRY_EVERY) < TRY_EVERY:
        return
    client = Client(connection.url, key, patience=0, timeout=1.5)
    try:
        client.project(connection.project_id)
        _tried_at[connection.url, key] = time.monotonic()
    except CredentialsError:
        raise
    except LabelStudioError:
        pass  # slow or busy (it may wait for this very answer): the refresh will tell
    finally:
        client.close()
