"""Tables in the pages say what the entries say that they are made of."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs"
spec = importlib.util.spec_from_file_location("tables", PAGES / "tables.py")
assert spec is not None
assert spec.loader is not None
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)


@pytest.mark.parametrize("page", tables.MADE)
def test_tables_are_as_make_tables_writes_them(page: str) -> None:
    text = (PAGES / page).read_text()
    assert tables.written(page, text) == text, "run `make tables`"


def test_every_entry_says_what_it_is() -> None:
    for make in (make for makes in tables.MADE.values() for make in makes if make is not tables.sums):
        for row in make().strip().splitlines()[2:]:
            name, meaning = row.strip("| ").split(" | ")[:2]
            assert len(meaning) > 5, f"{make.__name__}: {name} has no words"
    with pytest.raises(ValueError, match=r"docs/presets\.md has no place for presets"):
        tables.written("presets.md", "nothing")
