"""The small files of a project: who it is, how far it is, what is being done for it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How Label Studio and we reach each other for one project.

    ``key`` is Label Studio's full name of the project, ``<id>.<created>``; ``known_as`` the address that it knows
    itself by; ``backend_url`` that of its model connection which leads to us, empty until Label Studio has
    confirmed it; ``since`` the time when it first did. ``before`` are the project's settings as they were before we
    changed them; ``managed`` is set once we have; ``organization`` is the one that it belongs to, for Label Studio
    shows it to nobody else; ``closed`` is set when the project is gone or has disconnected us.
    """

    key: str
    url: str
    access_token: str = ""
    known_as: str = ""
    backend_url: str = ""
    since: float = 0.0
    extra_params: dict[str, Any] = field(default_factory=dict)
    webhook_secret: str = ""
    before: dict[str, Any] | None = None
    managed: bool = False
    closed: bool = False
    organization: int | None = None

    @property
    def project_id(self) -> int:
        """Return the project's number in Label Studio."""
        return int(self.key.partition(".")[0])

    @property
    def created(self) -> int:
        """Return when the project was created, in seconds since the epoch."""
        return int(self.key.partition(".")[2])


@dataclass(frozen=True, kw_only=True)
class Done:
    """How far we are: dirty numbers that are taken in, the newest change that the sync has read (an ISO
    time, as Label Studio wrote it), and the snapshot that all rows in Label Studio follow. ``exact``: rows still
    follow a Start Training, after which none may be out by a little.
    """

    webhooks: int = 0
    orders: int = 0
    cursor: str = ""
    reconciled: str = ""
    exact: bool = False


@dataclass(frozen=True, kw_only=True)
class Importing:
    """A bulk import of which Label Studio has not said yet how it ended.

    ``rows`` of them under the name ``version``, of which there are then ``expected``; ``since`` is in seconds since
    the epoch.
    """

    version: str
    rows: int
    expected: int
    since: float


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Under which name our rows are shown in Label Studio, since when, and when those of other names are looked at.

    All times are in seconds since the epoch. ``look_at`` is None where there are none; those that could have gone
    by ``looked_at`` and have not, stay.
    """

    version: str
    since: float
    looked_at: float = 0.0
    look_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Status:
    """What the worker is doing for a project (``doing``), or what went wrong last (``problem``)."""

    state: str = "starting"
    doing: str | None = None
    problem: str | None = None
    pending_rows: int = 0
