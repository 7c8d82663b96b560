"""Every relative link of the pages leads to something that is there, headings included."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRACKED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
PAGES = sorted({*TRACKED.splitlines(), *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))})
LINK = re.compile(r"(?<!`)\]\(([^()\s]+(?:\([^()]*\)[^()\s]*)?)\)|(?:src|href)=\"([^\"]+)\"")


def prose(text: str) -> str:
    """A page without its blocks of code and the code within lines."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda code: "x" * len(code[0]), text)


def anchors(text: str) -> set[str]:
    """Names of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?)\s*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = sum(known == name or re.fullmatch(re.escape(name) + r"-\d+", known) is not None for known in found)
        found.add(f"{name}-{count}" if count else name)
    return found


def links(page: str) -> Iterator[str]:
    for found in LINK.findall(prose((ROOT / page).read_text())):
        target = found[0] or found[1]
        if not re.match(r"[a-z]+:", target):
            yield target


def broken(page: str) -> list[str]:
    wrong = []
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        if not path.exists() or (anchor and anchor not in anchors(path.read_text())):
            wrong.append(target)
    return wrong


def test_there_are_links_to_check() -> None:
    assert {"README.md", "CHANGELOG.md", "docs/decisions.md", "docs/paper/atari.md"} <= set(PAGES)
    assert sum(len([*links(page)]) for page in PAGES) > 60
    assert anchors("# λ = 1, falling (Pong, 1 %)\n## Same\n## Same\n") == {"λ--1-falling-pong-1-", "same", "same-1"}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    assert broken(page) == []


def test_the_site_has_every_page() -> None:
    """``make docs`` refuses a page that its table of contents lacks; this says so without building it."""
    listed = set(re.findall(r"^ +- (?:.+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= listed
    outside = listed - pages - {"index.md"}
    assert [name for name in outside if not (ROOT / name).is_file()] == []
