"""`exemplar accept`: put a project's predictions to a blind test, see how it goes, and save what was accepted."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from exemplar.commands.known import learned_project
from exemplar.commands.report import accept_sentence
from exemplar.engine import alpha_of, chance_to_pass, sample_size
from exemplar.errors import InputError, SettingError
from exemplar.project.acceptance import acceptance, accepted_labels, examine, freeze, propose
from exemplar.settings import Settings
from exemplar.store.accept_set import AcceptSet
from exemplar.store.project_store import ProjectStore
from exemplar.store.snapshot import Snapshot

DEFAULT_PROMISE = 0.95
# For these the chance to pass is shown, as far as they keep the promise.
ROUND_AGREEMENTS = (0.999, 0.995, 0.99, 0.98, 0.97, 0.96, 0.95, 0.9)


@dataclass(frozen=True)
class Wanted:
    """What a set shall promise, and how sure its predictions shall be."""

    promise: float
    min_confidence: float


def accept(
    settings: Settings,
    project_id: int,
    *,
    promise: float | None = None,
    min_confidence: float | None = None,
    again: bool = False,
    save: Path | None = None,
    agrees: Callable[[str], bool] = lambda look: True,
) -> str:
    """Start a project's test, or tell how the last one goes; return what is to be said.

    Parameters
    ----------
    settings : Settings
    project_id : int
    promise : float between 0 and 1, optional
        The least agreement with annotators; by default 0.95.
    min_confidence : float between 0 and 1, optional
        Predictions below it are not part of the set.
    again : bool
        Freeze another set, whatever became of the last one.
    save : Path, optional
        Where to write the labels, once the set is accepted.
    agrees : callable
        Gets a look at what would be frozen, in lines, and says whether it shall be.

    Raises
    ------
    UnknownProjectError
        If nothing is known of the project in MODEL_DIR.
    NothingLearnedError
        If nothing is learned of it yet.
    InputError
        If nothing is predicted that confidently, or a set is to be saved that was not accepted.
    SettingError
        If the labels cannot be written there.
    """
    store, snapshot = learned_project(settings, project_id)
    last = store.accept_set()
    if save is not None:
        return f"Project {project_id}: {_save(last, snapshot, save)} accepted labels are in {save}"
    if last is not None and not again:
        is_other = promise not in (None, last.promise) or min_confidence not in (None, last.min_confidence)
        hint = "\nThe options are for another set, which --again freezes in its place." if is_other else ""
        return f"Project {project_id}: {_told(last, snapshot)}{hint}"
    wanted = Wanted(DEFAULT_PROMISE if promise is None else promise, min_confidence or 0.0)
    if not agrees(f"Project {project_id}: " + "\n".join(look(store, snapshot, wanted))):
        return f"Project {project_id}: nothing was frozen."
    return f"Project {project_id}: {_start(store, last, wanted)}"


def look(store: ProjectStore, snapshot: Snapshot, wanted: Wanted) -> Iterator[str]:
    """Yield what freezing would mean: the set, the draw, what it ends, and how likely it is to pass."""
    promise = wanted.promise
    proposal = propose(store, snapshot, promise=promise, min_confidence=wanted.min_confidence)
    n_tasks, n_drawn = len(proposal.rows), proposal.n_drawn
    yield (
        f"would freeze {n_tasks} predictions and ask {n_drawn} of them next, drawn at random, without a "
        f"pre-annotation. If all {n_drawn} are answered as predicted, annotators agree with at least "
        f"{promise * 100:.4g}% of the set (risk {alpha_of(proposal.attempt):.2%}); one answered otherwise or "
        "skipped refuses it."
    )
    last = store.accept_set()
    if last is not None:
        yield f"It ends {_told(last, snapshot)}"
    yield "Chance to pass, if annotators agree with"
    for agreement, whose in _agreements(snapshot, proposal.confidence, promise):
        chance = chance_to_pass(agreement, n_drawn, n_tasks=n_tasks)
        yield f"  {agreement:6.1%}  {chance:4.0%}{whose}"


def _agreements(snapshot: Snapshot, confidence: float, promise: float) -> list[tuple[float, str]]:
    """Return agreements to show, best first: round ones that keep the promise, and what we believe."""
    shown = [(round_one, "") for round_one in ROUND_AGREEMENTS if round_one >= promise]
    shown.append((confidence, "  <- as sure as these predictions are on average"))
    accuracy = snapshot.facts.honesty["accuracy"]
    if accuracy["is_shown"]:
        n = accuracy["n_audits"] - accuracy["n_unknown"]
        shown.append((accuracy["rate"], f"  <- as {n} audits estimate it, of {accuracy['population']}"))
    return sorted(shown, key=lambda one: -one[0])


def _start(store: ProjectStore, last: AcceptSet | None, wanted: Wanted) -> str:
    snapshot = store.current()  # people take their time to agree; what was answered meanwhile was not blind
    if snapshot is None or store.accept_set() != last:
        raise InputError("Another set was frozen meanwhile, or the project was made anew; look again")
    frozen = freeze(store, snapshot, promise=wanted.promise, min_confidence=wanted.min_confidence)
    sentence = (
        f"{len(frozen.tasks)} predictions are frozen; {len(frozen.drawn)} of them, drawn at random, are asked "
        "next, without a pre-annotation. If all are answered as predicted, the set is accepted."
    )
    if frozen.attempt == 1:
        return sentence
    first = sample_size(wanted.promise, n_tasks=len(frozen.tasks))
    return f"{sentence} Attempt {frozen.attempt} may take half the risk of the one before; the first took {first}."


def _told(frozen: AcceptSet | None, snapshot: Snapshot) -> str:
    said = acceptance(frozen, snapshot.tasks, snapshot.facts.labeling)
    return accept_sentence(said) if said else "none is frozen yet"


def _save(frozen: AcceptSet | None, snapshot: Snapshot, path: Path) -> int:
    test = examine(frozen, snapshot.tasks, snapshot.facts.labeling) if frozen else None
    if frozen is None or test is None or test.verdict != "accepted":
        raise InputError(f"--save {path}: expected an accepted set; {_told(frozen, snapshot)}")
    labels = list(accepted_labels(frozen, snapshot.tasks))
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("task", "label"), *labels])
    except OSError as error:
        expected = f"a file in a folder that exists and can be written ({error.strerror})"
        raise SettingError("--save", str(path), expected) from error
    return len(labels)
