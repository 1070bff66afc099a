"""Vectors of the user's own, as they may stand in a task or a file: how they are read, and which can be used.

In a task a vector is a list of numbers, the text of such a list (what becomes of it in a CSV file), or base64 of
little-endian float32. The SDK of Label Studio calls ``task.meta`` the place for them, and names no key.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.errors import TaskDataError
from exemplar.labelstudio.reading import kind, mapping, parse

AUTO, OFF = "auto", "off"
META, DATA = "meta", "data"
# What they are called in ``meta`` where nobody says so.
IN_META = ("embedding", "embeddings", "vector", "vectors")
# More is a picture or a mistake; the largest text encoders make 12 288.
MAX_LENGTH = 16_384
# Numbers beyond are no vector's: their squares are no float32 any more.
LARGEST = 1e18
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class OwnVector:
    """A vector of the user's own: how long it is, the key (in hex) that it is kept by, or what is wrong with it.

    ``numbers`` are there as long as it is not kept.
    """

    length: int = 0
    key: str = ""
    trouble: str = ""
    numbers: Vector | None = field(default=None, compare=False, repr=False)


def own_vector(value: Any) -> OwnVector | None:
    """Return what is to be known of a vector, whatever stands where it should; None where nothing does."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        numbers = check_vector(value if isinstance(value, np.ndarray) else read_vector(value))
    except TaskDataError as error:
        return OwnVector(trouble=str(error))
    key = hashlib.blake2b(numbers.tobytes(), digest_size=16).hexdigest()
    return OwnVector(len(numbers), key, numbers=numbers)


def stands_in(raw: Mapping[str, Any], where: str) -> Any:
    """Return what stands in a field of a task's data, or else of its ``meta``; of ``auto``, in ``meta`` alone."""
    data, meta = mapping(raw.get(DATA)), raw.get(META)
    if where != AUTO and where in data:
        return data[where]
    if where in (AUTO, META):
        return meta if isinstance(meta, list) and meta else _first(mapping(meta))
    place, _, name = where.partition(".")
    if name and place in (DATA, META):
        return (data if place == DATA else mapping(meta)).get(name)
    return mapping(meta).get(where)


def _first(meta: Mapping[str, Any]) -> Any:
    return next((meta[name] for name in IN_META if meta.get(name) is not None), None)


def read_vector(value: Any) -> Vector:
    """Read numbers, whatever they are.

    Raises
    ------
    TaskDataError
        If these are none, as the end of a sentence: "is …".

    >>> read_vector("[0.5, 2]"), read_vector("AAAAPwAAAEA=")
    (array([0.5, 2. ], dtype=float32), array([0.5, 2. ], dtype=float32))
    """
    if isinstance(value, str):
        value = value.strip()
        if not value.startswith("["):
            return _from_base64(value)
        try:
            value = parse(value.encode("utf-8", "replace"))
        except ValueError as error:
            raise TaskDataError("is a text that begins as a list and is no JSON") from error
    while (
        isinstance(value, list) and len(value) == 1 and isinstance(value[0], list)
    ):  # what encoding one text gives
        value = value[0]
    if not isinstance(value, list):
        raise TaskDataError(f"is {kind(value)}: expected a list of numbers, or base64 of float32")
    odd = set(map(type, value)) - {int, float}
    if odd:
        place = next(i for i, number in enumerate(value) if type(number) in odd)
        raise TaskDataError(f"holds {kind(value[place])} at place {place}: expected numbers alone")
    try:
        return _as_float32(np.array(value, np.float64))
    except OverflowError as error:  # an integer beyond every float
        raise TaskDataError("holds a number too large for a vector") from error


def _from_base64(text: str) -> Vector:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise TaskDataError("is a text: expected a list of numbers, or base64 of float32") from error
    if len(content) % 4:
        raise TaskDataError(f"is base64 of {len(content)} bytes: expected four for each number")
    return np.frombuffer(content, "<f4").astype(np.float32)


def _as_float32(numbers: NDArray[Any]) -> Vector:
    with np.errstate(over="ignore"):
        return np.asarray(numbers, np.float32)


def check_vector(numbers: NDArray[Any]) -> Vector:
    """Return a vector as float32, if it can be used.

    Raises
    ------
    TaskDataError
        If not, as the end of a sentence: "has …".
    """
    if not 1 <= len(numbers) <= MAX_LENGTH:
        raise TaskDataError(f"has {len(numbers)} numbers: expected 1 to {MAX_LENGTH}")
    numbers = _as_float32(numbers)
    if not np.isfinite(numbers).all():
        place = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise TaskDataError(f"has {numbers[place]} at place {place}: expected numbers")
    if np.abs(numbers).max() >= LARGEST:
        raise TaskDataError(f"has {np.abs(numbers).max():g} in it: expected numbers below {LARGEST:g}")
    if not numbers.any():
        raise TaskDataError("is all zeros, which points nowhere")
    return numbers
