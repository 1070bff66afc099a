"""From answers to rows: propagation, confidence, classifier, queue. A pure function of its arguments."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from exemplar.engine import (
    UNLABELED,
    Columns,
    Geometry,
    Inference,
    LinearClassifier,
    Together,
    fit_classifier,
    fit_self_training,
    infer,
    labelled_together,
    n_starters,
    neighbor_proba,
    plan_queue,
    propagate,
    with_answers_of_groups,
)
from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.tasks import Task
from exemplar.rows import confidence_scores, queue_scores
from exemplar.settings import Settings

# The queue is planned anew after every so many annotations: in between its tasks keep their scores, so that an
# annotation changes few rows in Label Studio.
ROUND = 5
# Once there is something to predict, all tasks have rows: a short queue does then, and changes fewer of them.
QUEUE_AHEAD = 20

Leaders = NDArray[np.int32]


@dataclass(frozen=True)
class Answers:
    """What annotators said of the tasks of a pool.

    Attributes
    ----------
    shares : float32 array of shape (n_tasks, n_classes)
        The shares of the votes, zeros where nobody answered.
    y : int array of shape (n_tasks,)
        The class that most gave, UNLABELED where nobody answered.
    annotated : int array of shape (n_annotated,)
        The rows with an annotation, in the order of their first one: answered, skipped, accepted in bulk.
    """

    shares: NDArray[np.float32]
    y: NDArray[np.intp]
    annotated: NDArray[np.intp]


@dataclass(frozen=True)
class Learned:
    """What is known of each task of the pool; see ``Inference`` and ``Snapshot`` for the arrays.

    ``together`` is what near-duplicates take over from each other, ``choices`` and distributions have it.
    """

    inference: Inference
    together: Together
    classifier: LinearClassifier | None
    choices: NDArray[np.int32]
    scores: NDArray[np.float64]
    blind: NDArray[np.int64]
    faint: NDArray[np.int64]


def read_answers(tasks: Sequence[Task], labeling: Labeling) -> Answers:
    """Return what was said of some tasks, as arrays."""
    shares = np.zeros((len(tasks), len(labeling.classes)), np.float32)
    y = np.full(len(tasks), UNLABELED)
    annotated = [row for row, task in enumerate(tasks) if task.annotations]
    for row in annotated:
        votes, y[row] = tasks[row].votes(labeling), tasks[row].answer(labeling)
        shares[row] = np.array(votes) / max(sum(votes), 1)
    annotated.sort(key=lambda row: tasks[row].annotations[0].id)
    return Answers(shares, y, np.array(annotated, np.intp))


def learn(
    geometry: Geometry,
    answers: Answers,
    settings: Settings,
    *,
    audits: NDArray[np.intp],
    frozen: NDArray[np.intp] | None = None,
    columns: Columns | None = None,
    priors: Sequence[NDArray[np.float32]] = (),
    leaders: Leaders | None = None,
) -> Learned:
    """Spread the answers, say how sure that is, learn from it, and order what to ask next.

    Parameters
    ----------
    geometry : Geometry
    answers : Answers
    settings : Settings
    audits : int array
        The rows that are kept for audits, in the order in which they are asked.
    frozen : int array, optional
        Those whose prediction is written down already: they stay blind until they are annotated.
    columns : Columns, optional
        Those of an earlier snapshot with the same graph: only new answers cost a push.
    priors : sequence of float32 arrays of shape (n_tasks, n_classes)
        What is believed before any answer; see ``infer``.
    leaders : int array of shape (n_tasks,), optional
        The first row of each one's group of near-duplicates; by default none has another.
    """
    if leaders is None:
        leaders = np.arange(geometry.n_tasks, dtype=np.int32)
    together = labelled_together(leaders, answers.y)
    if not together.is_trusted:
        leaders = np.arange(geometry.n_tasks, dtype=np.int32)
        together = replace(together, y=np.full(geometry.n_tasks, UNLABELED))
    audits = audits[leaders[audits] == audits]  # of the pool as it is asked: near-duplicates count once
    found = infer(
        geometry,
        answers.shares,
        method=settings.propagation,
        percent=settings.propagate_percent,
        columns=columns,
        priors=priors,
    )
    classifier = _classifier(geometry, found.distributions, answers, settings)
    choices, confidence = _choose(geometry, found, answers, classifier)
    found = replace(found, distributions=with_answers_of_groups(found.distributions, together))
    taken = together.y != UNLABELED
    choices[taken] = together.y[taken]
    confidence[taken] = found.distributions[taken].max(axis=1)
    known = choices != UNLABELED
    queue, positions = plan(geometry, answers, settings, audits, columns=found.columns, leaders=leaders)
    if not known.any():
        queue, positions = _with_seconds(queue, positions, answers, settings, leaders)
    known[answers.annotated] = True  # a task that was passed over has a row, so that it is not asked first again
    row_scores = np.where(known, confidence_scores(confidence), np.nan)
    row_scores[queue] = queue_scores(positions)
    return Learned(
        inference=found,
        together=together,
        classifier=classifier,
        choices=choices.astype(np.int32),
        scores=row_scores,
        blind=np.union1d(queue[np.isin(queue, audits)], [] if frozen is None else frozen).astype(np.int64),
        faint=np.flatnonzero((choices != UNLABELED) & (confidence < settings.shown_from)).astype(np.int64),
    )


def plan(
    geometry: Geometry,
    answers: Answers,
    settings: Settings,
    audits: NDArray[np.intp],
    *,
    columns: Columns | None = None,
    leaders: Leaders | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows to ask next, and the position of each in the round's plan, which rises along them.

    A plan is made from the first annotations, a whole number of rounds of them; what was annotated since is
    struck out. Of near-duplicates one is asked. Once each class can have been asked, every so many annotations an
    audit has its turn, whatever the model thinks of it.
    """
    leaders = np.arange(geometry.n_tasks, dtype=np.int32) if leaders is None else leaders
    n_before = len(answers.annotated) // ROUND * ROUND
    before, since = answers.annotated[:n_before], answers.annotated[n_before:]
    labeled, askable = np.zeros(geometry.n_tasks, bool), np.ones(geometry.n_tasks, bool)
    labeled[before] = answers.y[before] != UNLABELED
    # The queue does not know of audits: one that does asks nothing near them, and without their own answers, which
    # the estimate leaves out, there are holes that are nowhere else.
    labeled[audits] = False
    askable[audits] = False
    askable &= (leaders == np.arange(geometry.n_tasks)) & ~np.isin(leaders, leaders[before])
    shares = np.where(labeled[:, None], answers.shares, np.float32(0))
    scores = propagate(
        geometry, shares, method=settings.propagation, percent=settings.propagate_percent, columns=columns
    )
    ahead = min(settings.batch_size, QUEUE_AHEAD) if scores.any(axis=0).sum() > 1 else settings.batch_size
    n = ahead + ROUND
    strategic = plan_queue(geometry, scores, labeled=labeled, askable=askable, n=n, strategy=settings.queue)
    waiting = audits[~np.isin(leaders[audits], leaders[before])]
    first = max(n_starters(answers.shares.shape[1]) - n_before, 0)
    mixed = _with_audits(strategic[first:], waiting, n_before + first, settings.audit_share)
    rows = np.concatenate([strategic[:first], mixed])[:n]
    open_ = ~np.isin(leaders[rows], leaders[since])
    if not open_.any():  # when all else is asked, audits are all that is left
        rows = waiting[:n]
        open_ = ~np.isin(leaders[rows], leaders[since])
    positions = np.flatnonzero(open_)[:ahead]
    return rows[positions], positions


