"""Tasks and annotations as Label Studio's API gives them, reduced to what learning needs."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from exemplar.labelstudio.label_config import Labeling


@dataclass(frozen=True)
class Annotation:
    """What was said of a task, and whether a person said it."""

    id: int
    by: int | None
    result: list[dict[str, Any]]
    cancelled: bool
    unseen: bool
    """Made from a prediction in bulk: nobody looked at it, so it is no evidence."""


@dataclass(frozen=True)
class Task:
    """A task of the pool; ``digest`` changes with the data that we learn from, ``value`` is that data."""

    id: int
    digest: str
    value: str | None
    annotations: tuple[Annotation, ...]
    created_at: str = ""

    def is_passed_over(self, labeling: Labeling) -> bool:
        """Whether it was annotated without an answer: skipped, left empty, accepted in bulk.

        Label Studio does not ask such a task first again, so nor do we.
        """
        return bool(self.annotations) and self.answer(labeling) < 0

    def answer(self, labeling: Labeling) -> int:
        """Return the class index that most annotators gave; on a tie, the latest of these; -1 for none."""
        said = self._said(labeling)
        if not said:
            return -1
        votes = Counter(said)
        most = max(votes.values())
        return next(class_index for class_index in reversed(said) if votes[class_index] == most)

    def votes(self, labeling: Labeling) -> list[int]:
        """Return how many annotators gave each class."""
        counts = [0] * len(labeling.classes)
        for class_index in self._said(labeling):
            counts[class_index] += 1
        return counts

    def _said(self, labeling: Labeling) -> list[int]:
        """Return the classes that annotators gave, the latest last."""
        evidence = [a for a in self.annotations if not a.cancelled and not a.unseen]
        return [c for c in (labeling.class_index(annotation.result) for annotation in evidence) if c >= 0]


def read_task(raw: Mapping[str, Any], field: str, known: Task | None) -> Task:
    """Read a task of the API; ``known`` is what we knew of it before."""
    value = raw["data"].get(field)
    if value is not None:
        # Half of a surrogate pair is valid JSON and no valid text.
        value = str(value).encode("utf-8", "replace").decode()
    unseen_before = {a.id for a in known.annotations if a.unseen} if known else set()
    annotations = sorted(raw.get("annotations") or (), key=lambda annotation: annotation["id"])
    return Task(
        id=raw["id"],
        digest=hashlib.blake2b((value or "").encode(), digest_size=12).hexdigest(),
        value=value,
        annotations=tuple(_read_annotation(annotation, unseen_before) for annotation in annotations),
        created_at=raw.get("created_at") or "",
    )


def _read_annotation(raw: Mapping[str, Any], unseen_before: set[int]) -> Annotation:
    # Accepted in bulk: from a prediction, in no time. Label Studio forgets the prediction when that is
    # deleted, hence the verdict stands once it was given, until a person saves the annotation (which sets
    # a lead time).
    in_no_time = raw.get("lead_time") is None
    from_prediction = raw.get("parent_prediction") is not None or raw["id"] in unseen_before
    by = raw.get("completed_by")
    return Annotation(
        id=raw["id"],
        by=by["id"] if isinstance(by, dict) else by,
        result=raw.get("result") or [],
        cancelled=bool(raw.get("was_cancelled")),
        unseen=in_no_time and from_prediction,
    )
