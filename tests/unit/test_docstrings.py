"""Everything public has a docstring: each module, class, function and method, and each route of the server."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import exemplar

PACKAGE = Path(exemplar.__file__).parent
Function = ast.FunctionDef | ast.AsyncFunctionDef
Defined = Function | ast.ClassDef


def sources() -> list[Path]:
    """Return the files of the public modules; a package's __init__ and __main__ are public as well."""
    inside = [(path, path.relative_to(PACKAGE).with_suffix("")) for path in sorted(PACKAGE.rglob("*.py"))]
    return [path for path, name in inside if not any(is_private(part) for part in name.parts)]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def public(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, Defined]]:
    """Yield what may be used from outside by a name without an underscore, however it is guarded."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from public([n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)], owner)
        if not isinstance(node, Defined) or node.name.startswith("_") or is_overload(node):
            continue
        yield owner + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from public(node.body, f"{owner}{node.name}.")


def is_overload(node: Defined) -> bool:
    return any(isinstance(decorator, ast.Name) and decorator.id == "overload" for decorator in node.decorator_list)


def routes(tree: ast.Module) -> Iterator[tuple[str, Defined]]:
    """Yield the functions within functions that are handed to a router: ``@app.get(...)``."""
    for outer in (node for node in ast.walk(tree) if isinstance(node, Function)):
        for inner in (node for node in ast.walk(outer) if isinstance(node, Function) and node is not outer):
            if any(is_route(decorator) for decorator in inner.decorator_list):
                yield f"{outer.name}.{inner.name}", inner


def is_route(decorator: ast.expr) -> bool:
    verbs = ("get", "post", "put", "patch", "delete", "head", "options", "api_route", "middleware")
    return (
        isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Attribute)
        and decorator.func.attr in verbs
    )


def undocumented(source: str) -> list[str]:
    tree = ast.parse(source)
    module = [] if (ast.get_docstring(tree) or "").strip() else ["the module"]
    named = [*public(tree.body), *routes(tree)]
    return module + [name for name, node in named if not (ast.get_docstring(node) or "").strip()]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_everything_public_has_a_docstring(path: Path) -> None:
    assert undocumented(path.read_text()) == []


def test_what_is_without_is_found() -> None:
    source = '''
class Pool:
    def tasks(self): ...
    async def read(self):
        """Read."""
    @property
    def size(self):
        """ """
    def _hidden(self): ...
    class Inner: ...
def _private(): ...
@overload
def read(path: str): ...
def read(path):
    """Read."""
def routes(app):
    """Add."""
    @app.get("/health")
    def health(): ...
    def inside(): ...
if True:
    def guarded(): ...
'''
    missing = ["Pool", "Pool.tasks", "Pool.size", "Pool.Inner", "guarded", "routes.health"]
    assert undocumented(source) == ["the module", *missing]


def test_no_module_is_passed_over() -> None:
    found = {str(path.relative_to(PACKAGE)) for path in sources()}
    assert {"__init__.py", "cli.py", "engine/geometry.py", "server/app.py", "store/project_store.py"} <= found
