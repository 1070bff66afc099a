"""What stands in our JSON files, written and read back: the one place that tells damage from another version.

A record is a dataclass. Fields that it does not know are ignored (a newer version was here), missing ones take
their defaults. What is missing without a default, of a wrong type, or other than its checksum says, is damaged.
The checksum names the fields that it covers, so that a field which another version adds does no harm.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter

T = TypeVar("T")

CHECKED = "checked"


class DamagedError(ValueError):
    """A file does not say what was written into it."""


def encode(record: Any) -> bytes:
    """Return a record as JSON with its checksum."""
    fields = asdict(record)
    names = list(fields)
    checked = {"fields": names, "sha256": _checksum(fields, names)}
    return orjson.dumps(fields | {CHECKED: checked}, option=orjson.OPT_NON_STR_KEYS)


def decode(kind: type[T], content: bytes) -> T:
    """Return what JSON says, of that kind.

    Raises
    ------
    DamagedError
        If it is no JSON, has wrong types, misses what has no default, or its checksum is wrong.
    """
    try:
        raw = orjson.loads(content)
        if isinstance(raw, dict) and CHECKED in raw:
            _check(raw)
        hashable: Any = kind
        adapter: TypeAdapter[T] = _adapter(hashable)
        return adapter.validate_json(content, strict=True)
    except DamagedError:
        raise
    except ValueError as error:  # of orjson and of pydantic
        raise DamagedError(" ".join(str(error).split())[:300]) from error


def _check(raw: Mapping[str, Any]) -> None:
    try:
        names, expected = raw[CHECKED]["fields"], raw[CHECKED]["sha256"]
        found = _checksum(raw, names)
    except (KeyError, TypeError) as error:
        raise DamagedError(f"{error!r} is missing or wrong") from error
    if found != expected:
        raise DamagedError(f"the checksum of its content is {found}, expected {expected}")


def _checksum(fields: Mapping[Any, Any], names: Sequence[str]) -> str:
    values = [(name, fields[name]) for name in names]
    return hashlib.sha256(orjson.dumps(values, option=orjson.OPT_NON_STR_KEYS)).hexdigest()[:32]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
