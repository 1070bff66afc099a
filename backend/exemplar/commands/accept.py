"""`exemplar accept`: put a project's predictions to a blind test, see how it goes, and save what was accepted."""

import csv
from pathlib import Path

from exemplar.commands.report import accept_sentence
from exemplar.engine import sample_size
from exemplar.errors import InputError, UnknownProjectError
from exemplar.project.acceptance import acceptance, accepted_labels, examine, freeze
from exemplar.settings import Settings
from exemplar.store.accept_set import AcceptSet
from exemplar.store.home import Home
from exemplar.store.project_store import ProjectStore
from exemplar.store.snapshot import Snapshot


def accept(
    settings: Settings,
    project_id: int,
    *,
    promise: float = 0.95,
    min_confidence: float = 0.0,
    again: bool = False,
    save: Path | None = None,
) -> str:
    """Start a project's test, or tell how the last one goes; return what is to be said.

    Parameters
    ----------
    settings : Settings
    project_id : int
    promise : float between 0 and 1
        The least agreement with annotators.
    min_confidence : float between 0 and 1
        Predictions below it are not part of the set.
    again : bool
        Freeze another set, whatever became of the last one.
    save : Path, optional
        Where to write the labels, once the set is accepted.

    Raises
    ------
    UnknownProjectError
        If nothing is known of the project in MODEL_DIR.
    InputError
        If nothing is predicted that confidently, or a set is to be saved that was not accepted.
    """
    stores = Home(settings.model_dir).with_id(project_id)
    snapshot = stores[0].current() if stores else None
    if snapshot is None:
        raise UnknownProjectError(f"{project_id} in {settings.model_dir}")
    frozen = stores[0].accept_set()
    if save is not None:
        return f"Project {project_id}: {_save(frozen, snapshot, save)} accepted labels are in {save}"
    if frozen is None or again:
        return f"Project {project_id}: {_start(stores[0], snapshot, promise, min_confidence)}"
    return f"Project {project_id}: {_told(frozen, snapshot)}"


def _start(store: ProjectStore, snapshot: Snapshot, promise: float, min_confidence: float) -> str:
    frozen = freeze(store, snapshot, promise=promise, min_confidence=min_confidence)
    sentence = (
        f"{len(frozen.tasks)} predictions are frozen; {len(frozen.drawn)} of them, drawn at random, are asked "
        "next, without a pre-annotation. If all are answered as predicted, the set is accepted."
    )
    if frozen.attempt == 1:
        return sentence
    first = sample_size(promise, n_tasks=len(frozen.tasks))
    return f"{sentence} Attempt {frozen.attempt} may take half the risk of the one before; the first took {first}."


def _told(frozen: AcceptSet | None, snapshot: Snapshot) -> str:
    said = acceptance(frozen, snapshot.tasks, snapshot.facts.labeling)
    return accept_sentence(said) if said else "none is frozen yet"


def _save(frozen: AcceptSet | None, snapshot: Snapshot, path: Path) -> int:
    test = examine(frozen, snapshot.tasks, snapshot.facts.labeling) if frozen else None
    if frozen is None or test is None or test.verdict != "accepted":
        raise InputError(f"--save {path}: expected an accepted set; {_told(frozen, snapshot)}")
    labels = list(accepted_labels(frozen, snapshot.tasks))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("task", "label"), *labels])
    return len(labels)
