"""scores.json: a version, a checksum, and older files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill.errors import UserError
from distill.records.scores import Scores, read_scores, write_scores
from tests.fixtures.records import agent_scores, edit_record, scores

AGENTS = {
    "teacher": agent_scores("teacher", 20.0, preset="sb3"),
    "s": agent_scores("student", 5.25, teacher="0" * 64, share_of_teacher=0.5, metrics={
        "val_kl": 0.125, "val_action_error": 0.25, "val_jacobian_cosine": None, "val_jacobian_relative_error": 1.5,
    }),
}  # fmt: skip
SCORES = scores(AGENTS, data="d" * 64, created="2026-01-01T00:00:00+00:00", versions={"torch": "2"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_scores(tmp_path / "scores.json", SCORES)
    return tmp_path / "scores.json"


def raw(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_what_is_written_is_read(path: Path) -> None:
    assert read_scores(path) == SCORES
    assert Scores.told(SCORES.to_dict()) == SCORES
    assert raw(path)["version"] == 2
    assert raw(path)["agents"]["s"]["val_jacobian_relative_error"] == 1.5
    assert "preset" not in raw(path)["agents"]["s"]


def test_a_rotten_number_is_noticed(path: Path) -> None:
    text = path.read_text()
    for number in ("5.25", "0.125", "32", "20.0"):
        path.write_text(text.replace(number, number[:-1] + ("1" if number[-1] != "1" else "2"), 1))
        with pytest.raises(UserError, match=r"scores\.json does not match its own checksum: this scores file"):
            read_scores(path)


@pytest.mark.parametrize("name", ["checksum", "version"])
def test_a_rotten_name_is_noticed(path: Path, name: str) -> None:
    path.write_text(path.read_text().replace(f'"{name}"', f'"{name[:-1]}x"'))
    with pytest.raises(UserError, match=r"scores\.json does not match its own checksum"):
        read_scores(path)


def test_files_of_the_last_revision_are_read(path: Path) -> None:
    """They had neither version nor checksum; those before them lacked some figures and whose student it was, too."""
    old = {name: value for name, value in raw(path).items() if name not in ("version", "checksum")}
    path.write_text(json.dumps(old))
    assert read_scores(path) == SCORES
    for name in ("data", "created", "versions"):
        del old[name]
    for name in ("teacher", "share_note", "lengths", "val_jacobian_relative_error"):
        del old["agents"]["s"][name]
    path.write_text(json.dumps(old))
    agent = read_scores(path).agents["s"]
    assert (agent.teacher, agent.mean, agent.metrics["val_kl"]) == (None, 5.25, 0.125)


def test_a_newer_version_is_refused(path: Path) -> None:
    edit_record(path, version=3)
    with pytest.raises(UserError, match=r"scores\.json has format version 3; this toolkit reads version 2; use"):
        read_scores(path)


def test_a_figure_that_is_no_number_is_refused(path: Path) -> None:
    edit_record(path, lambda record: record["agents"]["s"].update(val_new="high"))
    with pytest.raises(UserError, match=r"its 'val_new' cannot be 'high'"):
        read_scores(path)
