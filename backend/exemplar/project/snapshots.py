"""A new snapshot: the pool, what its answers tell, and what is to be said of that."""

import logging
import time
from typing import Any

import numpy as np

from exemplar.context import Project
from exemplar.engine import Columns
from exemplar.labelstudio.tasks import not_used
from exemplar.project.acceptance import acceptance, ask_drawn_first, lost_set
from exemplar.project.audits import audit_rows, frozen_rows
from exemplar.project.duplicates import Duplicates, counted, find_duplicates
from exemplar.project.honesty import Honesty, be_honest
from exemplar.project.learn import Answers, Learned, learn, read_answers
from exemplar.project.pool import Pool, build_pool
from exemplar.project.priors import Prior, priors_of
from exemplar.project.reading import Read
from exemplar.project.sync import Held
from exemplar.project.views import Sight, View, views_of
from exemplar.rows import generation_name, generation_number, highest_generation
from exemplar.settings import PER_PROJECT
from exemplar.store.snapshot import Believed, DuplicatesFound, Facts, NotUsed, Snapshot

logger = logging.getLogger(__name__)

# So many of the tasks whose answers are not used are named.
NAMED = 5


def is_stale(project: Project, held: Held, sight: Sight, before: Snapshot) -> bool:
    """Return whether anything changed that a snapshot is made of."""
    return (
        held.tasks != before.tasks
        or held.labeling != before.facts.labeling
        or held.labeling.said != before.facts.labeling.said
        or settings_that_matter(project) != before.facts.settings
        or sight.identity != before.facts.features
        or held.own.source != before.facts.own_source
        or project.store.accept_attempt() != (before.facts.honesty["acceptance"] or {"attempt": 0})["attempt"]
    )


def make_snapshot(
    project: Project, held: Held, sight: Sight, before: Snapshot | None, read: Read, *, anew: bool = False
) -> Snapshot | None:
    """Learn from what Label Studio holds and was embedded; ``anew`` forgets the clusters.

    None if no task is readable.
    """
    anew = anew or (before is not None and _starts_anew(project, held, sight, before))
    pool = build_pool(project, sight, held.tasks, before, read, anew=anew)
    if pool is None:
        return None
    project.store.note(doing=f"learning from {len(pool.tasks)} tasks")
    duplicates = find_duplicates(project, _compared(sight, held), pool, before, read.fresh)
    answers, log = read_answers(pool.tasks, held.labeling), project.store.audit_log()
    accept_set = project.store.accept_set()
    accepting = acceptance(accept_set, pool.tasks, held.labeling) or lost_set(project.store.accept_attempt())
    priors = priors_of(project, held.labeling, pool, before, anew=anew)
    learned = learn(
        pool.geometry,
        answers,
        project.settings,
        audits=audit_rows(project, pool.tasks),
        frozen=frozen_rows(log, pool.tasks),
        columns=_columns(pool, before),
        priors=[prior.scores for prior in priors],
        leaders=duplicates.leaders if project.settings.duplicates else None,
    )
    used = project.settings.duplicates and learned.together.is_trusted
    found = counted(duplicates.leaders, answers.y, used=used)
    learned = ask_drawn_first(learned, accept_set, accepting, pool.tasks)
    generation = _generation(project, held, before)
    checkpoints = before.checkpoints if before is not None else ()
    honesty = be_honest(
        pool.tasks,
        pool.geometry,
        answers,
        learned,
        log,
        checkpoints,
        classes=held.labeling.classes,
        generation=generation_name(generation),
        accepting=accepting,
        duplicates_once=found.used and found.groups > 0,
    )
    facts = _facts(project, held, pool, answers, learned, priors, found, generation=generation, said=honesty.said)
    return _snapshot(facts, held, pool, duplicates, learned, priors, honesty)


def _compared(sight: Sight, held: Held) -> View:
    """Return the view whose near-duplicates are told: texts also where tasks are seen by vectors of the user's own.

    Pictures are not read then, so nobody knows which are the same.
    """
    return views_of(held.labeling)[0] if held.labeling.kind == "text" else sight.views[0]


