"""How a project comes to be ours: somebody says so to /setup, and Label Studio itself confirms it.

Anybody who reaches our port can call /setup with the name of somebody else's project. So what is said there is
a hint, and the answer a proof: a word that only we can make of what was said. Then we ask Label Studio, with our
own key, for the project's model connections. For that it calls /setup of each, and shows what each has answered: a
connection that shows our proof leads to us. Its extra params are read from there as well.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from exemplar.errors import InputError, LabelStudioError, UnconfirmedError
from exemplar.labelstudio.client import Client
from exemplar.labelstudio.reading import integer, moment
from exemplar.rows import generation_number, proof_name
from exemplar.settings import Settings
from exemplar.store.home import Home
from exemplar.store.introductions import Introduction
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Connection

logger = logging.getLogger(__name__)

# While we ask, /setup answers known projects with the proof as well; at most for so many seconds.
ASKING_FOR = 30.0
# Seconds that Label Studio may take for one of these requests.
TIMEOUT = 10.0
Json = dict[str, Any]


def is_asked(store: ProjectStore) -> bool:
    """Return whether /setup is to answer with the proof: nobody has confirmed the project, or we ask again."""
    connection = store.connection()
    if connection is None or connection.closed or not connection.backend_url:
        return True
    return time.time() - store.raised_at("asking") < ASKING_FOR


def is_news(said: Introduction, extra_params: Json, connection: Connection | None) -> bool:
    """Return whether something was said that we do not know, so that Label Studio is to be asked."""
    if connection is None or connection.closed or not connection.backend_url:
        return True
    known = (connection.known_as, connection.access_token, connection.extra_params)
    return known != (said.hostname, said.access_token, extra_params)


def confirm(settings: Settings, home: Home, said: Introduction) -> ProjectStore:
    """Ask Label Studio whether an introduction is true; if so, note it, and the project is due for a refresh.

    Raises
    ------
    UnconfirmedError
        If Label Studio shows no model connection of the project that leads to us.
    ExemplarError
        If it cannot be asked.
    """
    client = Client(said.url, settings.label_studio_api_key or said.access_token, patience=0, timeout=TIMEOUT)
    try:
        return _confirm(settings, home, said, client)
    finally:
        client.close()


def _confirm(settings: Settings, home: Home, said: Introduction, client: Client) -> ProjectStore:
    store = home.store(said.url, said.key)
    project_id = int(said.key.partition(".")[0])
    if full_name(client.project(project_id)) != said.key:
        raise UnconfirmedError(said.key, said.url, "its project of that number was created at another time")
    word = proof_name(home.introductions.proof(said))
    with _asking(store):
        listed = client.backends(project_id)
    listed_at = time.time()
    ours = (
        next((backend for backend in listed if backend["model_version"] == word), None)
        or _with_url(listed, settings.own_urls)
        or _with_url(listed, _known_url(store, said))
    )
    if ours is None:
        n = len(listed)
        why = f"none of its {n} model connections leads here" if n else "it has no model connection"
        raise UnconfirmedError(said.key, said.url, why)
    known = store.connection() or Connection(key=said.key, url=said.url, since=time.time())
    connection = replace(
        known,
        known_as=said.hostname,
        backend_url=ours["url"],
        access_token=said.access_token,
        extra_params=extra_params_of(ours.get("extra_params")),
        managed=known.managed and not known.closed,
        closed=False,
    )
    if connection != store.connection():
        home.register(connection)
        store.raise_number("webhooks")
        logger.info("Project %s: Label Studio at %s confirms its connection %s", said.key, said.url, ours["url"])
    home.introductions.remove(said, until=listed_at)
    if ours["model_version"] == word and not is_asked(store):
        client.backends(project_id)  # so that Label Studio shows the generation again
    return store


@contextmanager
def _asking(store: ProjectStore) -> Iterator[None]:
    """Let /setup answer a known project with the proof while the block runs."""
    if store.connection() is None:
        yield
        return
    store.touch("asking")
    try:
        yield
    finally:
        (store.folder / "asking").unlink(missing_ok=True)


def confirm_again(settings: Settings, home: Home, store: ProjectStore) -> None:
    """Ask for a project whose connection nobody confirmed: it was kept by a version that did not ask.

    Raises
    ------
    UnconfirmedError
        If Label Studio does not confirm it now.
    """
    known = store.connection()
    if known is not None and not known.backend_url and not known.closed:
        confirm(settings, home, introduction_of(known))


def introduction_of(known: Connection) -> Introduction:
    """Return what Label Studio said when it was last believed."""
    return Introduction(key=known.key, url=known.url, hostname=known.known_as, access_token=known.access_token)


def find_forgotten(settings: Settings, home: Home) -> int:
    """Find projects that show rows of ours and that nobody here knows, as after MODEL_DIR was deleted or damaged.

    Listing a project's model connections makes Label Studio call our /setup, which lets those wait to be confirmed.
    Return how many were listed.
    """
    client = Client(settings.label_studio_url, settings.label_studio_api_key, timeout=TIMEOUT)
    try:
        lost = {store.project_id for store in home.damaged()}
        forgotten = [
            facts["id"]
            for facts in client.projects()
            if (generation_number(facts["model_version"]) is not None or facts["id"] in lost)
            and not home.with_id(facts["id"])
        ]
        for project_id in forgotten:
            with suppress(LabelStudioError):  # deleted meanwhile: that is one project's matter
                client.backends(project_id)
        return len(forgotten)
    finally:
        client.close()


def project_key(project: Mapping[str, Any]) -> str:
    """Return Label Studio's full name of a project, ``<id>.<created>``, from the project as its API shows it."""
    id_, created = integer(project.get("id")), moment(project.get("created_at"))
    if id_ is None or created is None:
        raise InputError(f"project={project!r:.100}: expected a project of Label Studio with id and created_at")
    return f"{id_}.{int(created.timestamp())}"


def full_name(facts: Json) -> str:
    """Return the same from the project as the client reads it."""
    return f"{facts['id']}.{facts['created']}"


def extra_params_of(given: Json | str | None) -> Json:
    """Return extra params as Label Studio sends them: an object, or its JSON."""
    if isinstance(given, str):
        try:
            given = json.loads(given or "{}")
        except (ValueError, RecursionError) as error:
            raise InputError("The extra params are no JSON: expected an object") from error
    if not isinstance(given, dict | None):
        raise InputError(f"extra params {str(given)[:200]!r}: expected a JSON object")
    return given or {}


def _known_url(store: ProjectStore, said: Introduction) -> tuple[str, ...]:
    """Return the address of our connection, if the very same was said and confirmed before."""
    known = store.connection()
    if known is None or known.closed or not known.backend_url:
        return ()
    is_same = (known.known_as, known.access_token) == (said.hostname, said.access_token)
    return (known.backend_url.rstrip("/"),) if is_same else ()


def _with_url(listed: list[Json], own_urls: tuple[str, ...]) -> Json | None:
    return next((backend for backend in listed if backend["url"].rstrip("/") in own_urls), None)
