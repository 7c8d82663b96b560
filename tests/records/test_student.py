"""student.json: a version, a checksum, and older files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill.errors import UserError
from distill.networks.nets import NETS
from distill.records.data import DataUsed, OwnGames, data_told
from distill.records.student import StudentRecord, read_student, write_student
from distill.task import Task
from tests.fixtures.records import edit_record, training

TASK = Task("pong", "sb3", "739e34ec987e", 6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    record = StudentRecord(TASK, NETS["mnih2013"], "f" * 64, {"model.safetensors": "a"}, training(0.1).to_dict())
    write_student(tmp_path / "student.json", record)
    return tmp_path / "student.json"


def raw(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_what_is_written_is_read(path: Path) -> None:
    record = read_student(path)
    assert (record.task, record.network, record.fingerprint) == (TASK, NETS["mnih2013"], "f" * 64)
    assert record.training(path) == training(0.1)
    assert raw(path)["version"] == 2


def test_every_digit_counts(path: Path) -> None:
    """Any character of the file, changed for another that JSON takes as well."""
    text, noticed = path.read_text(), 0
    for place, character in enumerate(text):
        if not character.isalnum():
            continue
        path.write_text(text[:place] + ("1" if character != "1" else "2") + text[place + 1 :])
        with pytest.raises(UserError, match=r"student\.json"):
            read_student(path).training(path)
        noticed += 1
    assert noticed > 500


def test_files_of_the_last_revision_are_read(path: Path) -> None:
    old = {name: value for name, value in raw(path).items() if name not in ("version", "checksum", "sha256")}
    for name in ("teacher_preset", "teacher_preset_hash", "teacher_tau"):
        del old[name]
    path.write_text(json.dumps(old))
    record = read_student(path)
    assert record.sha256 == {}
    told = record.training(path)
    assert (told.teacher_preset, told.teacher_preset_hash, told.teacher_tau) == ("sb3", "739e34ec987e", None)


@pytest.mark.parametrize("version", [3, 99, 0, "2", None])
def test_a_newer_version_is_refused(path: Path, version: object) -> None:
    edit_record(path, version=version)
    message = rf"student\.json has format version {version}; this toolkit reads version 2; use a newer one"
    with pytest.raises(UserError, match=message):
        read_student(path)


def test_what_a_student_learned_from() -> None:
    for data in (DataUsed("d", "now", 3, "a", "b", "c"), DataUsed("d", "now", 3), OwnGames(600, 4)):
        assert data_told(json.loads(json.dumps(data.to_dict()))) == data
    assert DataUsed.told({}) is None


@pytest.mark.parametrize(
    ("before", "change"),
    [
        (None, ""),
        (DataUsed("d", "now", 3), ""),
        (DataUsed("elsewhere", "later", 3, "a", "b", "c"), ""),
        (DataUsed("old", "then", 3, "x"), "it was trained on another dataset (old, made then)"),
        (DataUsed("d", "now", 2000), "d had 2,000 states then and has 3 now"),
        (DataUsed("d", "now", 3, "x"), "d holds other data than then"),
        (DataUsed("d", "now", 3, "a", "x", "c"), "the training states of d are others than then"),
        (DataUsed("d", "now", 3, "a", "b", "x"), "the held-out states of d are others than then"),
        (OwnGames(3, 1), "it was trained on another dataset (its own games, made online)"),
    ],
)
def test_changes_of_data(before: DataUsed | OwnGames | None, change: str) -> None:
    assert DataUsed("d", "now", 3, "a", "b", "c").change_since(before) == change