def _columns(pool: Pool, before: Snapshot | None) -> Columns | None:
    """Return the answers' columns that are known already; they are of one graph."""
    return before.columns if before is not None and pool.geometry is before.geometry else None


def _facts(
    project: Project,
    held: Held,
    pool: Pool,
    answers: Answers,
    learned: Learned,
    priors: tuple[Prior, ...],
    found: DuplicatesFound,
    *,
    generation: int,
    said: dict[str, Any],
) -> Facts:
    return Facts(
        number=project.store.next_number(),
        made_at=time.time(),
        generation=generation,
        labeling=held.labeling,
        settings=settings_that_matter(project),
        n_clustered=pool.n_clustered,
        features=pool.features,
        blocks=pool.blocks,
        unreadable=pool.unreadable,
        not_used=_counted(not_used(held.tasks, held.labeling)),
        duplicates=found,
        n_tasks=len(held.tasks),
        n_answered=int(np.count_nonzero(answers.y >= 0)),
        n_pre_annotated=int(np.count_nonzero(learned.choices >= 0)),
        temperature=learned.inference.temperature,
        averaged_at=learned.inference.averaged_at,
        honesty=said,
        n_shown=int(np.count_nonzero(learned.choices >= 0)) - len(learned.faint),
        priors=tuple(
            Believed(prior.of, prior.made_of, weight.answers, weight.share)
            for prior, weight in zip(priors, learned.inference.weights, strict=True)
        ),
        own_source=held.own.source,
        own_vectors=held.own.said,
    )


def _counted(found: dict[str, list[int]]) -> dict[str, NotUsed]:
    return {reason: NotUsed(len(tasks), tuple(tasks[:NAMED])) for reason, tasks in sorted(found.items())}


def _snapshot(
    facts: Facts,
    held: Held,
    pool: Pool,
    duplicates: Duplicates,
    learned: Learned,
    priors: tuple[Prior, ...],
    honesty: Honesty,
) -> Snapshot:
    return Snapshot(
        facts=facts,
        tasks=held.tasks,
        task_ids=np.array([task.id for task in pool.tasks], np.int64),
        geometry=pool.geometry,
        signatures=duplicates.signatures,
        leaders=duplicates.leaders,
        distributions=learned.inference.distributions,
        columns=learned.inference.columns,
        classifier=learned.classifier,
        models=pool.models,
        choices=learned.choices,
        scores=learned.scores,
        blind=learned.blind,
        faint=learned.faint,
        checkpoints=honesty.checkpoints,
        priors=tuple(prior.scores for prior in priors),
    )


def settings_that_matter(project: Project) -> dict[str, Any]:
    """Return the settings that a snapshot depends on."""
    values = {name: getattr(project.settings, name) for name in PER_PROJECT}
    # As JSON gives them back.
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _starts_anew(project: Project, held: Held, sight: Sight, before: Snapshot) -> bool:
    if held.labeling != before.facts.labeling:
        logger.info(
            "%s: the label config has changed; learning starts anew with %s on %s",
            project,
            held.labeling.control,
            ", ".join(held.labeling.classes),
        )
    return (
        sight.identity != before.facts.features
        or project.settings.n_clusters != before.facts.settings["n_clusters"]
    )


def _generation(project: Project, held: Held, before: Snapshot | None) -> int:
    """Return the generation that the rows stand under: the one that is there, or the next one."""
    if before is not None and before.facts.labeling == held.labeling:
        return before.facts.generation
    highest = highest_generation(project)
    if before is not None:
        # Rows of another label config cannot be patched into this one under an annotator's eyes.
        return 1 + max(highest, before.facts.generation)
    # Nothing is known here (a new project, or MODEL_DIR was deleted): take up the rows that are there.
    return generation_number(held.facts["model_version"]) or highest or 1
