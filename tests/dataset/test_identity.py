"""What a dataset says that the teacher saw, and that manifests without it mean what they meant."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill.dataset.reader import Dataset
from distill.dataset.schema import ShardArrays, read_manifest
from distill.dataset.shards import contents_digest
from distill.envs.presets import PRESETS, get_preset
from distill.errors import UserError
from distill.records.dataset import FileMark, Identity, ShardRecord

RECORDS = {"a-00000": ShardRecord(1, 0.0, files={"steps.safetensors": FileMark(12, "aa")})}
DIGEST = "31e57b95bf8d38b19936f514d5ef30fc6c2d90a5772b2b88f05616b0830aa2ba"


def other(identity: Identity) -> Identity:
    return replace(identity, teacher_preset="async-rl", teacher_preset_hash="xyz")


def test_digests_of_data_with_one_preset_never_change(identity: Identity) -> None:
    """Runs and students name their data by it."""
    assert contents_digest(identity, RECORDS) == DIGEST
    told = replace(identity, teacher_preset="sb3", teacher_preset_hash="abc")
    assert contents_digest(told, RECORDS) == DIGEST
    assert contents_digest(other(identity), RECORDS) != DIGEST
    assert contents_digest(replace(other(identity), teacher_preset_hash="zzz"), RECORDS) != contents_digest(
        other(identity), RECORDS
    )


def test_a_manifest_without_the_teachers_preset_means_the_recorded_one(
    three_shards: tuple[Path, list[ShardArrays]], identity: Identity
) -> None:
    content = json.loads((three_shards[0] / "dataset.json").read_text())
    assert content["identity"].keys() == {
        "game", "rom_md5", "preset", "preset_hash", "teacher", "jacobian", "k", "law", "space", "codec",
    }  # fmt: skip
    found = read_manifest(three_shards[0]).identity
    assert found == identity == Identity(**content["identity"])
    assert (found.teacher_preset, found.teacher_preset_hash) == ("sb3", "abc")
    assert found.same_eyes


def test_another_preset_of_the_teacher_is_written_and_read(
    tmp_path: Path, identity: Identity, open_writer: Any, make_arrays: Any, facts: Any
) -> None:
    writer = open_writer(tmp_path / "data", identity=other(identity))
    writer.commit(make_arrays(3), facts(1))
    dataset = Dataset(tmp_path / "data")
    assert dataset.identity == other(identity) != identity
    assert dataset.digest != Dataset(tmp_path / "data").identity.teacher
    with pytest.raises(
        UserError, match=r"collected differently: teacher_preset is async-rl, not sb3; teacher_preset_h"
    ):
        open_writer(tmp_path / "data", writer="b", identity=identity)


def test_one_preset_for_both_is_named_once(identity: Identity) -> None:
    fast = Identity(**{**identity.to_dict(), "preset": "sb3-fast", "preset_hash": "def"})
    assert identity.difference(fast) == "preset is sb3, not sb3-fast; preset_hash is abc, not def"


def test_eyes_are_the_same_where_presets_make_the_same_stacks(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    sb3, short = get_preset("sb3"), replace(get_preset("sb3"), name="short", max_frames=100)
    monkeypatch.setattr(PRESETS, "_things", {"sb3": sb3, "short": short, "async-rl": get_preset("async-rl")})
    mine = replace(identity, preset_hash=sb3.hash)
    assert replace(mine, teacher_preset="short", teacher_preset_hash=short.hash).same_eyes
    assert not other(mine).same_eyes
