"""A dataset's records: what is written is read, and newer versions are refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.errors import UserError
from distill.records.dataset import (
    FileMark,
    GamePlayed,
    Identity,
    Manifest,
    ShardRecord,
    WriterRecord,
    read_manifest,
    read_shard,
    read_writer,
    write_manifest,
    write_shard,
    write_writer,
)
from tests.fixtures.records import edit_record

IDENTITY = Identity("pong", "00ff", "sb3", "abc", "0123", "projected", 2, "sphere", "logits", "int8")
MANIFEST = Manifest(IDENTITY, {"name": "pong", "tau": 0.5}, "2026-01-01T00:00:00+00:00", {"torch": "2"})
WRITER = WriterRecord(3, 90, {"actor": "teacher", "beta": None, "seed": 1}, "distill collect")
SHARD = ShardRecord(
    4, 1.5, [GamePlayed(21.0, 900)], 1, 30, 303, {"steps.safetensors": FileMark(12, "aa")}, "d" * 64, IDENTITY.digest
)


def write(kind: str, path: Path) -> tuple[object, Callable[[Path], object]]:
    """Write one record; returns it, and its reader."""
    if kind == "dataset":
        write_manifest(path, MANIFEST)
        return MANIFEST, read_manifest
    if kind == "writer":
        write_writer(path, WRITER)
        return WRITER, read_writer
    write_shard(path, SHARD)
    return SHARD, read_shard


@pytest.mark.parametrize("kind", ["dataset", "writer", "shard"])
def test_what_is_written_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.json"
    record, read = write(kind, path)
    assert read(path) == record
    told: dict[str, Any] = json.loads(path.read_text())
    assert told["version"] == 1
    assert len(told["checksum"]) == 64
    known = 2 if kind == "dataset" else 1
    edit_record(path, version=known + 1)
    newer = rf"{kind}\.json has format version {known + 1}; this toolkit reads version {known}; use"
    with pytest.raises(UserError, match=newer):
        read(path)


def test_a_teacher_without_a_name_or_temperature() -> None:
    assert (MANIFEST.teacher_name, MANIFEST.teacher_tau) == ("pong", 0.5)
    bare = dataclasses.replace(MANIFEST, teacher={})
    assert (bare.teacher_name, bare.teacher_tau) == (None, None)


def test_records_of_earlier_versions_tell_less(tmp_path: Path) -> None:
    told = {"states": 3, "frames": 6, "next_episode": 1, "jacobian_square_sum": 0.5, "games": [{"score": 1.0}],
            "files": {"steps.safetensors": {"bytes": 1, "sha256": "a"}}}  # fmt: skip
    (tmp_path / "shard.json").write_text(json.dumps(told))
    shard = read_shard(tmp_path / "shard.json")
    assert (shard.states, shard.games, shard.play, shard.identity, shard.seed) == (
        3,
        [GamePlayed(1.0)],
        None,
        None,
        None,
    )
    (tmp_path / "a.json").write_text('{"shards": 2}')
    assert read_writer(tmp_path / "a.json") == WriterRecord(2, 0, {}, None)
