"""MODEL_DIR: the folders of all projects, by Label Studio's address and the project's full name."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from fnmatch import fnmatchcase
from operator import attrgetter
from pathlib import Path
from urllib.parse import quote

from exemplar.errors import UnknownProjectError
from exemplar.store import files
from exemplar.store.introductions import Introductions
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Connection

# Label Studio's full name of a project, `<id>.<created>`.
FULL_NAME = re.compile(r"[0-9]{1,18}\.[0-9]{1,18}")

# An empty file for each project that was disconnected; no host is called so, which has a dot or a port.
DISCONNECTED = ".disconnected"


class Home:
    """All projects that were ever introduced here.

    Parameters
    ----------
    folder : Path
        It may vanish at any moment: everything in it is made again from Label Studio.
    url : str
        The one Label Studio whose projects count (LABEL_STUDIO_URL); empty: any that introduced itself. Those of
        another one would be asked with a key that is not theirs to see.
    """

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        self._url = url
        self.introductions = Introductions(folder)

    def store(self, url: str, key: str) -> ProjectStore:
        """Return where the project of a Label Studio is kept, there or not; its full name becomes a path."""
        if not FULL_NAME.fullmatch(key):  # it becomes a path
            raise UnknownProjectError(key)
        return ProjectStore(self.folder / _host_folder(url) / key)

    def register(self, connection: Connection) -> ProjectStore:
        """Note how to reach a project that Label Studio has confirmed."""
        store = self.store(connection.url, connection.key)
        if connection != store.connection():
            store.save_connection(connection)
        with suppress(OSError):  # a full disk: it only tells how long ago that was
            store.touch("introduced")
        return store

    def strangers(self) -> int:
        """Return how many webhooks named no project that is known here."""
        return ProjectStore(self.folder).number("webhooks")

    def note_stranger(self) -> None:
        """Remember that a webhook named no project that is known here."""
        files.make_folder(self.folder)
        ProjectStore(self.folder).raise_number("webhooks")

    def stores(self, key: str = "*") -> Iterator[ProjectStore]:
        """Yield the stores of the projects that are connected; of all, or those whose name fits a pattern."""
        for store in self.introduced(key):
            connection = store.connection()
            if connection is not None and not connection.closed:
                yield store

    def introduced(self, key: str = "*") -> Iterator[ProjectStore]:
        """Yield the stores of the projects that ever were connected, with no look into a file: a Submit waits."""
        only = _host_folder(self._url) if self._url else ""
        for host in _entries(self.folder):
            if only and host.name != only:
                continue
            for folder in _folders(host, key):
                if _is_known(folder):
                    yield ProjectStore(folder)

    def damaged(self) -> Iterator[ProjectStore]:
        """Yield the stores of the projects that were connected once, and whose connection cannot be read."""
        return (store for store in self.introduced() if store.connection() is None)

    def find(self, key: str) -> ProjectStore:
        """Return the project of that full name; the one known longest, should two hosts have it.

        A later one may be a stranger's, who gave his project the name of a real one.

        Raises
        ------
        UnknownProjectError
            If there is none.
        """
        if not FULL_NAME.fullmatch(key):
            raise UnknownProjectError(key)
        found = list(self.stores(key))
        if not found:
            closed = [why for store in self.introduced(key) if (why := store.status().problem)]
            raise UnknownProjectError(key, *closed[:1])
        return min(found, key=_known_since)

    def known(self, project_id: int) -> ProjectStore | None:
        """Return the project of that number, closed ones too; None if there is none.

        Of two hosts' the one that ``find`` would take: one that is connected, known longest. At one host only the
        last that was created has the number now; those before it are of a database that was made anew.
        """
        of_host = {store.folder.parent: store for store in sorted(self.introduced(f"{project_id}.*"), key=_created)}
        return min(of_host.values(), key=lambda store: (_is_closed(store), _known_since(store)), default=None)

    def note_disconnected(self, project_id: int) -> None:
        """Remember that a project was disconnected, though nothing else is kept of it."""
        folder = self.folder / DISCONNECTED
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(project_id)).touch()

    def disconnected(self, project_id: int) -> datetime | None:
        """Return when a project was last disconnected, in the time of this machine."""
        try:
            time = (self.folder / DISCONNECTED / str(project_id)).stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None
        return datetime.fromtimestamp(time).astimezone()

    def with_id(self, project_id: int) -> list[ProjectStore]:
        """Return the projects of that id; a webhook tells no more."""
        return list(self.stores(f"{project_id}.*"))


def _known_since(store: ProjectStore) -> float:
    connection = store.connection()
    return connection.since if connection else float("inf")


def _is_closed(store: ProjectStore) -> bool:
    connection = store.connection()
    return connection is not None and connection.closed


def _created(store: ProjectStore) -> int:
    return int(store.folder.name.partition(".")[2])


def _host_folder(url: str) -> str:
    host = quote(url.partition("://")[2] or url, safe="")
    return host if host.strip(".") else host.replace(".", "%2E")  # `.` and `..` are folders already


def _folders(host: os.DirEntry[str], key: str) -> list[Path]:
    """Return the folders of a host's projects by that name or pattern; a full name needs no look at the others."""
    if FULL_NAME.fullmatch(key):
        return [Path(host, key)]
    names = (entry.name for entry in _entries(host))
    return [Path(host, name) for name in names if FULL_NAME.fullmatch(name) and fnmatchcase(name, key)]


def _is_known(folder: Path) -> bool:
    connection = folder / "connection.json"
    return os.path.lexists(connection) or os.path.lexists(files.copy_of(connection))


def _entries(folder: os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=attrgetter("name"))
    except OSError:  # gone, no folder, or not ours to read
        return []
