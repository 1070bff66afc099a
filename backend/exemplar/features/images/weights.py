"""Pretrained weights that come as a pickle: numbers are read out of it, and nothing in it is run.

A pickle can call any function. This reader knows the four names that a saved table of tensors needs, and answers
them with its own; any other name ends the reading. What is read at all is pinned by its SHA-256.
"""

import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.errors import InputError

# What PyTorch's files began with before they were zip archives: two numbers, then facts of the machine.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# Behind the pickles each storage follows: how many numbers it has, in so many bytes, then these.
LENGTH = 8


def read_tensors(data: bytes, *, sha256: str) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file that PyTorch saved, by name; they are read-only views of the data.

    Parameters
    ----------
    data : bytes
    sha256 : str
        The digest that the data must have, in hexadecimal digits.

    Raises
    ------
    InputError
        If the data has another digest, or is no table of tensors.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise InputError(f"weights have the SHA-256 {found}: expected {sha256}")
    try:
        return _tensors(data)
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"weights are no table of tensors: {error}") from error


def _tensors(data: bytes) -> dict[str, NDArray[Any]]:
    file = io.BytesIO(data)
    magic, protocol, _, tensors, keys = (_Reader(file).load() for _ in range(5))
    if (magic, protocol) != (MAGIC, PROTOCOL):
        raise InputError(f"weights begin with {magic}, {protocol}: expected {MAGIC}, {PROTOCOL}")
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    starts = {}
    for key in keys:
        length = int.from_bytes(file.read(LENGTH), "little")
        starts[key] = file.tell()
        file.seek(length * dtypes[key].itemsize, io.SEEK_CUR)
    return {name: tensor.of(data, starts[tensor.storage.key]) for name, tensor in tensors.items()}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class _Tensor:
    """Where a tensor lies in its storage, which the file holds further on."""

    storage: _Storage
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, data: bytes, start: int) -> NDArray[Any]:
        dtype = self.storage.dtype
        strides = tuple(stride * dtype.itemsize for stride in self.strides)
        return np.ndarray(self.shape, dtype, data, start + self.first * dtype.itemsize, strides)


NAMES: dict[tuple[str, str], Callable[..., Any] | np.dtype[Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda *facts: _Tensor(*facts[:4]),
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = NAMES.get((module, name))
        if known is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return known

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, *_ = pid
        return _Storage(key, dtype)