def _with_seconds(
    queue: NDArray[np.intp], positions: NDArray[np.intp], answers: Answers, settings: Settings, leaders: Leaders
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Let further near-duplicates follow where the queue is short: Label Studio must not run out of rows.

    It gives an annotator no task at all when others have opened all tasks that have a row; once something is
    predicted, all have one. Those of a group that was skipped only where nothing else is left.
    """
    seconds = np.flatnonzero(leaders != np.arange(len(leaders)))
    seconds = seconds[~np.isin(seconds, answers.annotated)]
    of_open = seconds[~np.isin(leaders[seconds], leaders[answers.annotated])]
    more = (of_open if len(queue) or len(of_open) else seconds)[: settings.batch_size - len(queue)]
    last = int(positions.max(initial=-1))
    return np.concatenate([queue, more]), np.concatenate([positions, last + 1 + np.arange(len(more))])


def _with_audits(rows: NDArray[np.intp], audits: NDArray[np.intp], n_before: int, share: float) -> NDArray[np.intp]:
    """Give every (100 / share)-th annotation's turn to an audit."""
    every = round(100 / share) if share else 0
    waiting: list[int] = audits.tolist()
    mixed: list[int] = []
    for row in rows.tolist():
        if every and waiting and (n_before + len(mixed) + 1) % every == 0:
            mixed.append(waiting.pop(0))
        mixed.append(row)
    return np.array(mixed, np.intp)


def _classifier(
    geometry: Geometry, distributions: NDArray[np.float32], answers: Answers, settings: Settings
) -> LinearClassifier | None:
    if settings.classifier == "logistic":
        reached = distributions.any(axis=1)
        return fit_classifier(geometry.X[reached], distributions[reached].argmax(axis=1), C=None)
    if settings.classifier == "self-training":
        return fit_self_training(geometry.X, answers.y)
    return None  # the pool's nearest tasks answer


def _choose(
    geometry: Geometry, found: Inference, answers: Answers, classifier: LinearClassifier | None
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return each task's class, UNLABELED where nothing is known, and how sure it is."""
    proba = found.distributions
    reached, answered = proba.any(axis=1), answers.y != UNLABELED
    if not found.by_graph:
        # A cluster's share says nothing while it has one answer; the classifier's word does.
        proba = classify(geometry, found.distributions, classifier, geometry.X)
    # Of the faintest scores, calibrated distributions no longer tell the classes apart.
    choices = np.where(reached, found.scores.argmax(axis=1), proba.argmax(axis=1))
    choices[~reached & ~proba.any(axis=1)] = UNLABELED
    choices[answered] = answers.y[answered]
    confidence = proba[np.arange(len(proba)), np.clip(choices, 0, proba.shape[1] - 1)]
    confidence = np.where(choices == UNLABELED, np.float32(0), confidence)
    confidence[answered] = 1.0
    return choices, confidence


def classify(
    geometry: Geometry,
    distributions: NDArray[np.float32],
    classifier: LinearClassifier | None,
    X: NDArray[np.float32],
    *,
    averaged_at: float = 1.0,
) -> NDArray[np.float32]:
    """Return what is known of tasks by their vectors; zeros where nothing is."""
    if classifier is not None:
        return classifier.predict_proba(X, n_classes=distributions.shape[1])
    return neighbor_proba(geometry, distributions, X, temperature=averaged_at)
