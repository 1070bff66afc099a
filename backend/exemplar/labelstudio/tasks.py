"""Tasks and annotations as Label Studio's API gives them, reduced to what learning needs."""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from exemplar.labelstudio.label_config import Labeling, kept_of
from exemplar.labelstudio.own_vectors import OwnVector
from exemplar.labelstudio.pages import UNSHOWN
from exemplar.labelstudio.reading import by_id, integer, kind, listing, mapping, text

NO_ID = "has no id"
ODD_SKIP = "says neither true nor false to was_cancelled"

_IN_CLOUD_STORAGE = re.compile(r"(s3|gs|azure-blob|azure_spi)://\S+")


@dataclass(frozen=True)
class Annotation:
    """What was said of a task, and whether a person said it; ``result`` is as much of it as learning needs.

    ``odd`` tells why nothing in it can be used.
    """

    id: int
    by: int | None
    result: list[dict[str, Any] | None]
    cancelled: bool
    unseen: bool
    """Made from a prediction in bulk: nobody looked at it, so it is no evidence."""
    odd: str = ""


@dataclass(frozen=True)
class Task:
    """A task of the pool; ``digest`` changes with the data that we learn from, ``value`` is what it shows of that.

    ``trouble`` tells why there is no value; ``own`` is a vector of the user's own.
    """

    id: int
    digest: str
    value: str | None
    annotations: tuple[Annotation, ...]
    created_at: str = ""
    trouble: str = field(default="", compare=False)
    own: OwnVector | None = None

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

    def not_used(self, labeling: Labeling) -> list[str]:
        """Return for each answer that is not used, or not all of it, why."""
        reasons = (a.odd or labeling.not_used(a.result) for a in self._evidence())
        return [reason for reason in reasons if reason]

    def _said(self, labeling: Labeling) -> list[int]:
        """Return the classes that annotators gave, the latest last."""
        return [c for c in (labeling.class_index(a.result) for a in self._evidence() if not a.odd) if c >= 0]

    def _evidence(self) -> list[Annotation]:
        return [a for a in self.annotations if not a.cancelled and not a.unseen]


def not_used(tasks: Iterable[Task], labeling: Labeling) -> dict[str, list[int]]:
    """Return by reason the tasks of the answers that are not used, one entry an answer."""
    found: dict[str, list[int]] = {}
    for task in tasks:
        for reason in task.not_used(labeling) if task.annotations else ():
            found.setdefault(reason, []).append(task.id)
    return found


def read_task(raw: Mapping[str, Any], field: str, known: Task | None, own: OwnVector | None = None) -> Task:
    """Read a task of the API, which has an id; ``known`` is what we knew of it before, ``own`` its own vector."""
    if UNSHOWN in raw and known is not None:
        return known
    value, trouble = _read_value(raw, field)
    value = _as_listed(value, raw["id"])
    unseen_before = {a.id for a in known.annotations if a.unseen} if known else set()
    return Task(
        id=raw["id"],
        digest=_digest(value or "", own.key if own else ""),
        value=value,
        annotations=tuple(_read_annotations(raw.get("annotations"), unseen_before)),
        created_at=text(raw.get("created_at")) or "",
        trouble=trouble,
        own=own,
    )


def _digest(value: str, own: str) -> str:
    content = f"{value}\0{own}" if own else value
    return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()


def _read_value(raw: Mapping[str, Any], field: str) -> tuple[str | None, str]:
    """Return what stands in a field of a task's data, and why nothing does."""
    if UNSHOWN in raw:
        return None, "Label Studio itself fails to show it (500): its data or an annotation holds half a character"
    data = raw.get("data")
    if not isinstance(data, dict):
        return None, f"its data is {kind(data)}: expected an object with {field!r}"
    if data.get(field) in (None, ""):
        return data.get(field), f"has no {field!r}"
    value = text(data[field])
    return value, "" if value is not None else f"its {field!r} is {kind(data[field])}: expected a text"


def _as_listed(value: str | None, task_id: int) -> str | None:
    """Return a file in cloud storage by Label Studio's own address for it, without a host.

    In lists of tasks Label Studio shows it so, behind the address that it gives itself; to /predict it sends what
    stands in the task (tasks/models.py, io_storages/base_models.py).
    """
    if value is None:
        return None
    route = f"/tasks/{task_id}/resolve/?fileuri="
    if _IN_CLOUD_STORAGE.fullmatch(value):
        return route + base64.urlsafe_b64encode(value.encode()).decode()
    return route + value.partition(route)[2] if value.startswith("http") and route in value else value


def _read_annotations(raw: Any, unseen_before: set[int]) -> list[Annotation]:
    """Return a task's annotations by rising id; those without an id count as annotations that say nothing."""
    good = [_read_annotation(annotation, unseen_before) for annotation in by_id(raw)]
    without = [one for one in listing(raw) if integer(mapping(one).get("id")) is None]
    odd = [Annotation(0, None, [], cancelled=False, unseen=False, odd=NO_ID) for _ in without]
    return odd + sorted(good, key=lambda annotation: annotation.id)


def _read_annotation(raw: Mapping[str, Any], unseen_before: set[int]) -> Annotation:
    # Accepted in bulk: from a prediction, in no time. Label Studio forgets the prediction when that is
    # deleted, hence the verdict stands once it was given, until a person saves the annotation (which sets
    # a lead time).
    in_no_time = raw.get("lead_time") is None
    from_prediction = raw.get("parent_prediction") is not None or raw["id"] in unseen_before
    by, cancelled = raw.get("completed_by"), raw.get("was_cancelled")
    return Annotation(
        id=raw["id"],
        by=integer(by["id"] if isinstance(by, dict) and "id" in by else by),
        result=kept_of(raw.get("result")),
        cancelled=cancelled is True,
        unseen=in_no_time and from_prediction,
        odd="" if cancelled is None or isinstance(cancelled, bool) else ODD_SKIP,
    )
