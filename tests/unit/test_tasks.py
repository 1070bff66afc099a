"""Tasks and annotations as Label Studio gives them."""

from typing import Any

import pytest

from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.tasks import Task, read_task

LABELING = Labeling("animal", "img", "picture", "image", ("cat", "dog", "cow"))
CAT, DOG, COW = 0, 1, 2


def annotation(id_: int, class_index: int, **changes: Any) -> dict[str, Any]:
    said = {"id": id_, "completed_by": 1, "result": LABELING.result(class_index), "was_cancelled": False}
    return said | {"lead_time": 1.5, "parent_prediction": None} | changes


def in_bulk(id_: int, class_index: int, **changes: Any) -> dict[str, Any]:
    """A prediction that became an annotation without anybody looking at it."""
    return annotation(id_, class_index, lead_time=None, parent_prediction=77) | changes


def task(*annotations: dict[str, Any], known: Task | None = None, **data: Any) -> Task:
    return read_task({"id": 1, "data": data or {"picture": "a.png"}, "annotations": annotations}, "picture", known)


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ([], -1),
        ([DOG], DOG),
        ([CAT, DOG, CAT], CAT),
        ([CAT, CAT, DOG], CAT),
        ([CAT, DOG], DOG),
        ([DOG, CAT], CAT),
        ([CAT, CAT, DOG, DOG, COW], DOG),
        ([DOG, CAT, CAT, DOG, COW], DOG),
        ([CAT, -1], CAT),
        ([-1, -1, CAT], CAT),
        ([-1], -1),
    ],
)
def test_the_majority_decides_and_on_a_tie_the_latest_of_these(said: list[int], answer: int) -> None:
    assert task(*(annotation(i, c) for i, c in enumerate(said))).answer(LABELING) == answer


def test_the_latest_is_the_highest_id_wherever_it_stands() -> None:
    assert task(annotation(9, DOG), annotation(3, CAT)).answer(LABELING) == DOG


def test_what_was_cancelled_is_no_vote() -> None:
    votes = [annotation(1, CAT), annotation(2, DOG, was_cancelled=True), annotation(3, DOG, was_cancelled=True)]
    assert task(*votes).answer(LABELING) == CAT


def test_missing_annotations_are_none() -> None:
    assert read_task({"id": 1, "data": {}}, "picture", None).annotations == ()


@pytest.mark.parametrize("by", [7, {"id": 7, "email": "a@b.c"}, None])
def test_who_said_it_is_read_in_both_shapes(by: Any) -> None:
    (read,) = task(annotation(1, CAT, completed_by=by)).annotations
    assert read.by == (by and 7)


# ── Skipped ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("annotations", "passed_over"),
    [
        ([], False),
        ([annotation(1, -1, was_cancelled=True)], True),
        ([annotation(1, -1, was_cancelled=True), annotation(2, CAT)], False),
        ([annotation(1, CAT), annotation(2, -1, was_cancelled=True)], False),
        ([annotation(1, -1, was_cancelled=True), in_bulk(2, CAT)], True),
        ([in_bulk(1, CAT)], True),
        ([annotation(1, -1)], True),
    ],
    ids=["new", "skipped", "then answered", "before skipped", "then accepted in bulk", "only in bulk", "empty"],
)
def test_passed_over_is_what_was_annotated_and_not_answered(annotations: list[Any], passed_over: bool) -> None:
    assert task(*annotations).is_passed_over(LABELING) is passed_over


# ── Accepted in bulk ─────────────────────────────────────────────────────────────────────────────────────


def test_accepted_in_bulk_is_no_evidence() -> None:
    assert task(in_bulk(1, CAT)).answer(LABELING) == -1


def test_accepted_in_bulk_never_outvotes_a_person() -> None:
    assert task(annotation(1, DOG), in_bulk(2, CAT), in_bulk(3, CAT)).answer(LABELING) == DOG


def test_a_person_who_submits_our_prediction_is_evidence() -> None:
    assert task(annotation(1, CAT, parent_prediction=77)).answer(LABELING) == CAT


def test_an_annotation_from_elsewhere_without_lead_time_is_evidence() -> None:
    assert task(annotation(1, CAT, lead_time=None)).answer(LABELING) == CAT


def test_a_lead_time_of_zero_is_a_lead_time() -> None:
    assert task(in_bulk(1, CAT, lead_time=0.0)).answer(LABELING) == CAT


def test_the_verdict_stays_when_label_studio_forgets_the_prediction() -> None:
    before = task(in_bulk(1, CAT))
    forgotten = task(in_bulk(1, CAT, parent_prediction=None), known=before)
    assert forgotten.answer(LABELING) == -1
    assert task(in_bulk(1, CAT, parent_prediction=None), known=forgotten).answer(LABELING) == -1


def test_the_verdict_is_of_that_annotation_alone() -> None:
    before = task(in_bulk(1, CAT))
    assert task(annotation(2, DOG, lead_time=None), known=before).answer(LABELING) == DOG


def test_an_edit_by_a_person_makes_it_evidence_for_good() -> None:
    before = task(in_bulk(1, CAT))
    edited = task(in_bulk(1, DOG, lead_time=4.2), known=before)
    assert edited.answer(LABELING) == DOG
    assert task(in_bulk(1, DOG, lead_time=4.2, parent_prediction=None), known=edited).answer(LABELING) == DOG


# ── Data ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_change_of_the_data_changes_the_digest() -> None:
    assert task(picture="a.png").digest != task(picture="b.png").digest


def test_nothing_else_changes_the_digest() -> None:
    assert task(picture="a.png").digest == task(annotation(1, CAT), picture="a.png", note="new").digest


@pytest.mark.parametrize(("data", "value"), [("a.png", "a.png"), (5, "5"), (None, None), ("", "")])
def test_the_value_is_a_text_or_nothing(data: Any, value: str | None) -> None:
    assert task(picture=data).value == value


def test_data_without_our_field_has_no_value() -> None:
    assert task(caption="a cat").value is None


def test_half_a_character_in_the_data_is_no_reason_to_fail() -> None:
    assert task(picture="\ud83d").id == 1  # what is left of an emoji that was cut in two; JSON can carry it
