"""What every flow of a project needs at hand."""

from dataclasses import dataclass

from exemplar.errors import UnknownProjectError
from exemplar.hosts.allowed import AllowedHosts, default_rules
from exemplar.hosts.breakers import breakers_of
from exemplar.labelstudio.client import Client
from exemplar.labelstudio.files import Files
from exemplar.settings import Settings, for_project
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Connection
from exemplar.store.vectors import Vectors, vectors_of


@dataclass(frozen=True)
class Project:
    """One project of one Label Studio: where it is, how to reach it, what is kept of it."""

    connection: Connection
    store: ProjectStore
    client: Client
    files: Files
    settings: Settings
    vectors: Vectors

    @property
    def id(self) -> int:
        """Return the project's number in Label Studio."""
        return self.connection.project_id

    def __str__(self) -> str:
        return f"Project {self.connection.key}"

    def close(self) -> None:
        """Let go of the connections to Label Studio and to the hosts of files."""
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
    vectors = vectors_of(settings.model_dir, round(settings.vectors_gib * 2**30))
    return Project(connection, store, client, files, own_settings, vectors)
