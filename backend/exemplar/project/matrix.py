"""X of a pool: the blocks of all views, from the last snapshot, from what is kept, and fitted on the pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from exemplar.context import Project
from exemplar.engine import NEW
from exemplar.features import (
    Block,
    Embedder,
    Fitted,
    PoolModel,
    Vectors,
    columns_of,
    decoder,
    fitted,
    put,
    restored,
)
from exemplar.labelstudio.tasks import Task
from exemplar.project.embedding import embedded, same_embedder
from exemplar.project.rounds import Keys
from exemplar.project.views import Sight, View
from exemplar.store.snapshot import Snapshot

# So many vectors are read or made at once.
AT_ONCE = 4096
# The vectors of so many tasks, at even distances, tell how much their block counts.
GLANCE = 1000


@dataclass(frozen=True)
class Matrix:
    """The tasks that have vectors, these, which row each was before (or NEW), and whose the columns are."""

    tasks: tuple[Task, ...]
    X: Vectors
    kept: NDArray[np.intp]
    blocks: tuple[Block, ...]
    models: dict[str, Fitted]


def make_matrix(
    project: Project,
    sight: Sight,
    tasks: Sequence[Task],
    kept: NDArray[np.intp],
    before: Snapshot | None,
    fresh: Mapping[int, Keys],
    *,
    refit: bool,
) -> Matrix:
    """Return the matrix of some tasks: of those that are new, with keys in ``fresh``.

    What is fitted on the pool is fitted again with ``refit``, and so are the weights. A task whose vector was lost
    since it was embedded is left out until it is embedded again.
    """
    if not tasks:
        return Matrix((), np.empty((0, 0), np.float32), kept, (), {})
    models, kept_models = _models(project, sight, tasks, before, refit=refit)
    weights = _weights(sight, tasks, before, refit=refit)
    blocks = tuple(
        replace(
            block,
            n_features=models[block].n_features if block in models else block.n_features,
            weight=weights[block.name],
        )
        for block in sight.blocks
    )
    known = {} if before is None else {block.name: block.weight for block in before.facts.blocks}
    X = np.zeros((len(tasks), sum(block.n_features for block in blocks)), np.float32)
    whole = np.ones(len(tasks), bool)
    is_new = kept == NEW
    for declared, block, columns in zip(sight.blocks, blocks, columns_of(blocks), strict=True):
        view = next(view for view in sight.views if view.name == block.view)
        rows = np.flatnonzero(is_new)
        if declared in models and refit:
            rows = np.arange(len(tasks))
        elif before is not None:
            X[~is_new, columns] = before.geometry.X[kept[~is_new], columns]
            if block.weight != known[block.name]:
                X[~is_new, columns] *= np.float32(block.weight / known[block.name])
        for some in (rows[first : first + AT_ONCE] for first in range(0, len(rows), AT_ONCE)):
            if declared in models:
                put(X, some, block, columns, models[declared].transform(_values(view, tasks, some)))
            else:
                whole[some] &= _put_kept(project, X, some, block, columns, [fresh[tasks[row].id] for row in some])
    if before is None or refit:
        blocks = _weighed(sight, blocks, X, whole)
    if whole.all():
        return Matrix(tuple(tasks), X, kept, blocks, kept_models)
    there = tuple(task for task, is_whole in zip(tasks, whole, strict=True) if is_whole)
    return Matrix(there, X[whole], kept[whole], blocks, kept_models)


def rows_of_texts(blocks: Sequence[Block], models: Mapping[str, Fitted], texts: Sequence[str]) -> Vectors:
    """Return what the blocks of a pool make of some texts that are none of its tasks: its blocks of texts alone.

    Raises
    ------
    EmbedderError
        If one of the embedders cannot be had.
    """
    X = np.zeros((len(texts), sum(block.n_features for block in blocks)), np.float32)
    for block, columns in zip(blocks, columns_of(blocks), strict=True):
        if block.kind != "text":
            continue
        if block.name in models:
            vectors = restored(models[block.name]).transform(texts)
        else:
            vectors = _embedded(same_embedder(block), texts)
        put(X, slice(0, len(texts)), block, columns, vectors)
    return X


def _embedded(one: Embedder, texts: Sequence[str]) -> Vectors:
    batches = (texts[first : first + one.batch_size] for first in range(0, len(texts), one.batch_size))
    return np.concatenate([embedded(one, batch)[0] for batch in batches])


def _put_kept(
    project: Project, X: Vectors, rows: NDArray[np.intp], block: Block, columns: slice, keys: Sequence[Keys]
) -> NDArray[np.bool_]:
    """Put vectors that are kept into some rows of X; return which were there."""
    vectors = np.zeros((len(rows), block.n_features), np.float32)
    there = project.vectors.read(block.identity, [found[block.view] for found in keys], vectors)
    put(X, rows, block, columns, vectors)
    return there


def _values(view: View, tasks: Sequence[Task], rows: NDArray[np.intp]) -> list[str]:
    return [view.value(tasks[row]) for row in rows]


def _weights(sight: Sight, tasks: Sequence[Task], before: Snapshot | None, *, refit: bool) -> dict[str, float]:
    """Return how much each block counts in the pool, by its name."""
    if before is not None and not refit:
        return {block.name: block.weight for block in before.facts.blocks}
    weights = {}
    for view in sight.views:
        blocks, choice = [block for block in sight.blocks if block.view == view.name], sight.choices[view.name]
        given = choice.weights if _is_file(view) else choice.weights_in([view.value(task) for task in tasks])
        weights.update({block.name: weight for block, weight in zip(blocks, given, strict=True)})
    return weights


def _is_file(view: View) -> bool:
    """Return whether a view's values are files, which are not at hand any more: their vectors are weighed."""
    return decoder(view.kind) is not None


def _weighed(sight: Sight, blocks: tuple[Block, ...], X: Vectors, whole: NDArray[np.bool_]) -> tuple[Block, ...]:
    """Weigh, in X as well, the blocks of files by their vectors in the pool."""
    rows, columns = np.flatnonzero(whole), dict(zip(blocks, columns_of(blocks), strict=True))
    rows = rows[:: max(1, len(rows) // GLANCE)]
    weighed = {}
    for view in filter(_is_file, sight.views):
        mine = [block for block in blocks if block.view == view.name]
        weights = sight.choices[view.name].weights_among([X[rows, columns[block]] for block in mine])
        for block, weight in zip(mine, weights, strict=True):
            if weight != block.weight:
                X[:, columns[block]] *= np.float32(weight / block.weight)
                weighed[block] = replace(block, weight=weight)
    return tuple(weighed.get(block, block) for block in blocks)


def _models(
    project: Project, sight: Sight, tasks: Sequence[Task], before: Snapshot | None, *, refit: bool
) -> tuple[dict[Block, PoolModel], dict[str, Fitted]]:
    """Return the models of the blocks that are fitted on the pool, and how they are kept."""
    models, kept = {}, {}
    for block, one in sight.fitted():
        if before is not None and not refit:
            models[block], kept[block.name] = before.pool_models[block.name], before.models[block.name]
            continue
        view = next(view for view in sight.views if view.name == block.view)
        project.store.note(doing=f"fitting {one.name} on {len(tasks)} tasks")
        models[block] = one.fit([view.value(task) for task in tasks])
        kept[block.name] = fitted(one, models[block])
    return models, kept
