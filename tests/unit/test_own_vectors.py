"""Vectors of the user's own: how they may stand in tasks and files."""

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exemplar.commands import vector_files
from exemplar.commands.vector_files import read_vectors
from exemplar.errors import InputError, SettingError
from exemplar.labelstudio.own_vectors import MAX_LENGTH, own_vector, stands_in
from exemplar.settings import Settings, for_project

X = np.float32([[1, 2], [3, 4], [5, 6]])

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6)


@settings(deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=9).filter(any))
def test_a_vector_is_the_same_however_it_is_written(numbers: list[float]) -> None:
    as_array = np.array(numbers, np.float32)
    if not as_array.any():
        return
    ways = [numbers, [numbers], [[numbers]], json.dumps(numbers), f" {json.dumps([numbers])}\n"]
    ways += [base64.b64encode(as_array.astype("<f4").tobytes()).decode()]
    found = [own_vector(way) for way in ways]
    assert len({(one.length, one.key, one.trouble) for one in found if one}) == 1
    for one in found:
        assert one is not None
        assert one.numbers is not None
        np.testing.assert_array_equal(one.numbers, as_array)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(ANYTHING, st.sampled_from(["auto", "meta", "meta.x", "data.x", "x", "", "."]))
def test_nothing_in_a_task_stops_anybody(value: Any, where: str) -> None:
    for raw in (
        {"data": value, "meta": value},
        {"data": {"x": value}, "meta": {"x": value, "embedding": value}},
        {},
    ):
        own = own_vector(stands_in(raw, where))
        assert own is None or bool(own.trouble) != bool(own.key)


def test_a_vector_that_is_too_long_says_so() -> None:
    own = own_vector([1.0] * (MAX_LENGTH + 1))
    assert own is not None
    assert own.trouble == "has 16385 numbers: expected 1 to 16384"
    longest = own_vector([1.0] * MAX_LENGTH)
    assert longest is not None
    assert longest.length == MAX_LENGTH


@pytest.mark.parametrize("deep", ["[" * 100_000, "[" * 500 + "1" + "]" * 500])
def test_a_text_of_brackets_is_no_vector(deep: str) -> None:
    own = own_vector(deep)
    assert own is not None
    assert own.trouble or own.length == 1


def test_a_field_is_looked_for_in_the_data_then_in_meta() -> None:
    raw = {"data": {"a": 1, "meta": 2, "auto": 3}, "meta": {"a": 4, "b": 5, "embedding": 6}}
    wanted = {"a": 1, "data.a": 1, "meta.a": 4, "b": 5, "meta": 2, "auto": 6, "meta.embedding": 6, "c": None}
    assert {where: stands_in(raw, where) for where in wanted} == wanted
    assert stands_in({"data": {}, "meta": [1, 2]}, "auto") == [1, 2]
    assert stands_in({"data": {}, "meta": {"embedding": None, "vector": [1]}}, "meta") == [1]


@pytest.mark.parametrize("value", ["", "  ", "$", None, 7, ["emb"]])
def test_a_field_without_a_name_is_refused(value: Any) -> None:
    with pytest.raises(SettingError, match="expected auto, off, or the name of a field"):
        for_project(Settings(), {"embedding_field": value})


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────


def read(path: Path, ids: Path | None = None, by: str = "") -> tuple[list[str], list[Any]]:
    batches = list(read_vectors(path, ids=ids, by=by))
    return [name for names, _ in batches for name in names], [one for _, vectors in batches for one in vectors]


