"""Many shards are checked at once, and an interrupted check goes on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from distill.collect.verify import verify
from distill.dataset import checked
from distill.dataset.checked import open_checked
from distill.dataset.windowed import WindowedDataset
from distill.errors import UserError
from distill.records.seal import sealed
from teachers.load import load_teacher

LAST = "shards/teacher-00004/jacobian.npy"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Shards that were read, where every data set counts as one of many states, and notes are taken at once."""
    monkeypatch.setattr(checked, "FEW_FRAMES", 0)
    monkeypatch.setattr(checked, "EVERY_S", -1)
    monkeypatch.setattr(checked.os, "cpu_count", lambda: 1)
    seen: list[str] = []
    load = checked.load_shard

    def loaded(shard: Path, **options: Any) -> Any:
        if options.get("verify"):
            seen.append(shard.name)
        return load(shard, **options)

    monkeypatch.setattr(checked, "load_shard", loaded)
    return seen


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_it_says_what_a_check_in_memory_says(pong_copy: Path, hashed: list[str], monkeypatch: Any) -> None:
    teacher = load_teacher("pong")
    large = verify(pong_copy, teacher, sample=40)
    assert len(hashed) == 5
    monkeypatch.setattr(checked, "FEW_FRAMES", 10**6)
    assert verify(pong_copy, teacher, sample=40) == large
    assert len(hashed) == 5


def test_an_interrupted_check_goes_on(pong_copy: Path, hashed: list[str]) -> None:
    flip(pong_copy / LAST)
    for _ in range(2):
        with pytest.raises(UserError, match=rf"{LAST} does not match its checksum"):
            open_checked(pong_copy)
    assert hashed == [f"teacher-0000{number}" for number in (0, 1, 2, 3, 4, 4)]
    flip(pong_copy / LAST)
    assert isinstance(open_checked(pong_copy), WindowedDataset)
    assert hashed[6:] == ["teacher-00004"]
    assert not (pong_copy / "cache" / "verified.json").exists()
    open_checked(pong_copy)
    assert len(hashed) == 12  # all of them, since the last check had come to its end


def test_a_file_that_changed_since_is_read_again(pong_copy: Path, hashed: list[str]) -> None:
    flip(pong_copy / LAST)
    with pytest.raises(UserError, match="does not match"):
        open_checked(pong_copy)
    touched = pong_copy / "shards" / "teacher-00001" / "steps.safetensors"
    flip(touched)
    os.utime(touched, ns=(0, 0))
    with pytest.raises(UserError, match=r"teacher-00001/steps\.safetensors does not match"):
        open_checked(pong_copy)
    assert hashed[5:] == ["teacher-00001", "teacher-00004"] or hashed[5:] == ["teacher-00001"]


def test_damaged_notes_are_none(pong_copy: Path, hashed: list[str]) -> None:
    notes = pong_copy / "cache" / "verified.json"
    notes.parent.mkdir()
    for text in ("{", "[]", '{"teacher-00000": {}}', '{"teacher-00000": 3}'):
        notes.write_text(text)
        open_checked(pong_copy)
    assert len(hashed) == 20


def test_copies_in_data_of_an_earlier_version_are_refused(pong_copy: Path, hashed: list[str]) -> None:
    """Whose records do not say what was played, and which another teacher labelled."""
    for path in (pong_copy / "shards").glob("*/shard.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(sealed({**record, "play": None})))
    shutil.copytree(pong_copy / "shards" / "teacher-00000", pong_copy / "shards" / "teacher-00005")
    with pytest.raises(UserError, match="shard teacher-00005 holds the same games as teacher-00000"):
        open_checked(pong_copy)
