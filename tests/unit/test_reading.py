"""Whatever comes from Label Studio is read as what is expected, or as nothing; no JSON raises anything but ours."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exemplar.errors import InputError, LabelStudioDownError, LabelStudioError
from exemplar.labelstudio import reading
from exemplar.labelstudio.label_config import Labeling, kept_of
from exemplar.labelstudio.pages import MAX_UNSHOWN, UNSHOWN, read_page, read_pages
from exemplar.labelstudio.tasks import Task, not_used, read_task
from exemplar.model import project_key

LABELING = Labeling("animal", "img", "picture", "image", ("cat", "dog"))
texts = st.text(st.characters(exclude_categories=()), max_size=6)  # halves of characters as well
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(texts, inside, max_size=3),
    max_leaves=12,
)
regions = st.fixed_dictionaries(
    {},
    optional={
        "from_name": json_values | st.just("animal"),
        "type": json_values | st.just("choices"),
        "value": json_values
        | st.fixed_dictionaries({}, optional={"choices": json_values | st.lists(st.sampled_from(["cat", "elk"]))}),
    },
)


# ── One value ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "read"),
    [
        *[
            (7, 7),
            ("7", 7),
            (-1, -1),
            (2**63 - 1, 2**63 - 1),
            (2**63, None),
            (True, None),
            (1.0, None),
            ("²", None),
        ],
        *[
            ("-7", None),
            ("", None),
            ("9" * 5000, None),
            (None, None),
            ([7], None),
            ({}, None),
            (float("nan"), None),
        ],
    ],
    ids=range(15),
)
def test_an_integer(value: Any, read: int | None) -> None:
    assert reading.integer(value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [(0.5, 0.5), (1, 1.0), (10**400, None), (float("nan"), None), (float("inf"), None), (True, None), ("1", None)],
)
def test_a_number(value: Any, read: float | None) -> None:
    assert reading.number(value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        *[("a", "a"), (5, "5"), (0.5, "0.5"), ("\ud83d", "?"), ("a\0b", "a\0b"), (True, None), (None, None)],
        *[([], None), ({}, None), (10**5000, None)],
    ],
    ids=range(10),
)
def test_a_text(value: Any, read: str | None) -> None:
    assert reading.text(value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("2026-11-25T10:00:00.000000Z", datetime(2026, 11, 25, 10, tzinfo=UTC)),
        ("2026-11-25T10:00:00Z", datetime(2026, 11, 25, 10, tzinfo=UTC)),
        ("2026-11-25T10:00:00", datetime(2026, 11, 25, 10, tzinfo=UTC)),
        ("2026-11-25T10:00:00+02:00", datetime(2026, 11, 25, 8, tzinfo=UTC)),
        ("9999-12-31T23:59:59-10:00", None),
        ("0001-01-01T00:00:00+10:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1795417266, None),
    ],
)
def test_a_moment(value: Any, read: datetime | None) -> None:
    assert reading.moment(value) == read


def test_json_with_half_a_character_or_a_huge_number_is_parsed() -> None:
    assert reading.parse(b'{"a": "\\ud800"}') == {"a": "\ud800"}
    assert reading.parse(b'{"a": ' + b"9" * 300 + b"}")["a"] > 10**290


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff", b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_what_is_no_json_that_anybody_can_read_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        reading.parse(content)


# ── Anything ─────────────────────────────────────────────────────────────────────────────────────────────


@given(json_values)
def test_no_answer_raises_anything_but_our_own_error(raw: Any) -> None:
    for read in (reading.read_project, reading.read_page, reading.read_user, reading.read_projects):
        try:
            read(raw)
        except LabelStudioError as error:
            str(error).encode()
    for read in (reading.read_predictions, reading.read_counts, reading.read_backends, reading.read_webhooks):
        read(raw)
    with suppress(InputError):
        project_key(reading.mapping(raw))


@given(raw=st.dictionaries(texts, json_values, max_size=3), data=json_values, annotations=json_values)
def test_no_task_raises_anything_and_what_is_read_can_be_kept(raw: Any, data: Any, annotations: Any) -> None:
    task = read_task(raw | {"id": 1, "data": data, "annotations": annotations}, "picture", None)
    assert (task.value is None) == bool(task.trouble) or task.value == ""
    (task.value or "").encode()
    task.created_at.encode()
    assert -1 <= task.answer(LABELING) < 2
    assert sum(task.votes(LABELING)) <= len(task.annotations)


@given(result=json_values | st.lists(json_values | regions, max_size=3))
def test_no_result_raises_anything_and_what_is_kept_says_the_same(result: Any) -> None:
    kept = kept_of(result)
    json.dumps(kept, ensure_ascii=False).encode()
    index, why = LABELING.class_index(kept), LABELING.not_used(kept)
    assert index in (-1, 0, 1)
    assert index >= 0 or why or not _mentions_us(kept)
    if isinstance(result, list) and all(isinstance(one, dict) for one in result):
        assert index == LABELING.class_index(result)


def _mentions_us(kept: list[Any]) -> bool:
    return any(region["from_name"] == "animal" and region["value"]["choices"] for region in kept)


@given(st.lists(st.lists(regions, max_size=2), max_size=4))
def test_every_answer_counts_or_is_named(results: list[Any]) -> None:
    annotations = [{"id": i, "result": result, "lead_time": 1.0} for i, result in enumerate(results)]
    task = read_task({"id": 3, "data": {"picture": "a"}, "annotations": annotations}, "picture", None)
    named = sum(len(tasks) for tasks in not_used([task], LABELING).values())
    says_nothing = sum(
        1 for a in task.annotations if LABELING.class_index(a.result) < 0 and not LABELING.not_used(a.result)
    )
    assert sum(task.votes(LABELING)) + named + says_nothing >= len(results)


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────


class Pages:
    """A task list that cannot show some tasks; counts how it is asked."""

    def __init__(self, n: int, unshown: set[int]) -> None:
        self.n, self.unshown, self.n_asked = n, unshown, 0

    def __call__(self, params: dict[str, Any], patience: float | None = None) -> Any:
        self.n_asked += 1
        start = (params["page"] - 1) * params["page_size"]
        ids = range(start + 1, min(start + params["page_size"], self.n) + 1)
        if start and not ids:
            raise LabelStudioError("Invalid page.", status_code=404)
        if self.unshown & set(ids) and params["include"] != "id":
            raise LabelStudioDownError("500", status_code=500)
        return {"tasks": [{"id": i} for i in ids], "total": self.n}


PARAMS = {"project": 1, "include": "id,data"}


@pytest.mark.parametrize(
    ("n", "unshown"),
    [(7, {3}), (499, {499}), (500, {1}), (501, {501}), (1203, {5, 499, 500, 501, 1203}), (20, set())],
)
def test_only_what_cannot_be_shown_is_not_shown(n: int, unshown: set[int]) -> None:
    pages = Pages(n, unshown)
    tasks = read_pages(pages, PARAMS)
    assert [task["id"] for task in tasks] == list(range(1, n + 1))
    assert {task["id"] for task in tasks if UNSHOWN in task} == unshown
    assert pages.n_asked <= n // 500 + 1 + 30 * len(unshown)


@pytest.mark.parametrize("page_size", [7, 40, 500])
def test_pages_of_any_size_are_read_around(page_size: int) -> None:
    tasks, n_none, total = read_page(Pages(95, {2}), PARAMS | {"page": 1, "page_size": page_size})
    assert (n_none, total) == (0, 95)
    assert [task["id"] for task in tasks if UNSHOWN in task] == [2]


def test_more_than_some_are_label_studios_failure() -> None:
    with pytest.raises(LabelStudioDownError):
        read_pages(Pages(500, set(range(1, MAX_UNSHOWN + 2))), PARAMS)
    with pytest.raises(LabelStudioDownError):
        read_pages(Pages(20, set(range(1, 21))), PARAMS)


def test_what_label_studio_fails_to_show_stays_as_it_was_known() -> None:
    known = Task(3, "digest", "a.png", ())
    assert read_task({"id": 3, UNSHOWN: True}, "picture", known) is known
    assert read_task({"id": 3, UNSHOWN: True}, "picture", None).trouble.startswith("Label Studio itself fails")
