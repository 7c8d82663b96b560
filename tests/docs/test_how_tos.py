"""The how-tos name places that are there, and the page on architecture counts them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
TABLE = re.findall(r"^\| (.+?) \| (?:about )?\d+ \| (\d+) \| \d+ \|", (ROOT / "docs/architecture.md").read_text(), re.M)


def how_tos() -> dict[str, list[str]]:
    """Bullets of every how-to, by its heading in small letters."""
    part = PAGE[PAGE.index("## How-tos") :]
    part = part[: part.index("\n## ", 3)]
    sections = re.split(r"^### ", part, flags=re.MULTILINE)[1:]
    return {text.splitlines()[0].lower(): re.findall(r"^\* .*(?:\n  .*)*", text, re.MULTILINE) for text in sections}


def test_every_errand_of_the_table_has_a_how_to() -> None:
    assert [name.lower() for name, _ in TABLE] == [*how_tos()]
    assert len(TABLE) == 9


@pytest.mark.parametrize(("errand", "places"), TABLE)
def test_places_are_counted_and_there(errand: str, places: str) -> None:
    bullets = how_tos()[errand.lower()]
    assert len(bullets) == int(places)
    named = [name for text in bullets for name in re.findall(r"`((?:distill|teachers|tests|docs)/[\w/.]+)`", text)]
    assert [name for name in named if "mine" not in name and not (ROOT / name).exists()] == []
