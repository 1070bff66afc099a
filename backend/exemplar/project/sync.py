"""Reading what changed in Label Studio since last time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from exemplar.context import Project
from exemplar.errors import UnknownProjectError
from exemplar.labelstudio.label_config import Labeling, read_label_config
from exemplar.labelstudio.own_vectors import OwnVector
from exemplar.labelstudio.reading import moment
from exemplar.labelstudio.tasks import Task, read_task
from exemplar.project.own_vectors import Own, Source, own_of, source_of, take
from exemplar.store.snapshot import Snapshot

# Rows may be committed later than others with a newer time: the end of the last reading is read again.
# Not more than needed: the rows that we patch move their tasks' times, and are read again, too.
OVERLAP = timedelta(seconds=5)
# Label Studio's clock and ours differ by less.
BELIEVED_AHEAD = timedelta(days=1)
# What a first queue is made from in a project with more tasks than this.
SAMPLE_PAGES, SAMPLE_PAGE_SIZE = 10, 40
SAMPLE = SAMPLE_PAGES * SAMPLE_PAGE_SIZE


@dataclass(frozen=True)
class Held:
    """What Label Studio holds of a project: its own facts, what there is to classify, all tasks by id.

    ``own`` tells whether these are seen by vectors of the user's own.
    """

    facts: dict[str, Any]
    labeling: Labeling
    tasks: tuple[Task, ...]
    cursor: str
    own: Own


def sync(project: Project, before: Snapshot | None, *, cursor: str) -> Held:
    """Read the project, and of its tasks those that changed since ``cursor`` (empty: all)."""
    facts = read_facts(project)
    labeling, source = read_label_config(facts["label_config"]), source_of(project.store, project.settings)
    known = before.by_id if before and before.facts.labeling.field == labeling.field else {}
    read = partial(_read, project, labeling, source)
    is_same = before is not None and before.facts.own_source == source.identity
    changed, own = read(since=_with_overlap(cursor) if known and is_same else None)
    there = known.keys() | {raw["id"] for raw in changed}
    if known and len(there) != facts["task_number"]:
        there = project.client.task_ids(project.id)
        if there - known.keys() - {raw["id"] for raw in changed}:
            # A long import, committed only after the time that its tasks bear.
            changed, own = read(since=None)
    tasks = known | {
        raw["id"]: read_task(raw, labeling.field, known.get(raw["id"]), own.get(raw["id"])) for raw in changed
    }
    held = tuple(tasks[task_id] for task_id in sorted(tasks) if task_id in there)
    return Held(facts, labeling, held, cursor=_newest(cursor, changed), own=own_of(source, held))


def _newest(cursor: str, changed: list[dict[str, Any]]) -> str:
    """Return when the newest change was made.

    A clock that once was far ahead must not hide what changes until then: such times are not believed.
    """
    times = [moment(cursor), *(moment(raw.get("updated_at")) for raw in changed)]
    believed = datetime.now(UTC) + BELIEVED_AHEAD
    newest = max((time for time in times if time is not None and time <= believed), default=None)
    return newest.isoformat() if newest is not None else ""


def sample(project: Project, facts: dict[str, Any]) -> Held:
    """Read a spread of the tasks only, so that a big project's queue need not wait for the rest."""
    labeling, source = read_label_config(facts["label_config"]), source_of(project.store, project.settings)
    raw_tasks = project.client.sample_tasks(
        project.id, total=facts["task_number"], pages=SAMPLE_PAGES, page_size=SAMPLE_PAGE_SIZE
    )
    own: dict[int, OwnVector] = {}
    raw_tasks = take(project.vectors, source, labeling.field, own, raw_tasks)
    tasks = {raw["id"]: read_task(raw, labeling.field, None, own.get(raw["id"])) for raw in raw_tasks}
    held = tuple(tasks[task_id] for task_id in sorted(tasks))
    return Held(facts, labeling, held, cursor="", own=own_of(source, held))


def read_facts(project: Project) -> dict[str, Any]:
    """Read the project itself, and make sure that it is the one that we were introduced to.

    Raises
    ------
    UnknownProjectError
        If the project of that id was created at another time: another Label Studio, or a new database.
    """
    facts = project.client.project(project.id)
    created = facts["created"]
    if created == project.connection.created and facts["organization"] != project.connection.organization:
        project.store.update_connection(organization=facts["organization"])
    if created != project.connection.created:
        raise UnknownProjectError(
            f"{project.connection.key} (project {project.id} at {project.client.url} is of another time: "
            f"{created}; is LABEL_STUDIO_URL the Label Studio that connected us?)"
        )
    return facts


def _with_overlap(cursor: str) -> str | None:
    # Label Studio answers 500 to a time that ends in +00:00.
    since = moment(cursor)
    return f"{since - OVERLAP:%Y-%m-%dT%H:%M:%S.%fZ}" if since is not None else None


def _read(
    project: Project, labeling: Labeling, source: Source, *, since: str | None
) -> tuple[list[dict[str, Any]], dict[int, OwnVector]]:
    """Return tasks that changed since a time, and apart from them their own vectors, by id."""
    own: dict[int, OwnVector] = {}
    changed = project.client.tasks(
        project.id,
        since=since,
        on_progress=lambda done, total: project.store.note(doing=f"reading tasks {done}/{total}"),
        reduce=partial(take, project.vectors, source, labeling.field, own),
    )
    return changed, own
