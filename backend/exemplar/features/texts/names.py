"""The names of classes among the texts of a pool: seen by what sees these."""

from collections.abc import Mapping, Sequence

import numpy as np

from exemplar.errors import InputError
from exemplar.features.blocks import Block, columns_of, put
from exemplar.features.embedder import PoolEmbedder, PoolModel, Vectors
from exemplar.features.registry import embedder
from exemplar.features.texts import KINDS


def embed_names(names: Sequence[str], blocks: Sequence[Block], models: Mapping[str, PoolModel]) -> Vectors | None:
    """Return the rows of X that texts of these words have; None where nothing sees texts, as of pictures alone.

    Parameters
    ----------
    names : sequence of str
        In words: an empty one gets zeros.
    blocks : sequence of Block
        Those of X.
    models : mapping of str to PoolModel
        What was fitted on the pool, by the names of their blocks.

    Returns
    -------
    float32 array of shape (n_names, n_features), or None
        Zero in the columns of other views.

    Raises
    ------
    InputError
        If the model of a block that is fitted on the pool is missing.
    """
    if not any(block.kind in KINDS for block in blocks):
        return None
    X = np.zeros((len(names), sum(block.n_features for block in blocks)), np.float32)
    for block, columns in zip(blocks, columns_of(blocks), strict=True):
        if block.kind in KINDS:
            seen_by = models.get(block.name) or embedder(block.embedder)
            if isinstance(seen_by, PoolEmbedder):
                raise InputError(f"models={sorted(models)}: expected that of {block.name}, too")
            put(X, slice(None), block, columns, seen_by.transform(names))
    return X
