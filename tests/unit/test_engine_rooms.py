"""The engine's rooms have faces; that imports keep to them, and point down only, ``make check`` holds."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

from exemplar import engine

ROOMS = [
    importlib.import_module(found.name)
    for found in pkgutil.iter_modules(engine.__path__, "exemplar.engine.")
    if found.ispkg
]


@pytest.mark.parametrize("face", [engine, *ROOMS], ids=lambda face: face.__name__)
def test_a_face_names_all_that_it_shows(face: ModuleType) -> None:
    shown = {name for name, value in vars(face).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert shown == set(face.__all__)
    assert len(face.__all__) == len(shown)


def test_the_rooms_are_those_of_the_design() -> None:
    names = {room.__name__.rpartition(".")[2] for room in ROOMS}
    assert names == {"neighbors", "clustering", "propagation", "query", "evidence"}
