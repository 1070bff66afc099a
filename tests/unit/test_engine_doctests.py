"""The examples in the engine's docstrings hold."""

import doctest
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

from exemplar import engine

MODULES = [
    importlib.import_module(found.name) for found in pkgutil.walk_packages(engine.__path__, "exemplar.engine.")
]


def public_functions(module: ModuleType) -> list[str]:
    functions = inspect.getmembers(module, inspect.isfunction)
    return [name for name, f in functions if f.__module__ == module.__name__ and not name.startswith("_")]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_no_example_is_wrong(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("module", [*filter(public_functions, MODULES)], ids=lambda module: module.__name__)
def test_a_module_with_public_functions_has_examples(module: ModuleType) -> None:
    assert doctest.testmod(module).attempted > 0
