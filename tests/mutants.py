"""How much of the code the tests hold in place: change one thing at a time, and see whether a test fails.

    make mutants                                   # a sample over the core rooms, up to ten minutes
    make mutants ARGS="distill/losses --sample 500 --minutes 60"

One operator, constant, condition or call is changed in a copy of the tree, and the tests that mirror the module run
on it, the module's own file first. A change that no test notices is printed: write the test that does, or find
the code that nothing needs. Some changes are no faults (a faster path left out, a tolerance): read before you write.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
ROOMS = ("losses", "engine", "networks", "batches", "dataset", "figures")
COPIED = ("distill", "teachers", "tests", "configs", "docs", "studies", "benchmarks", "README.md", "pyproject.toml")
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Mod: ast.Mult,
}  # fmt: skip
TALK = {"print", "warning", "print_table", "update"}
"""Calls that only say something."""


@dataclass(frozen=True)
class Mutant:
    """One change: ``text`` in place of the bytes ``start:end`` of ``path``."""

    path: Path
    line: int
    start: int
    end: int
    before: str
    text: str

    def __str__(self) -> str:
        before = " ".join(self.before.split())
        return f"{self.path.relative_to(ROOT)}:{self.line}: {before[:90]}  ->  {self.text[:90]}"


def mutants(path: Path) -> list[Mutant]:
    """Every change to one module."""
    source = path.read_bytes()
    starts = [0]
    for row in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    found = []
    for node, text in _changes(ast.parse(source)):
        start, end = (starts[row - 1] + column for row, column in _span(node))
        found.append(Mutant(path, node.lineno, start, end, source[start:end].decode(), text))
    return found


def _span(node: ast.stmt | ast.expr) -> tuple[tuple[int, int], tuple[int, int]]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _changes(tree: ast.AST) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """(node, what stands in its place), without annotations, messages of errors and texts."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "type_comment"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr):
                continue
            if isinstance(node, ast.stmt | ast.expr):
                for text in _texts(node):
                    yield node, text
            yield from _changes(node)


def _texts(node: ast.stmt | ast.expr) -> Iterator[str]:
    """What could stand in place of one node."""
    match node:
        case ast.Compare(ops=[first, *_]) | ast.BinOp(op=first) | ast.BoolOp(op=first) if type(first) in SWAPS:
            other = SWAPS[type(first)]()
            fields = {"ops": [other, *node.ops[1:]]} if isinstance(node, ast.Compare) else {"op": other}
            yield f"({ast.unparse(type(node)(**{**dict(ast.iter_fields(node)), **fields}))})"
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert(), operand=operand):
            yield f"({ast.unparse(operand)})"
        case ast.Constant(value=bool(value)):
            yield str(not value)
        case ast.Constant(value=int(value)):
            yield str(value + 1)
        case ast.Constant(value=float(value)):
            yield repr(2 * value if value else 1.0)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield f"({ast.unparse(ast.IfExp(ast.UnaryOp(ast.Not(), test), body, orelse))})"
        case ast.Expr(value=ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called))) if called not in TALK:
            yield "pass"
        case ast.Continue() | ast.Break():
            yield "pass"


def tests_of(path: Path, tree: Path) -> list[str]:
    """The module's own tests and then the rest of its room's, in a copy of the tree."""
    room = tree / "tests" / path.parent.name
    own = room / f"test_{path.stem}.py"
    return [str(part) for part in (own, room) if part.exists()]


def passes(tests: list[str], tree: Path, limit: float) -> bool | None:
    """Whether tests pass in a child that forks from here, where PyTorch is imported already; None: too slow."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
        out = os.open(tree / "output", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(out, stream)
        os.chdir(tree)
        os.environ["PYTHONPATH"] = str(tree)
        sys.path[0] = str(tree)
        sys.dont_write_bytecode = True
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", f"--basetemp={tree / 'made'}"]
        os._exit(int(pytest.main([*options, *tests])))
    end = time.monotonic() + limit
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status == 0
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.05)


def copied(tree: Path) -> None:
    """Lay a copy of what the tests need in ``tree``."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        else:
            shutil.copy(ROOT / name, tree / name)


def survives(mutant: Mutant, tree: Path, limit: float) -> bool:
    """Whether all tests of the room still pass with this change."""
    copy = tree / mutant.path.relative_to(ROOT)
    source = copy.read_bytes()
    copy.write_bytes(source[: mutant.start] + mutant.text.encode() + source[mutant.end :])
    try:
        return passes(tests_of(mutant.path, tree), tree, limit) is True
    finally:
        copy.write_bytes(source)


def try_all(chosen: list[Mutant], minutes: float) -> list[bool]:
    """Which of the changes survive, in order, as far as the time goes."""
    stop, limits = time.monotonic() + 60 * minutes, dict[Path, float]()
    results: list[bool] = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copied(tree)
        for mutant in chosen:
            room = mutant.path.parent
            if room not in limits:
                started = time.monotonic()
                if not passes(tests_of(mutant.path, tree), tree, 600):
                    raise SystemExit(f"{(tree / 'output').read_text()}\nthe tests of {room} fail without a change")
                limits[room] = 5 * (time.monotonic() - started) + 10
            if time.monotonic() > stop:
                print(f"no time for {len(chosen) - len(results)} of them")
                break
            results.append(survives(mutant, tree, limits[room]))
            if results[-1]:
                print(f"survived: {mutant}", flush=True)
    return results


def main() -> int:
    """Print what survives, and its share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", nargs="*", default=[f"distill/{room}" for room in ROOMS], help="modules or rooms")
    parser.add_argument("--sample", type=int, default=150, help="how many changes to try, drawn from all")
    parser.add_argument("--minutes", type=float, default=10, help="when to stop at the latest")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    places = [ROOT / name for name in asked.where]
    modules = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    everything = [mutant for path in modules for mutant in mutants(path)]
    chosen = random.Random(asked.seed).sample(everything, min(asked.sample, len(everything)))
    print(f"{len(everything)} possible changes in {len(modules)} modules; trying {len(chosen)} of them", flush=True)
    results = try_all(chosen, asked.minutes)
    print(f"{sum(results)} of {len(results)} changes survived ({sum(results) / max(1, len(results)):.0%})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
