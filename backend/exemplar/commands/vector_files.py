"""Files of vectors as people have them: .npy beside a file of ids, .npz with both, Parquet with a column of lists.

Whatever a file is called, its first bytes tell what it is. No pickle is read.
"""

import csv
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.errors import InputError

Vector = NDArray[Any]
Batch = tuple[list[str], list[Vector | None]]
"""Names of tasks, and the vector of each; None where the file has none."""

# What columns and arrays are called, where nothing else tells.
NAMES = ("id", "ids", "task_id", "task_ids", "task", "tasks")
VECTORS = ("vector", "vectors", "embedding", "embeddings")
# The file of names beside matrix.npy: matrix.ids.txt, matrix_ids.json, …
BESIDE = tuple(f"{sign}ids{suffix}" for sign in (".", "_", "-") for suffix in (".txt", ".json", ".csv", ".npy"))
AT_ONCE = 4096
NO_PARQUET = "Parquet is read by pyarrow, which is not installed: pip install 'label-studio-exemplar[parquet]'"
EXPECTED = "expected .npy with a file of ids, .npz with ids and vectors, or Parquet with a column of lists"


def read_vectors(path: Path, *, ids: Path | None, by: str) -> Iterator[Batch]:
    """Yield the vectors of a file, some at once, by the names of their tasks.

    Parameters
    ----------
    path : Path
    ids : Path, optional
        The file of names that goes with a .npy or .npz.
    by : str
        What the names are called, where they are no numbers of tasks.

    Raises
    ------
    InputError
        If nobody can tell which vectors are whose, saying what was expected.
    OSError
        If a file cannot be read.
    """
    with path.open("rb") as file:
        magic = file.read(6)
    names = (by, *NAMES) if by else NAMES
    if magic[:4] == b"PAR1":
        return _of_parquet(path, names)
    if magic[:4] == b"PK\x03\x04":
        arrays = _npz(path)
        X = _matrix(path, arrays)
        return _rows(path, X, _read_ids(ids, names) if ids else _ids_of(path, arrays, X, names))
    if magic == b"\x93NUMPY":
        X = _npy(path)
        if X.ndim != 2 or not _is_numbers(X):
            raise InputError(f"{path} holds {_shown(X)}: expected numbers of shape (n_vectors, n_features)")
        return _rows(path, X, _read_ids(ids or _beside(path), names))
    raise InputError(f"{path} is no file of vectors: {EXPECTED}")


def _rows(path: Path, X: NDArray[Any], names: list[str]) -> Iterator[Batch]:
    if len(X) != len(names):
        raise InputError(f"{path} has {len(X)} vectors, and there are {len(names)} ids: expected one for each")
    return ((names[i : i + AT_ONCE], list(X[i : i + AT_ONCE])) for i in range(0, len(X), AT_ONCE))


# -- .npy and .npz --------------------------------------------------------------------------------------------


def _npy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return array


def _npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _matrix(path: Path, arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    found = {name: array for name, array in arrays.items() if array.ndim == 2 and _is_numbers(array)}
    return found[_one_of(path, list(found), VECTORS, "array of vectors, as vectors", arrays)]


def _ids_of(path: Path, arrays: Mapping[str, NDArray[Any]], X: NDArray[Any], names: Sequence[str]) -> list[str]:
    found = {name: array for name, array in arrays.items() if array.ndim == 1 and array is not X}
    return _names(path, found[_one_of(path, list(found), names, "array of ids, as ids", arrays)].tolist())


def _one_of(path: Path, found: Sequence[str], names: Sequence[str], what: str, there: Mapping[str, Any]) -> str:
    """Return the one that is called so, or else the only one."""
    named = [name for name in names if name in found] or list(found)
    if len(named) == 1 or (named and named[0] in names):
        return named[0]
    listed = ", ".join(there)
    raise InputError(f"{path} has {listed or 'nothing'}: expected one {what}")


def _is_numbers(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "fiu"


def _shown(array: NDArray[Any]) -> str:
    return f"{array.dtype.name} of shape {array.shape}"


# -- names ----------------------------------------------------------------------------------------------------


def _beside(path: Path) -> Path:
    """Return the file of names that lies beside a .npy."""
    there = [path.with_name(f"{path.stem}{ending}") for ending in BESIDE]
    found = next((one for one in there if one.is_file()), None)
    if found is None:
        raise InputError(f"{path} says not which tasks its vectors are of: expected --ids FILE, or {there[0].name}")
    return found


def _read_ids(path: Path, names: Sequence[str]) -> list[str]:
    """Read a file of names: an array, a JSON list, a column of a CSV file, or a text with one a line."""
    if path.suffix == ".npy":
        return _names(path, _npy(path).tolist())
    content = path.read_text("utf-8-sig", errors="surrogateescape")
    if path.suffix == ".json":
        try:
            return _names(path, json.loads(content))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is no JSON: {error}") from error
    if path.suffix == ".csv":
        return _column(path, list(csv.reader(content.splitlines())), names)
    return content.splitlines()


def _column(path: Path, rows: list[list[str]], names: Sequence[str]) -> list[str]:
    header = rows[0] if rows else []
    named = [name for name in names if name in header]
    if named:
        return [row[header.index(named[0])] for row in rows[1:] if row]
    if all(len(row) <= 1 for row in rows):
        return [row[0] for row in rows if row]
    raise InputError(f"{path} has the columns {', '.join(header)}: expected one that is called {names[0]}")


def _names(path: Path, values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(one, str | bytes | int | float) for one in values):
        raise InputError(f"{path} holds other things than ids: expected a list of numbers or texts")
    return [_name(one) for one in values]


def _name(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    # What pandas makes of whole numbers among which one is missing.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


# -- Parquet --------------------------------------------------------------------------------------------------


def _of_parquet(path: Path, names: Sequence[str]) -> Iterator[Batch]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(NO_PARQUET) from error
    try:
        file = parquet.ParquetFile(path)
        lists = [field.name for field in file.schema_arrow if _is_list(pa, field.type)]
        there = dict.fromkeys(file.schema_arrow.names)
        vectors = _one_of(path, lists, VECTORS, "column of lists, as vector", there)
        others = [name for name in there if name not in lists]
        ids = _one_of(path, others, names, f"column of ids, as {names[0]}", there)
    except pa.ArrowException as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return _batches(path, file.iter_batches(AT_ONCE, columns=[ids, vectors]), ids, vectors, pa.ArrowException)


def _batches(
    path: Path, batches: Iterator[Any], ids: str, vectors: str, damaged: type[Exception]
) -> Iterator[Batch]:
    try:
        for batch in batches:
            names = ["" if one is None else _name(one) for one in batch.column(ids).to_pylist()]
            yield names, [_listed(scalar) for scalar in batch.column(vectors)]
    except (damaged, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _listed(scalar: Any) -> Vector | None:
    """Return the numbers of a list; what is null in it is NaN."""
    if scalar.values is None:
        return None
    array: NDArray[Any] = scalar.values.to_numpy(zero_copy_only=False)
    return array


def _is_list(pa: Any, kind: Any) -> bool:
    of = pa.types
    is_list = of.is_list(kind) or of.is_large_list(kind) or of.is_fixed_size_list(kind)
    return bool(is_list and (of.is_floating(kind.value_type) or of.is_integer(kind.value_type)))
