"""The first page: easy to read, and true to the settings."""

from __future__ import annotations

import re
from pathlib import Path

from distill.train.settings import TrainRun

README = (Path(__file__).parents[2] / "README.md").read_text()
LONGEST_LINE, LONGEST_SENTENCE = 120, 30


def sentences(text: str) -> list[str]:
    """What stands in paragraphs and lists: no code, no tables, no pictures; links by their text."""
    text = re.sub(r"^```.*?^```$|<img.*?>", "\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(\|.*|#.*)$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", lambda code: "code." if code[0].endswith(".`") else "code", text)
    paragraphs = re.split(r"\n\s*\n|\n(?=\* )", text)
    return [part.strip() for whole in paragraphs for part in re.split(r"(?<=[.!?])[*)]*\s+", whole) if part.strip()]


def test_lines_are_short() -> None:
    assert [line for line in README.splitlines() if len(line) > LONGEST_LINE] == []


def test_sentences_are_short() -> None:
    found = sentences(README)
    assert len(found) > 50
    assert [text for text in found if len(re.findall(r"\w[\w.,%-]*", text)) > LONGEST_SENTENCE] == []


def test_the_table_has_the_settings_that_matter_first() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \|([^|\n]*)\|", README, re.MULTILINE)
    assert [name for name, _ in rows] == list(TrainRun.FIRST)
    for name, cell in rows:
        default = cell.strip()
        value: object = TrainRun()
        for part in name.split("."):
            value = getattr(value, part)
        if name == "train.out":
            assert default == "named after the run"
        else:
            assert default == (f"`{value}`" if value != "" else "")
