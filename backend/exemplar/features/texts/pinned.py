"""Weights out of installed packages, by the digest that they had when they were measured."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Generic, TypeVar

from exemplar.errors import InputError

Model = TypeVar("Model")


def pinned_file(package: str, parts: Sequence[str], *, sha256: str) -> Path:
    """Return where a package keeps a file, without importing the package.

    Raises
    ------
    InputError
        If the package or the file is missing, or the file has another digest.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"the package {package} is not installed")
    path = Path(spec.submodule_search_locations[0]).joinpath(*parts)
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{package}: {path.name} cannot be read: {error.strerror}") from error
    if found != sha256:
        raise InputError(f"{package}: {path.name} has the SHA-256 {found}: expected {sha256}")
    return path


class Loaded(Generic[Model]):
    """A model that is loaded when it is first called for, once, whichever threads do."""

    def __init__(self, load: Callable[[], Model]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._models: list[Model] = []

    def __call__(self) -> Model:
        with self._lock:
            if not self._models:
                self._models.append(self._load())
            return self._models[0]
