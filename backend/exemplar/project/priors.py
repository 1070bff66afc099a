"""What is believed of a project's tasks before anybody answers: the choices' names, other models' predictions."""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from exemplar.context import Project
from exemplar.engine import prior_of_names, prior_of_predictions, similarities
from exemplar.labelstudio.label_config import Labeling, has_words
from exemplar.project.matrix import rows_of_texts
from exemplar.project.own_vectors import is_own
from exemplar.project.pool import Pool
from exemplar.rows import generation_number
from exemplar.store.snapshot import Snapshot

logger = logging.getLogger(__name__)

NAMES = "names"
NO_NAMES = "the names of the choices are not read: tasks are seen by vectors of your own, which see no text"
# Only over the neighbour graph do priors and answers meet.
METHODS = ("auto", "graph", "gaussian-process")
_NUMBERS_AND_LETTERS = re.compile(r"[\W\d_]+|\b[A-Za-z]\b")
_SEPARATORS = re.compile(r"[_\-/.]+|(?<=[a-z])(?=[A-Z])")
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Prior:
    """A prior of the pool; see ``Believed``."""

    of: str
    made_of: str
    scores: Scores


def priors_of(
    project: Project, labeling: Labeling, pool: Pool, before: Snapshot | None, *, anew: bool = False
) -> tuple[Prior, ...]:
    """Return what is believed of the pool; what was made of the same before is kept, unless ``anew``."""
    if project.settings.propagation not in METHODS or len(labeling.classes) < 2:
        return ()
    known = {} if before is None or anew or pool.geometry is not before.geometry else _known(before)
    wanted = [NAMES] if project.settings.names and labeling.kind == "text" and not is_own(pool.blocks) else []
    wanted += [version for version in project.settings.priors if _is_of_others(project, version)]
    priors = []
    for of in wanted:
        words = words_of(labeling, project.settings.descriptions) if of == NAMES else ()
        made_of = _digest(of, labeling, pool, words)
        if of not in known or known[of].made_of != made_of:
            scores = _of_names(project, pool, words) if of == NAMES else _of_model(project, labeling, pool, of)
            known[of] = Prior(of, made_of, scores)
        priors.append(known[of])
    if before is None or anew:
        _offer(project)
        if is_own(pool.blocks) and project.settings.names and labeling.kind == "text":
            logger.info("%s: %s", project, NO_NAMES)
    return tuple(priors)


def words_of(labeling: Labeling, descriptions: dict[str, str] | None = None) -> tuple[str, ...]:
    """Return what to embed for each class; empty where its name says nothing.

    That is a name without words ("A", "7"), and names that differ in numbers and letters alone ("class 7").
    """
    given = descriptions or {}
    said = labeling.said or labeling.classes
    names = [_SEPARATORS.sub(" ", name) for name in said]
    kinds = [_NUMBERS_AND_LETTERS.sub("", name).casefold() for name in names]
    often = Counter(kinds)
    words = [name if has_words(name) and often[kind] == 1 else "" for name, kind in zip(names, kinds, strict=True)]
    return tuple(given.get(c, word).strip() for c, word in zip(labeling.classes, words, strict=True))


def _known(before: Snapshot) -> dict[str, Prior]:
    return {
        believed.of: Prior(believed.of, believed.made_of, scores)
        for believed, scores in zip(before.facts.priors, before.priors, strict=True)
    }


def _digest(of: str, labeling: Labeling, pool: Pool, words: Sequence[str]) -> str:
    made_of = [of, labeling.classes, words, pool.features]
    return hashlib.blake2b(orjson.dumps(made_of), digest_size=12).hexdigest()


def _of_names(project: Project, pool: Pool, words: Sequence[str]) -> Scores:
    """Embed the names as the tasks' texts, and spread what lies near them."""
    project.store.note(doing="reading the names of the choices")
    X = pool.geometry.X
    names = np.zeros((len(words), X.shape[1]), np.float32)
    named = [i for i, word in enumerate(words) if word]
    if named:
        names[named] = rows_of_texts(pool.blocks, pool.models, [words[i] for i in named])
    n_told = int(np.count_nonzero(names.any(axis=1)))
    logger.info("%s: the names of %d of %d choices tell something", project, n_told, len(words))
    return prior_of_names(pool.geometry, similarities(X, names))


def _of_model(project: Project, labeling: Labeling, pool: Pool, version: str) -> Scores:
    """Read what another model has predicted, and spread it."""
    project.store.note(doing=f"reading the predictions of {version}")
    row_of = {task.id: row for row, task in enumerate(pool.tasks)}
    votes = np.zeros((len(pool.tasks), len(labeling.classes)), np.float32)
    n_unused = 0
    for prediction in project.client.predictions(project.id):
        if prediction["model_version"] == version and prediction["task"] in row_of:
            choice = labeling.class_index(prediction["result"])
            n_unused += choice < 0
            votes[row_of[prediction["task"]], choice] += choice >= 0
    total = votes.sum(axis=1, keepdims=True)
    n_used = int(np.count_nonzero(total))
    why = f"; {n_unused} more name none of the choices" if n_unused else ""
    logger.info("%s: predictions of %r believed at first for %d tasks%s", project, version, n_used, why)
    return prior_of_predictions(pool.geometry, votes / np.maximum(total, 1))


def _is_of_others(project: Project, version: str) -> bool:
    if generation_number(version) is None:
        return True
    logger.warning("%s: priors: %r is a generation of ours, which is not believed", project, version)
    return False


def _offer(project: Project) -> None:
    """Say which predictions of other models there are that nobody has said to believe."""
    for version, n in sorted(project.client.model_versions(project.id).items()):
        if n and version and generation_number(version) is None and version not in project.settings.priors:
            line = orjson.dumps({"priors": {"model_version": version}}).decode()
            logger.info(
                "%s: %d predictions of %r are there: with %s in the extra params they are believed until answers "
                "tell better",
                project,
                n,
                version,
                line,
            )
