"""`exemplar report`: what is known of a project, and how right it is, in sentences."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from exemplar.commands.duplicates import duplicates_sentence
from exemplar.commands.known import learned_project
from exemplar.engine import MIN_AUDITS
from exemplar.project.priors import NAMES
from exemplar.rows import generation_name
from exemplar.settings import Settings
from exemplar.store.snapshot import Facts, not_used_sentence

# So many reasons why tasks are left out are told.
N_REASONS = 5
# So many answers that differ from their neighbours'.
N_SECOND_LOOKS = 5


def report(settings: Settings, project_id: int) -> Iterator[str]:
    """Yield the lines of a project's report.

    Raises
    ------
    UnknownProjectError
        If nothing is known of the project in MODEL_DIR.
    NothingLearnedError
        If nothing is learned of it yet.
    """
    store, snapshot = learned_project(settings, project_id)
    facts, now = snapshot.facts, store.status()
    counts = f"{facts.n_answered} of {facts.n_tasks} tasks answered, {facts.n_pre_annotated} predicted"
    yield f"Project {project_id}: {counts}"
    if now.problem:
        yield f"State          {now.state}: {now.problem}"
    yield (
        f"Shown          {facts.n_shown} of the predictions, at least {facts.settings['shown_from']:.0%} sure, are "
        "ticked; all that follows counts the others, too"
    )
    for believed in facts.priors:
        of = "names of choices" if believed.of == NAMES else f"predictions of {believed.of}"
        yield f"Believed       {of} count {believed.counts}"
    yield from _not_used(facts)
    if facts.duplicates.groups:
        names = f"`exemplar duplicates {project_id}` names them"
        yield f"Duplicates     {duplicates_sentence(facts.duplicates)}; {names}"
    said = facts.honesty
    yield _accuracy(said["accuracy"], facts)
    yield from _reliability(said["accuracy"])
    if said["acceptance"]:
        yield f"Accept rule    {accept_sentence(said['acceptance'])}"
    if said["leave_one_out"] is not None:
        yield (
            f"Leave-one-out  the model predicts {said['leave_one_out']:.0%} of the answers from the others: its "
            "own word, of tasks that the queue chose"
        )
    if said["agreement"]["n"]:
        n, same = said["agreement"]["n"], said["agreement"]["n_same"]
        yield f"Agreement      annotators kept {same} of {n} pre-annotations that they saw; no measure of accuracy"
    yield from _second_look(said)
    if trouble := store.audit_trouble():
        yield f"Audit log      {trouble}"
    yield f"Advice         {said['advice']['why']}"


def _not_used(facts: Facts) -> Iterator[str]:
    """Name what was read and cannot be used: answers, and tasks that are left out."""
    for why, found in facts.not_used.items():
        yield f"Not used       {not_used_sentence(why, found)}"
    reasons = Counter(facts.unreadable.values())
    for why, n in reasons.most_common(N_REASONS):
        first = next(task for task, reason in facts.unreadable.items() if reason == why)
        yield f"Left out       {n} task(s), the first is {first}: {why}"
    if len(reasons) > N_REASONS:
        yield f"Left out       {len(facts.unreadable)} tasks in all; the log names them"


def _accuracy(found: dict[str, Any], facts: Facts) -> str:
    answered = found["n_audits"] - found["n_unknown"]
    if not found["is_shown"]:
        return f"Accuracy       not known yet: {answered} audits are answered, {MIN_AUDITS} are needed"
    skipped = f", {found['n_unknown']} skipped" if found["n_unknown"] else ""
    return (
        f"Accuracy       {found['rate']:.1%} ({found['low']:.1%} to {found['high']:.1%}, 95 %): {found['n_right']} "
        f"of {answered} audits right{skipped}; {generation_name(facts.generation)}, {found['population']}"
    )


def _reliability(found: dict[str, Any]) -> Iterator[str]:
    if found["is_shown"]:
        bins = [f"{one['confidence']:.0%} sure, {one['right']:.0%} right" for one in found["reliability"]]
        yield f"Reliability    of them: {'; '.join(bins)}; {found['calibration_error']:.1%} apart in the mean"


def accept_sentence(found: dict[str, Any]) -> str:
    """Return what the accept rule says of the last frozen set."""
    if found["verdict"] == "damaged":
        return f"attempt {found['attempt']}: its file cannot be read; `exemplar accept --again` freezes another"
    frozen, promise = (
        f"attempt {found['attempt']}, {found['n_tasks']} frozen predictions",
        f"{found['promise']:.0%}",
    )
    if found["verdict"] == "void":
        return f"{frozen}: void, the label config is another since"
    answered = f"{found['n_right']} of {found['n_needed']} drawn tasks answered as predicted"
    if found["verdict"] == "open":
        return f"{frozen}: open, {answered}; the others are asked next, blind"
    if found["verdict"] == "accepted":
        return (
            f"{frozen}: accepted, annotators agree with at least {promise} (risk {found['risk']:.1%}); {answered}"
        )
    return (
        f"{frozen}: refused, not shown to agree at {promise}: {found['n_wrong']} answered otherwise, "
        f"{found['n_unknown']} skipped or gone, {found['n_right']} as predicted"
    )


def _second_look(said: dict[str, Any]) -> Iterator[str]:
    """Name answers that differ from those near them, as many as are read; a former version kept none."""
    found = said.get("second_look", [])
    for one in found[:N_SECOND_LOOKS]:
        others = ", ".join(map(str, one["others"]))
        yield (
            f"Second look    task {one['task']}: answered {one['answer']!r}; its neighbours' answers speak for "
            f"{one['others_say']!r}, {one['share']:.0%} to {1 - one['share']:.0%} (tasks {others})"
        )
    if found:
        more = f"; {len(found) - N_SECOND_LOOKS} more stand in `GET /`" if len(found) > N_SECOND_LOOKS else ""
        yield f"               An answer that differs from its neighbours' may be right all the same{more}"
    if said["conflicts"]:
        yield f"Conflicts      {said['conflicts']} clusters hold different answers"
