"""Blocks of X: some columns for each view of a task as each embedder sees it, of unit length and weighted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exemplar.features.embedder import Vectors


@dataclass(frozen=True)
class Block:
    """Some columns of X: what one embedder sees of one view, which shows a field of the tasks.

    ``weight`` is the length of its rows. With ``keeps_length`` it makes up X alone, and they are as they were made.
    ``n_features`` is 0 until that is known: of a pool embedder once it is fitted.
    """

    view: str
    field: str
    kind: str
    embedder: str
    identity: str
    weight: float
    n_features: int = 0
    keeps_length: bool = False

    @property
    def name(self) -> str:
        """Return what tells this block from the project's others."""
        return f"{self.view}.{self.embedder}"


def columns_of(blocks: Sequence[Block]) -> list[slice]:
    """Return which columns of X are whose.

    >>> blocks = [Block("photo", "img", "image", name, "", 1, n) for name, n in [("lite0", 3), ("hog", 2)]]
    >>> columns_of(blocks)
    [slice(0, 3, None), slice(3, 5, None)]
    """
    ends = np.cumsum([block.n_features for block in blocks]).tolist()
    return [slice(end - block.n_features, end) for block, end in zip(blocks, ends, strict=True)]


def identity_of(blocks: Iterable[Block]) -> str:
    """Return what kind of vectors these blocks make: two kinds never mix."""
    return " + ".join(f"{block.weight:g} * {block.field}:{block.kind}:{block.identity}" for block in blocks)


def put(X: Vectors, rows: NDArray[np.intp] | slice, block: Block, columns: slice, vectors: Vectors) -> None:
    """Put vectors of one block into some rows of X, each of the block's weight in length; zeros stay zeros.

    >>> X = np.zeros((2, 3), np.float32)
    >>> block = Block("review", "text", "text", "use", "", 0.5, 2)
    >>> put(X, slice(0, 2), block, slice(1, 3), np.float32([[3, 4], [0, 0]]))
    >>> X
    array([[0. , 0.3, 0.4],
           [0. , 0. , 0. ]], dtype=float32)
    """
    X[rows, columns] = vectors if block.keeps_length else scaled(vectors, block.weight)


def scaled(vectors: Vectors, length: float) -> Vectors:
    """Return vectors of that length, zeros where there is none."""
    # The squares of float32 may be none.
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    factors = np.divide(length, norms, out=np.zeros_like(norms), where=norms > 0)
    return np.asarray(vectors * factors, np.float32)
