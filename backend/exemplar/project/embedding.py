"""Embedding values: batch by batch, a few projects in turn, and no value twice.

An embedder works for one at a time, in the order in which they came: a pool of a million texts does not keep
another project's ten waiting for longer than a batch takes.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from exemplar.engine import one_blas_thread
from exemplar.errors import EmbedderError, NotNowError, TaskDataError
from exemplar.features import Block, Embedder, Vectors, embedder, put_out_of_order
from exemplar.labelstudio.own_vectors import LARGEST


class Turns:
    """A lock that is given in the order in which it was asked for."""

    def __init__(self) -> None:
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, until: float = float("inf")) -> Iterator[None]:
        """Wait for one's turn, and have it; NotNowError at the time ``until`` (of ``time.monotonic``)."""
        mine = threading.Event()
        with self._lock:
            self._waiting.append(mine)
            if self._waiting[0] is mine:
                mine.set()
        patience = None if until == float("inf") else max(0.0, until - time.monotonic())
        try:
            if not mine.wait(patience):
                raise NotNowError("others were being embedded for too long")
            yield
        finally:
            with self._lock:
                self._waiting.remove(mine)
                if self._waiting:
                    self._waiting[0].set()


_turns: dict[str, Turns] = {}
# What has embedded anything in this process is in order: what fails after that is the value's fault.
_proven: set[str] = set()


def embedded(
    one: Embedder, values: Sequence[Any], *, until: float = float("inf")
) -> tuple[Vectors, dict[int, TaskDataError]]:
    """Return the vectors of at most a batch of values; and by position why some have none (zeros).

    Raises
    ------
    EmbedderError
        If it fails on all that it was ever given here; it is out of order then.
    """
    failed: dict[int, TaskDataError] = {}
    with _turns.setdefault(one.identity, Turns()).turn(until), one_blas_thread():
        try:
            X = _transformed(one, values)
        except Exception:  # one value may be what it fails on
            X = np.zeros((len(values), one.n_features), np.float32)
            for position, value in enumerate(values):
                try:
                    X[position] = _transformed(one, [value])[0]
                except Exception as error:
                    failed[position] = TaskDataError(f"{one.name} fails on it: {type(error).__name__}: {error}")
    if len(failed) == len(values) > 0 and one.identity not in _proven:
        why = str(failed[0])
        put_out_of_order(one.name, why)
        raise EmbedderError(one.name, why)
    if len(failed) < len(values):
        _proven.add(one.identity)
    for position in np.flatnonzero(~(np.abs(X) < LARGEST).all(axis=1)).tolist():
        failed[position] = TaskDataError(f"{one.name} gives no numbers for it, or too large ones")
        X[position] = 0
    return X, failed


def _transformed(one: Embedder, values: Sequence[Any]) -> Vectors:
    X = np.array(one.transform(values), np.float32)
    if X.shape != (len(values), one.n_features):
        raise ValueError(f"vectors of shape {X.shape}: expected {(len(values), one.n_features)}")
    return X


def same_embedder(block: Block) -> Embedder:
    """Return a block's embedder.

    Raises
    ------
    EmbedderError
        If it cannot be had here, or is another one than the pool was embedded by.
    """
    one = embedder(block.embedder)
    if not isinstance(one, Embedder) or one.identity != block.identity:
        raise EmbedderError(
            block.embedder, f"{one.identity!r} is here, the pool was embedded by {block.identity!r}"
        )
    return one
