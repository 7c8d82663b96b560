"""Every library that the code imports is one that pyproject.toml asks for, where it asks for it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN = {"distill", "teachers", "studies", "benchmarks"}
TYPING = {"_typeshed"}


def names(requirements: list[str]) -> set[str]:
    """Normalised names of distributions."""
    return {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", text)[0]).lower() for text in requirements}


def imports(tree: ast.AST, *, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """(top-level module, whether it is imported only when a function runs or only for types)."""
    for node in ast.iter_child_nodes(tree):
        found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found = [node.module]
        yield from ((name.partition(".")[0], inside) for name in found)
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or for_types
        yield from imports(node, inside=inside or late)


def libraries(*folders: str) -> dict[tuple[str, bool], set[str]]:
    """(distribution, late) and the files that import it."""
    known = packages_distributions()
    found: dict[tuple[str, bool], set[str]] = {}
    for path in [path for folder in folders for path in (ROOT / folder).rglob("*.py")]:
        for module, late in imports(ast.parse(path.read_text())):
            if module in sys.stdlib_module_names or module in OWN | TYPING:
                continue
            for distribution in names(known.get(module, [module])):
                found.setdefault((distribution, late), set()).add(str(path.relative_to(ROOT)))
    return found


def test_every_import_is_declared() -> None:
    needed = names(PROJECT["dependencies"])
    extras = {name: names(asked) for name, asked in PROJECT["optional-dependencies"].items()}
    optional = needed.union(*(extras[name] for name in ("hub", "video", "onnx", "ray", "stores")))
    found = libraries("distill", "teachers")
    assert {library for library, _ in found} >= {"torch", "pillow", "onnx"}, "this test would see nothing"
    wrong = {
        library: files for library, files in found.items() if library[0] not in (optional if library[1] else needed)
    }
    assert wrong == {}


def test_studies_import_what_their_extra_and_the_toolkit_ask_for() -> None:
    declared = names(PROJECT["dependencies"]) | names(PROJECT["optional-dependencies"]["studies"])
    found = libraries("studies")
    assert found
    assert {library: files for library, files in found.items() if library[0] not in declared} == {}


def test_nothing_is_declared_that_nobody_imports() -> None:
    used = {library for library, _ in libraries("distill", "teachers", "studies")}
    by_torch = {"onnxscript"}  # torch.onnx needs it
    assert names(PROJECT["dependencies"]) - used == set()
    extras = set().union(
        *(names(PROJECT["optional-dependencies"][name]) for name in ("hub", "video", "onnx", "studies", "ray"))
    )
    assert extras - used - by_torch == set()
