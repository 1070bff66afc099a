"""Weights out of a pickle: numbers, and nothing that runs."""

import hashlib
import io
import os
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from exemplar.errors import InputError
from exemplar.features.images.weights import MAGIC, PROTOCOL, read_tensors


class Storage:
    """Numbers that stand behind the pickles; tensors name them."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values


class Tensor:
    """A view of a storage, saved as PyTorch saves its tensors."""

    def __init__(self, storage: Storage, first: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.facts = storage, first, shape, strides, False, OrderedDict()

    def __reduce__(self) -> Any:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.facts


class Pickler(pickle.Pickler):
    def persistent_id(self, thing: object) -> Any:
        if not isinstance(thing, Storage):
            return None
        kind = "FloatStorage" if thing.values.dtype == np.float32 else "LongStorage"
        return "storage", getattr(sys.modules["torch"], kind), str(id(thing)), "cpu", thing.values.size, None


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pickles name what PyTorch's would."""
    for module, names in {
        "torch": ("FloatStorage", "LongStorage"),
        "torch._utils": ("_rebuild_tensor_v2",),
    }.items():
        there = ModuleType(module)
        for name in names:
            setattr(there, name, type(name, (), {"__module__": module, "__qualname__": name}))
        monkeypatch.setitem(sys.modules, module, there)


def saved(tensors: object, *storages: Storage, magic: int = MAGIC) -> bytes:
    file = io.BytesIO()
    for part in (magic, PROTOCOL, {"little_endian": True}, tensors, [str(id(storage)) for storage in storages]):
        Pickler(file, 2).dump(part)
    for storage in storages:
        file.write(storage.values.size.to_bytes(8, "little") + storage.values.tobytes())
    return file.getvalue()


def read(data: bytes) -> dict[str, np.ndarray]:
    return read_tensors(data, sha256=hashlib.sha256(data).hexdigest())


def test_tensors_are_read_as_they_lie_in_their_storages() -> None:
    numbers, counts = Storage(np.arange(10, dtype=np.float32)), Storage(np.array([7], np.int64))
    tensors = OrderedDict(
        turned=Tensor(numbers, 1, (2, 3), (1, 2)), row=Tensor(numbers, 7, (3,), (1,)), one=Tensor(counts, 0, (), ())
    )
    found = read(saved(tensors, counts, numbers))
    assert {name: values.tolist() for name, values in found.items()} == {
        "turned": [[1, 3, 5], [2, 4, 6]], "row": [7, 8, 9], "one": 7
    }  # fmt: skip
    assert not found["row"].flags.writeable


def test_other_weights_than_expected_are_not_even_unpickled(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"SHA-256 [0-9a-f]{64}: expected 00"):
        read_tensors(saved(_making(tmp_path / "ran")), sha256="00")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_that_would_run_something_is_refused_and_does_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it names (posix|nt)\.mkdir"):
        read(saved(_making(tmp_path / "ran")))
    assert not (tmp_path / "ran").exists()


def _making(path: Path) -> object:
    class Making:
        def __reduce__(self) -> Any:
            return os.mkdir, (path,)

    return Making()


@pytest.mark.parametrize(
    "tensors",
    [
        OrderedDict(beyond=Tensor(Storage(np.zeros(3, np.float32)), 2, (5,), (1,))),
        OrderedDict(before=Tensor(Storage(np.zeros(3, np.float32)), -100_000, (1,), (1,))),
        OrderedDict(number=3),
        [1, 2, 3],
    ],
    ids=["beyond its storage", "before it", "no tensor", "no table"],
)
def test_what_is_no_table_of_tensors_is_refused(tensors: Any) -> None:
    storages = [t.facts[0] for t in tensors.values() if isinstance(t, Tensor)] if isinstance(tensors, dict) else []
    with pytest.raises(InputError, match="no table of tensors"):
        read(saved(tensors, *storages))


def test_half_a_file_is_refused() -> None:
    numbers = Storage(np.arange(10, dtype=np.float32))
    whole = saved(OrderedDict(all=Tensor(numbers, 0, (10,), (1,))), numbers)
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        with pytest.raises(InputError, match="no table of tensors"):
            read(whole[:size])


def test_a_file_that_begins_otherwise_is_refused() -> None:
    with pytest.raises(InputError, match="weights begin with 1, 1001: expected"):
        read(saved(OrderedDict(), magic=1))
