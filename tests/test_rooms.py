"""Rooms lie on floors: none imports from above it, and no two import from each other (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
KNOWN: set[tuple[str, str]] = set()
"""Arrows that still go up; this list may only get shorter."""


def floors() -> dict[str, int]:
    """Every room of the page's first picture, 0 for the highest floor."""
    picture = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert picture is not None
    return {room: floor for floor, line in enumerate(picture[1].splitlines()) for room in line[:40].split()}


def arrows() -> set[tuple[str, str]]:
    """(room, room it imports from), types and late imports included."""
    found = set()
    for path in [*(ROOT / "distill").glob("*/**/*.py"), *(ROOT / "teachers").rglob("*.py")]:
        parts = path.relative_to(ROOT).parts
        room = "teachers" if parts[0] == "teachers" else parts[1]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(("distill.", "teachers")):
                names = node.module.split(".")
                found.add((room, "teachers" if names[0] == "teachers" else names[1]))
    return {(room, other) for room, other in found if room != other}


def test_every_room_is_in_the_picture() -> None:
    rooms = {path.parent.name for path in (ROOT / "distill").glob("*/__init__.py")} | {"teachers"}
    assert floors().keys() == rooms


def test_no_arrow_goes_up() -> None:
    floor = floors()
    up = {(room, other) for room, other in arrows() if other in floor and floor[other] < floor[room]}
    assert up <= KNOWN, "import it from below, or move what both need down"


def test_no_circles() -> None:
    graph: dict[str, set[str]] = {}
    for room, other in arrows() - KNOWN:
        graph.setdefault(room, set()).add(other)
    assert len([*TopologicalSorter(graph).static_order()]) >= len(floors())