def check(found: tuple[list[str], list[Any]], names: list[str]) -> None:
    assert found[0] == names
    np.testing.assert_array_equal(np.array(found[1]), X)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.ids.txt", b"1\n2\n3\n"),
        ("x.ids.txt", b"\xef\xbb\xbf1\r\n2\r\n3"),
        ("x_ids.json", b'[1, 2.0, "3"]'),
        ("x-ids.csv", b"1\n2\n3\n"),
        ("x.ids.csv", b'text,id\r\n"a, b",1\r\nc,2\r\nd,3\r\n'),
        ("x.ids.csv", b"task_id\n1\n2\n3\n"),
    ],
)
def test_a_npy_goes_with_the_file_of_names_beside_it(name: str, content: bytes, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    (tmp_path / name).write_bytes(content)
    check(read(tmp_path / "x.npy"), ["1", "2", "3"])
    (tmp_path / name).rename(tmp_path / f"other{Path(name).suffix}")
    check(read(tmp_path / "x.npy", tmp_path / f"other{Path(name).suffix}"), ["1", "2", "3"])


@pytest.mark.parametrize("names", [np.array([1, 2, 3]), np.array(["1", "2", "3"]), np.array([b"1", b"2", b"3"])])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f8", "f2", "i8", "u1"])
def test_names_and_numbers_of_any_type_are_read(names: np.ndarray, dtype: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X.astype(dtype))
    np.save(tmp_path / "x.ids.npy", names)
    check(read(tmp_path / "x.npy"), ["1", "2", "3"])
    np.savez_compressed(tmp_path / "x.npz", ids=names, vectors=X.astype(dtype))
    check(read(tmp_path / "x.npz"), ["1", "2", "3"])


@pytest.mark.parametrize(
    ("arrays", "by"),
    [
        ({"keys": np.array(["a", "b", "c"]), "arr_0": X}, ""),
        ({"ids": np.array(["a", "b", "c"]), "labels": np.arange(3), "embeddings": X, "umap": X[:, :1]}, ""),
        ({"url": np.array(["a", "b", "c"]), "ids": np.arange(3), "vectors": X}, "url"),
    ],
)
def test_arrays_of_a_npz_are_told_by_name_or_by_shape(arrays: dict[str, Any], by: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    check(read(tmp_path / "x.npz", by=by), ["a", "b", "c"])


def test_a_parquet_file_of_any_kind_of_lists_is_read(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for kind in (
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float32(), 2),
        pa.list_(pa.int32()),
    ):
        column = pa.array(X.astype(int if pa.types.is_integer(kind.value_type) else float).tolist(), kind)
        table = pa.table({"text": ["", "", ""], "task_id": [1, 2, 3], "emb": column})
        pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
        check(read(tmp_path / "x.parquet"), ["1", "2", "3"])
    table = pa.table({"url": ["a", "b", "c"], "id": [1, 2, 3], "tags": column, "embedding": column})
    pq.write_table(table, tmp_path / "named.bin")  # its first bytes tell what it is
    check(read(tmp_path / "named.bin", by="url"), ["a", "b", "c"])


def test_without_pyarrow_a_sentence_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1....PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'label-studio-exemplar\[parquet\]'"):
        read(tmp_path / "x.parquet")


def saved(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def bundled(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is no file of vectors: expected .npy"),
        (b"id,vector\n1,2", "is no file of vectors: expected .npy"),
        (saved(X), "x has 3 vectors, and there are 2 ids: expected one for each"),
        (saved(X[0]), r"holds float32 of shape \(2,\): expected numbers of shape"),
        (saved(X[:2, None]), r"holds float32 of shape \(2, 1, 2\)"),
        (saved(X[:2].astype(complex)), "holds complex128"),
        (saved(X[:2] > 2), "holds bool"),
        (saved(np.array([["a", "b"]] * 2)), "holds str"),
        (saved(np.array([[1], None], object), allow_pickle=True), "cannot be read: .*objects in dtype"),
        (saved(X)[:60], "cannot be read"),
        (saved(X)[:-5], "cannot be read"),
        (b"PK\x03\x04 and no more", "cannot be read"),
        (bundled(ids=[1, 2]), "has ids: expected one array of vectors, as vectors"),
        (bundled(a=X, b=X, ids=[1, 2, 3]), "has a, b, ids: expected one array of vectors"),
        (b"PAR1 and no more PAR1", "cannot be read"),
    ],
)
def test_what_is_no_file_of_vectors_is_named(content: bytes, why: str, tmp_path: Path) -> None:
    path, ids = tmp_path / "x", tmp_path / "ids.txt"
    path.write_bytes(content)
    ids.write_text("1\n2\n")
    with pytest.raises(InputError, match=why):
        read(path, ids)


def test_names_that_nobody_can_tell_are_asked_for(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(InputError, match=r"expected --ids FILE, or x\.ids\.txt"):
        read(tmp_path / "x.npy")
    (tmp_path / "i.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="has the columns a, b: expected one that is called url"):
        read(tmp_path / "x.npy", tmp_path / "i.csv", "url")
    for content in ("{", '{"a": 1}', "[[1]]", "[null]"):
        (tmp_path / "i.json").write_text(content)
        with pytest.raises(InputError, match=r"is no JSON|other things than ids"):
            read(tmp_path / "x.npy", tmp_path / "i.json")
    np.savez(tmp_path / "x.npz", X=X, a=np.arange(3), b=np.arange(3))
    with pytest.raises(InputError, match="has X, a, b: expected one array of ids, as ids"):
        read(tmp_path / "x.npz")


def test_a_bomb_of_a_npz_is_no_npz(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("vectors.npy", saved(X)[:40])
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "x.npz")


def test_batches_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_files, "AT_ONCE", 2)
    np.savez(tmp_path / "x.npz", ids=[1, 2, 3], vectors=X)
    assert [len(names) for names, _ in read_vectors(tmp_path / "x.npz", ids=None, by="")] == [2, 1]
