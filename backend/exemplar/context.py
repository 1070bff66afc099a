"""What every flow of a project needs at hand."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from exemplar.errors import UnknownProjectError
from exemplar.hosts.allowed import AllowedHosts, default_rules
from exemplar.hosts.breakers import breakers_of
from exemplar.labelstudio.client import Client
from exemplar.labelstudio.files import Files
from exemplar.settings import Settings, for_project
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Connection

# While annotators are at work (one annotated something within so many seconds), each request of a long series is
# followed by a pause of so many times its own duration, so that their Submits feel little of it. What they will see
# next is worth more, unless they are quick: the last annotation is so many seconds ago.
AT_WORK = 10.0
PAUSE = 20.0
URGENT_PAUSE = 2.0
READING = 1.0


@dataclass(frozen=True)
class Project:
    """One project of one Label Studio: where it is, how to reach it, what is kept of it."""

    connection: Connection
    store: ProjectStore
    client: Client
    files: Files
    settings: Settings

    @property
    def id(self) -> int:
        return self.connection.project_id

    def __str__(self) -> str:
        return f"Project {self.connection.key}"

    def close(self) -> None:
        self.files.close()
        self.client.close()


def open_project(store: ProjectStore, settings: Settings, *, dry_run: bool = False) -> Project:
    """Open a project that was introduced here.

    Raises
    ------
    UnknownProjectError
        If its folder says nothing of it.
    CredentialsError
        If there is no API key for it.
    SettingError
        If the extra params of its model connection are wrong.
    """
    connection = store.connection()
    if connection is None:
        raise UnknownProjectError(store.folder.name)
    own_settings = for_project(settings, connection.extra_params)
    client = Client(connection.url, settings.label_studio_api_key or connection.access_token, dry_run=dry_run)
    files = Files(
        client,
        AllowedHosts(settings.allowed_hosts or default_rules(settings.host)),
        breakers_of(str(store.folder)),
        known_as=connection.known_as,
    )
    return Project(connection, store, client, files, own_settings)


def is_at_work(project: Project) -> bool:
    """Return whether annotators are at work."""
    return _since_annotated(project) < AT_WORK


def _since_annotated(project: Project) -> float:
    return time.time() - project.store.raised_at("annotated")


@contextmanager
def considerate(
    project: Project, *, interrupted: Callable[[], bool] = lambda: False, urgent: bool = False
) -> Iterator[None]:
    """Make one request of a long series, and leave Label Studio to the annotators for a moment after it."""
    started = time.monotonic()
    yield
    ended = time.monotonic()
    while is_at_work(project) and not interrupted():
        pause = URGENT_PAUSE if urgent and _since_annotated(project) > READING else PAUSE
        if time.monotonic() >= ended + pause * (ended - started):
            return
        time.sleep(0.02)
