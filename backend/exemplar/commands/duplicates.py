"""`exemplar duplicates`: the groups of near-duplicates of a project, and where their answers differ."""

from collections.abc import Iterator, Sequence

from exemplar.commands.known import learned_project
from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.tasks import Task
from exemplar.project.duplicates import differs, groups
from exemplar.settings import Settings
from exemplar.store.snapshot import DuplicatesFound

# So much of a task is shown.
SHOWN = 60
# Of a group whose answers agree, so many tasks are named.
NAMED = 5


def duplicates(settings: Settings, project_id: int) -> Iterator[str]:
    """Yield a line for the project, one for each group, and one for each task of it, with its address.

    Raises
    ------
    UnknownProjectError
        If nothing is known of the project in MODEL_DIR.
    NothingLearnedError
        If nothing is learned of it yet.
    """
    store, snapshot = learned_project(settings, project_id)
    connection = store.connection()
    host = (connection.known_as or connection.url) if connection else ""
    address = f"{host}/projects/{project_id}/data?task="
    labeling = snapshot.facts.labeling
    yield f"Project {project_id}: {duplicates_sentence(snapshot.facts.duplicates)}"
    for tasks in groups(snapshot):
        yield _group(tasks, labeling)
        named = tasks if differs(tasks, labeling) else tasks[:NAMED]
        for task in named:
            yield f"  {_answer(task, labeling):20}  {address}{task.id}  {_shown(task)}"
        if len(named) < len(tasks):
            yield f"  … and {len(tasks) - len(named)} more: {', '.join(str(task.id) for task in tasks[NAMED:])}"


def duplicates_sentence(found: DuplicatesFound) -> str:
    """Return what is to be said of a project's near-duplicates in a sentence."""
    if not found.groups:
        return "no near-duplicates"
    how = "asked once and labelled together" if found.used else "asked each for itself"
    said = f"{found.tasks} tasks in {found.groups} groups of near-duplicates, {how}"
    return f"{said}; in {found.differ} of them answers differ" if found.differ else said


def _group(tasks: Sequence[Task], labeling: Labeling) -> str:
    n_answered = sum(task.answer(labeling) >= 0 for task in tasks)
    said = f"{len(tasks)} tasks, {n_answered} answered"
    return f"{said}, differently: they are not labelled together" if differs(tasks, labeling) else said


def _answer(task: Task, labeling: Labeling) -> str:
    answer = task.answer(labeling)
    return labeling.classes[answer] if answer >= 0 else "–"


def _shown(task: Task) -> str:
    said = " ".join((task.value or "")[: 4 * SHOWN].split())
    return said if len(said) <= SHOWN else said[: SHOWN - 1] + "…"
