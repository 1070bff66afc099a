"""What comes from Label Studio, read so that nothing in it can stop a project.

Its API takes nearly any JSON and gives it back: numbers, null or text where lists belong, ids of users that are
gone. Whoever reads its answers does so by these functions, which return a value of the kind that is expected, or
nothing; what a value means is said where it is used.
"""

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson

from exemplar.errors import LabelStudioError

Json = dict[str, Any]

# What numpy's int64 and a database's bigint hold.
_LARGEST = 2**63 - 1


def parse(content: bytes) -> Any:
    """Return what some JSON says, also where it holds half a character or numbers of any length.

    Raises
    ------
    ValueError
        If it is no JSON, or too deep for anybody to read.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        try:  # the standard library takes half a surrogate pair, which orjson refuses
            return json.loads(content)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def integer(value: Any) -> int | None:
    """Return an id or a count; text of digits is one, true and 1.5 are none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    is_one = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST
    return value if is_one else None


def number(value: Any) -> float | None:
    """Return a finite number; text, true and NaN are none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond every float
        return None


def text(value: Any) -> str | None:
    """Return a text, or a number as one; half a character becomes a question mark, as no file can hold it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return str(value).encode("utf-8", "replace").decode()
    except ValueError:  # more digits than Python writes
        return None


def mapping(value: Any) -> Json:
    """Return an object; empty for what is none."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """Return a list; empty for what is none."""
    return list(value) if isinstance(value, list | tuple) else []


def moment(value: Any) -> datetime | None:
    """Return an ISO time; one without a zone is in UTC."""
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def kind(value: Any) -> str:
    """Return what a value is called in JSON."""
    kinds: dict[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else kinds.get(type(value), "a number")


# -- Label Studio's things ----------------------------------------------------------------------------------


def by_id(raw: Any) -> list[Json]:
    """Return the objects of a list that have an id, as a number; the last of those with the same one."""
    found = {}
    for one in map(mapping, listing(raw)):
        id_ = integer(one.get("id"))
        if id_ is not None:
            found[id_] = one | {"id": id_}
    return list(found.values())


def read_project(raw: Any) -> Json:
    """Return a project's facts, each of its kind, and ``created`` in seconds since the epoch.

    ``task_number`` is -1 if it is not told.

    Raises
    ------
    LabelStudioError
        If it has no id, or no time of creation: nobody can tell which project it is.
    """
    facts = mapping(raw)
    id_, created = integer(facts.get("id")), moment(facts.get("created_at"))
    if id_ is None or created is None:
        there = f"id={_short(facts.get('id'))} and created_at={_short(facts.get('created_at'))}"
        raise LabelStudioError(
            f"A project with {there}: expected a number and a time; is LABEL_STUDIO_URL Label Studio's address?"
        )
    return {
        "id": id_,
        "created": int(created.timestamp()),
        "title": text(facts.get("title")) or "",
        "label_config": text(facts.get("label_config")) or "",
        "task_number": _count(facts.get("task_number")),
        "model_version": text(facts.get("model_version")) or "",
        "sampling": text(facts.get("sampling")),
        "show_collab_predictions": facts.get("show_collab_predictions", True) is not False,
        "organization": integer(facts.get("organization")),
    }


def read_user(raw: Any) -> Json:
    """Return the key's user: ``email``, and ``organization``, None if he is in none.

    Raises
    ------
    LabelStudioError
        If it is no user.
    """
    user = mapping(raw)
    if integer(user.get("id")) is None:
        raise LabelStudioError(f"Label Studio answered who we are with {kind(raw)}: expected a user with an id")
    return {"email": text(user.get("email")) or "", "organization": integer(user.get("active_organization"))}


def read_projects(raw: Any) -> list[Json]:
    """Return the facts of a page of projects, without those that nobody can tell apart.

    Raises
    ------
    LabelStudioError
        If it is no page of projects.
    """
    found = []
    results = mapping(raw).get("results")
    if not isinstance(results, list):
        raise LabelStudioError(f"Label Studio answered a page of projects with {kind(results)}: expected a list")
    for one in results:
        with suppress(LabelStudioError):
            found.append(read_project(one))
    return found


def _count(value: Any) -> int:
    found = integer(value)
    return -1 if found is None else found


def read_page(raw: Any) -> tuple[list[Json], int, int]:
    """Return the tasks of a page, how many of its entries are none (without an id, or twice), and all pages' total.

    Raises
    ------
    LabelStudioError
        If it is no page of tasks: nobody can tell whether all were read.
    """
    page = mapping(raw)
    total = integer(page.get("total"))
    if total is None or not isinstance(page.get("tasks"), list):
        raise LabelStudioError(
            f"A page of tasks with total={_short(page.get('total'))} and {kind(page.get('tasks'))} of tasks: "
            "expected a number and a list; is LABEL_STUDIO_URL Label Studio's address?"
        )
    tasks = by_id(page["tasks"])
    return tasks, len(page["tasks"]) - len(tasks), total


def read_predictions(raw: Any) -> list[Json]:
    """Return the predictions that belong to a task; a name is a text and a score a number or None."""
    return [
        {
            **prediction,
            "task": task,
            "model_version": text(prediction.get("model_version")) or "",
            "score": number(prediction.get("score")),
            "result": prediction.get("result"),
        }
        for prediction in by_id(raw)
        if (task := integer(prediction.get("task"))) is not None
    ]


def read_counts(raw: Any) -> dict[str, int]:
    """Return how many predictions stand under each name."""
    return {name: n for name, found in mapping(raw).items() if (n := integer(found)) is not None}


def read_backends(raw: Any) -> list[Json]:
    """Return model connections: address, title and the version that they answered last, all texts."""
    return [one | _texts(one, ("url", "title", "model_version")) for one in by_id(raw)]


def read_webhooks(raw: Any) -> list[Json]:
    """Return webhooks: their address, headers, and whether they are on."""
    found = [one | _texts(one, ("url",)) for one in by_id(raw)]
    return [
        one | {"headers": mapping(one.get("headers")), "is_active": bool(one.get("is_active"))} for one in found
    ]


def _texts(one: Json, names: Iterable[str]) -> dict[str, str]:
    return {name: text(one.get(name)) or "" for name in names}


def _short(value: Any) -> str:
    shown = repr(value) if not isinstance(value, dict | list) else kind(value)
    return shown if len(shown) <= 60 else shown[:59] + "…"
