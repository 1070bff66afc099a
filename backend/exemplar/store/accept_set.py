"""Predictions as they were frozen for the accept rule; like the audit log, they cannot be rebuilt."""

from collections.abc import Iterator
from dataclasses import dataclass

from exemplar.labelstudio.label_config import Labeling


@dataclass(frozen=True, kw_only=True)
class AcceptSet:
    """Predictions of one moment, and which of them annotators answer blind.

    Attributes
    ----------
    attempt : int
        1 for the first set of a project; each later one may take half the risk.
    promise, min_confidence : float
        The least agreement to be shown, and how sure each prediction was at least.
    generation, snapshot : int
        What made the predictions.
    at : float
        When, in seconds since the epoch.
    labeling : Labeling
        What was to be classified; under another label config the set is void.
    tasks, digests, choices : tuples of the same length
        Each task's id, the digest of its data, and the class index predicted.
    drawn : tuple of int
        The ids of the drawn tasks, in the order of the draw.
    """

    attempt: int
    promise: float
    min_confidence: float
    generation: int
    snapshot: int
    at: float
    labeling: Labeling
    tasks: tuple[int, ...]
    digests: tuple[str, ...]
    choices: tuple[int, ...]
    drawn: tuple[int, ...]

    def draws(self) -> Iterator[tuple[int, str, int]]:
        """Yield id, digest and predicted class of the drawn tasks, in the order of the draw."""
        position = {task_id: i for i, task_id in enumerate(self.tasks)}
        for task_id in self.drawn:
            yield task_id, self.digests[position[task_id]], self.choices[position[task_id]]
