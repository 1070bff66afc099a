"""Tasks that are labelled together: one answer of a group of near-duplicates is the prediction of all others in it.

A group whose answers differ is none: its tasks are predicted as any other, and people are told.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.propagation.methods import UNLABELED
from exemplar.errors import InputError

# Before any group was answered twice: as sure as if 24.5 of 25 second answers had been the first one.
BELIEVED, TRIED = 24.5, 25
# Below, groups are not used at all: what makes these tasks differ is what they are asked for.
TRUSTED = 0.9


@dataclass(frozen=True)
class Together:
    """What the answers of groups say of the rows in them.

    Attributes
    ----------
    y : int array of shape (n_tasks,)
        Of a row without an answer, that of its group; UNLABELED = -1 where there is none, or several.
    differ : int array
        The leaders of the groups whose answers differ.
    n_tried, n_same : int
        How many rows were answered though their group was before, and how many as it was.
    confidence : float
        How sure y is.
    """

    y: NDArray[np.intp]
    differ: NDArray[np.intp]
    n_tried: int
    n_same: int

    @property
    def confidence(self) -> float:
        """The mean of a Beta distribution that starts with what is believed and learns from second answers."""
        return (BELIEVED + self.n_same) / (TRIED + self.n_tried)

    @property
    def is_trusted(self) -> bool:
        """Whether answers may be taken over at all."""
        return self.confidence >= TRUSTED


def labelled_together(leaders: NDArray[np.int32], y: NDArray[np.intp]) -> Together:
    """Return what groups take over from their answers.

    Parameters
    ----------
    leaders : int array of shape (n_tasks,)
        The first row of each one's group, as ``group_by_keys`` and ``group_by_prints`` return it.
    y : int array of shape (n_tasks,)
        The answers, UNLABELED where there is none.

    Raises
    ------
    InputError
        If the two differ in length.

    Examples
    --------
    >>> found = labelled_together(np.int32([0, 0, 0, 3, 3, 3]), np.array([2, -1, -1, 0, 1, -1]))
    >>> found.y, found.differ, found.n_tried, found.n_same
    (array([-1,  2,  2, -1, -1, -1]), array([3]), 1, 0)
    """
    if leaders.shape != y.shape:
        raise InputError(f"y has the shape {y.shape}: expected {leaders.shape}, as leaders")
    answered = np.flatnonzero(y != UNLABELED)
    groups = leaders[answered]
    # The first answered row of each group speaks for it, unless another differs.
    spoken = np.full(len(y), UNLABELED, np.intp)
    spoken[groups[::-1]] = y[answered[::-1]]
    same = spoken[groups] == y[answered]
    differ = np.unique(groups[~same]).astype(np.intp)
    spoken[differ] = UNLABELED
    n_tried = len(answered) - len(np.unique(groups))
    taken = np.where(y == UNLABELED, spoken[leaders], UNLABELED)
    return Together(taken, differ, n_tried, n_tried - int(np.count_nonzero(~same)))


def with_answers_of_groups(distributions: NDArray[np.float32], found: Together) -> NDArray[np.float32]:
    """Return label distributions in which the rows that take over an answer are at least that sure of it.

    Parameters
    ----------
    distributions : float32 array of shape (n_tasks, n_classes)
    found : Together

    Examples
    --------
    >>> found = Together(np.array([-1, 0, 1]), np.array([]), 0, 0)
    >>> with_answers_of_groups(np.float32([[0, 0], [0, 0], [0, 1]]), found)
    array([[0.  , 0.  ],
           [0.98, 0.02],
           [0.  , 1.  ]], dtype=float32)
    """
    rows = np.flatnonzero(found.y != UNLABELED)
    if not len(rows):
        return distributions
    taken, n_classes = found.y[rows], distributions.shape[1]
    others = distributions[rows].astype(np.float64)
    sure = np.maximum(others[np.arange(len(rows)), taken], found.confidence if n_classes > 1 else 1.0)
    others[np.arange(len(rows)), taken] = 0
    nothing = ~others.any(axis=1)
    others[nothing] = 1
    others[np.arange(len(rows)), taken] = 0
    totals = np.maximum(others.sum(axis=1), np.finfo(np.float64).tiny)
    changed = others * ((1 - sure) / totals)[:, None]
    changed[np.arange(len(rows)), taken] = sure
    result = distributions.copy()
    result[rows] = changed
    return result
