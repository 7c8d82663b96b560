"""Whatever happens to a dataset's files, it is refused and the file is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.collect.verify import verify
from distill.dataset.reader import Dataset
from distill.dataset.schema import ShardArrays, read_manifest
from distill.dataset.shards import committed_shards, read_record
from distill.dataset.writer import DatasetWriter
from distill.errors import UserError
from distill.records.dataset import Identity, ShardRecord
from distill.records.seal import sealed
from teachers.load import load_teacher
from teachers.protocol import Teacher

Shards = tuple[Path, list[ShardArrays]]


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher("pong")


def write_sealed(path: Path, record: dict[str, Any]) -> None:
    """A record that was written so: whatever is wrong in it is no rot."""
    path.write_text(json.dumps(sealed(record)))


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def test_verify_accepts_a_real_collection(pong_data: Path, teacher: Teacher) -> None:
    verdict = verify(pong_data, teacher, sample=40)
    assert (verdict.states, verdict.shards, verdict.sampled) == (600, 5, 40)
    assert verdict.logit_error < 1e-4
    assert verdict.value_error is not None
    assert verdict.value_error < 1e-4
    assert verdict.jacobian_error is not None
    assert 0.001 < verdict.jacobian_error < 0.02


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["steps.safetensors", "jacobian.npy"])
def test_verify_refuses_a_flipped_bit(pong_copy: Path, teacher: Teacher, name: str, place: float) -> None:
    flip(pong_copy / "shards" / "teacher-00002" / name, place)
    with pytest.raises(UserError, match=rf"teacher-00002/{name} does not match its checksum"):
        verify(pong_copy, teacher)


def test_a_flipped_bit_in_compressed_frames_is_seen_without_checksums(three_shards: Shards) -> None:
    """Zstandard keeps a checksum of its own, so training without ``train.verify`` sees no wrong frame either."""
    path = three_shards[0] / "shards" / "a-00001" / "steps.safetensors"
    data = bytearray(path.read_bytes())
    header = int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8 : 8 + header])["frames_zstd"]["data_offsets"]
    data[8 + header + (begin + end) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="a-00001 is damaged"):
        Dataset(three_shards[0])


def test_verify_refuses_labels_of_another_teacher(pong_copy: Path, other_pong_zip: Path) -> None:
    with pytest.raises(UserError, match=r"was labelled by pong .*, not by .*other-pong.zip.* --teacher"):
        verify(pong_copy, load_teacher(str(other_pong_zip), game="pong"))


def test_verify_refuses_labels_that_are_not_the_teachers(
    pong_data: Path, other_pong_zip: Path, tmp_path: Path, teacher: Teacher
) -> None:
    """Consistent files with wrong labels: as if observations had been mixed up."""
    copy = Path(shutil.copytree(pong_data, tmp_path / "copy"))
    manifest = json.loads((copy / "dataset.json").read_text())
    other = load_teacher(str(other_pong_zip), game="pong")
    manifest["identity"]["teacher"] = other.info.fingerprint
    write_sealed(copy / "dataset.json", manifest)
    for path in copy.glob("shards/*/shard.json"):
        write_sealed(path, {**json.loads(path.read_text()), "identity": Identity(**manifest["identity"]).digest})
    with pytest.raises(UserError, match=r"differ from the teacher's by up to 4\.2 % of the largest"):
        verify(copy, other)


@pytest.mark.parametrize("shard", [0, 1, 2], ids=["first", "middle", "last"])
@pytest.mark.parametrize("part", [".", "shard.json"])
def test_lost_shard_is_refused_by_reader_and_writer(
    three_shards: Shards, open_writer: Callable[..., DatasetWriter], shard: int, part: str
) -> None:
    folder, _ = three_shards
    lost = folder / "shards" / f"a-{shard:05d}"
    if part == ".":
        shutil.rmtree(lost)
    else:
        (lost / part).unlink()
    left = sorted(path for path in folder.rglob("*") if path.is_file())
    for use in (lambda: Dataset(folder), lambda: open_writer(folder), lambda: open_writer(folder, "b")):
        with pytest.raises(UserError, match=rf"has lost shard a-{shard:05d}.*restore it"):
            use()
    # Only the second writer's lock and record may be new: nothing that was there is deleted.
    assert set(left) <= set(folder.rglob("*"))


def test_lost_shard_is_refused_without_the_writers_record(three_shards: Shards) -> None:
    folder, _ = three_shards
    (folder / "writers" / "a.json").unlink()
    shutil.rmtree(folder / "shards" / "a-00001")
    with pytest.raises(UserError, match="has lost shard a-00001"):
        Dataset(folder)


@pytest.mark.parametrize("name", ["steps.safetensors", "jacobian.npy"])
def test_missing_and_truncated_files_are_refused_without_checksums(three_shards: Shards, name: str) -> None:
    folder, _ = three_shards
    path = folder / "shards" / "a-00001" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=rf"a-00001/{name} has {len(whole) - 1} bytes, not {len(whole)}"):
        Dataset(folder)
    path.unlink()
    with pytest.raises(UserError, match=rf"a-00001/{name} is missing"):
        Dataset(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"states": 30}'])
def test_damaged_shard_record_is_refused(three_shards: Shards, content: str) -> None:
    folder, _ = three_shards
    (folder / "shards" / "a-00001" / "shard.json").write_text(content)
    with pytest.raises(UserError, match=r"a-00001/shard.json is not a .* shard record"):
        Dataset(folder)


def test_record_of_another_shard_is_refused(three_shards: Shards) -> None:
    folder, _ = three_shards
    path = folder / "shards" / "a-00001" / "shard.json"
    record = json.loads(path.read_text())
    write_sealed(path, {**record, "states": 29})
    with pytest.raises(UserError, match="a-00001 is damaged: its arrays do not fit its record"):
        Dataset(folder)


@pytest.mark.parametrize("name", ["../../../mine", "/mine", ".."])
def test_a_file_that_lies_elsewhere_is_no_file_of_a_shard(three_shards: Shards, name: str) -> None:
    path = three_shards[0] / "shards" / "a-00001" / "shard.json"
    record = json.loads(path.read_text())
    files = {**record["files"], name: record["files"]["steps.safetensors"]}
    write_sealed(path, {**record, "files": files})
    with pytest.raises(UserError, match="is damaged: a file of a shard cannot be called"):
        Dataset(three_shards[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is not the manifest of an atari-sobolev dataset"),
        ({"version": 99}, "has format version 99; this toolkit reads version 2"),
        ({"identity": {"game": "pong"}}, "dataset.json is damaged"),
        ({"identity": None}, "dataset.json is damaged"),
    ],
)
def test_foreign_manifest_is_refused(three_shards: Shards, change: dict[str, Any], message: str) -> None:
    path = three_shards[0] / "dataset.json"
    write_sealed(path, {**json.loads(path.read_text()), **change})
    with pytest.raises(UserError, match=message):
        Dataset(three_shards[0])


def test_unknown_codec_is_refused(
    tmp_path: Path, open_writer: Callable[..., DatasetWriter], identity: Identity
) -> None:
    open_writer(tmp_path / "data", identity=Identity(**{**vars(identity), "codec": "int4"}))
    with pytest.raises(UserError, match="unknown codec 'int4'"):
        Dataset(tmp_path / "data")


def test_dataset_without_a_shard_is_refused(tmp_path: Path, open_writer: Callable[..., DatasetWriter]) -> None:
    open_writer(tmp_path / "data")
    with pytest.raises(UserError, match="holds no complete shard yet; run `distill collect`"):
        Dataset(tmp_path / "data")


def test_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no dataset at .* make one with `distill collect`"):
        Dataset(tmp_path)


@pytest.mark.parametrize("name", ["dataset.json", "shards/a-00001/shard.json", "writers/a.json"])
def test_rot_in_a_record_is_noticed(three_shards: Shards, open_writer: Callable[..., DatasetWriter], name: str) -> None:
    """Any bit of any record, or it makes no difference to what is read."""
    path = three_shards[0] / name
    whole = path.read_bytes()
    content = json.loads(whole)
    assert len(whole) > 100
    for place in range(0, len(whole), 3):
        for bit in (0, 3, 5, 6):
            rotten = bytearray(whole)
            rotten[place] ^= 1 << bit
            try:
                same = json.loads(rotten) == content
            except ValueError:
                same = False
            if same:
                continue
            path.write_bytes(rotten)
            with pytest.raises(UserError):
                read_manifest(three_shards[0]) if name == "dataset.json" else committed(three_shards[0])
    path.write_bytes(whole)
    Dataset(three_shards[0])


def committed(folder: Path) -> list[ShardRecord]:
    """All that is read of shards before their arrays."""
    return [read_record(path) for paths in committed_shards(folder).values() for path in paths]


def test_records_of_the_last_version_have_no_checksum(three_shards: Shards) -> None:
    folder = three_shards[0]
    for path in [folder / "dataset.json", *folder.glob("shards/*/shard.json"), *folder.glob("writers/*.json")]:
        record = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in record.items() if key not in ("checksum", "play")}))
    Dataset(folder, verify=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["logits", "value", "v", "gain", "row_scale", "reward"])
def test_labels_that_are_not_finite_are_refused(
    tmp_path: Path, open_writer: Callable[..., DatasetWriter], make_arrays: Any, facts: Any, name: str, value: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In one state of many: by who writes it, and by who checks what was written."""
    arrays = make_arrays(30)
    getattr(arrays, name)[17, ...].flat[0] = value
    writer = open_writer(tmp_path / "data")
    with pytest.raises(UserError, match=f"its {name} are NaN or infinite"):
        writer.commit(arrays, facts(1))
    monkeypatch.setattr("distill.dataset.writer.refuse_not_finite", lambda where, arrays: None)
    writer.commit(arrays, facts(1))
    with pytest.raises(UserError, match=f"a-00000: its {name} are NaN or infinite"):
        Dataset(tmp_path / "data", verify=True)


def test_verify_judges_what_is_not_a_number_as_wrong(
    pong_data: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should NaN ever come as far as the comparison with the teacher, it fails it."""
    for name, message in (("_difference", "logits or values differ"), ("_relative_error", "derivatives are nan")):
        with monkeypatch.context() as patch:
            patch.setattr(f"distill.collect.verify.{name}", lambda *arrays: float("nan"))
            with pytest.raises(UserError, match=message):
                verify(pong_data, teacher, sample=4)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dataset.json", lambda record: record.pop("teacher"), "it has no 'teacher'"),
        ("dataset.json", lambda record: record.update(teacher=3), "its 'teacher' has no fields"),
        ("dataset.json", lambda record: record.pop("created"), "it has no 'created'"),
        ("dataset.json", lambda record: record["identity"].update(game=None), "its 'identity.game' cannot be 'None'"),
        ("dataset.json", lambda record: record["teacher"].pop("name"), "does not say which teacher labelled it"),
        ("shards/a-00001/shard.json", lambda record: record.update(files=3), "its 'files' has no fields"),
        ("shards/a-00001/shard.json", lambda record: record["files"].pop("steps.safetensors"), "no 'files.steps.safe"),
        (
            "shards/a-00001/shard.json",
            lambda record: record["files"]["jacobian.npy"].pop("bytes"),
            "jacobian.npy.bytes",
        ),
        ("shards/a-00001/shard.json", lambda record: record.update(states="thirty"), "its 'states' cannot be 'thirty'"),
        ("shards/a-00001/shard.json", lambda record: record.update(frames=-1), "its 'frames' cannot be '-1'"),
        ("shards/a-00001/shard.json", lambda record: record.update(next_episode=None), "its 'next_episode' cannot"),
        ("shards/a-00001/shard.json", lambda record: record.update(games=[3]), "its 'games.0' has no fields"),
        ("writers/a.json", lambda record: record.update(shards="three"), "its 'shards' cannot be 'three'"),
        ("writers/a.json", lambda record: record.update(behaviour=None), "its 'behaviour' has no fields"),
        ("writers/a.json", lambda record: record.update(shards=True), "its 'shards' cannot be 'True'"),
    ],
)
def test_records_that_were_edited_by_hand_are_refused_in_a_sentence(
    three_shards: Shards, name: str, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    path = three_shards[0] / name
    record = json.loads(path.read_text())
    change(record)
    write_sealed(path, record)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        Dataset(three_shards[0])
    assert str(path.parent) in str(caught.value)


def test_shards_of_another_dataset_are_refused(
    three_shards: Shards, open_writer: Callable[..., DatasetWriter], make_arrays: Any, facts: Any, tmp_path: Path,
    identity: Identity,
) -> None:  # fmt: skip
    """The same games, but projections of another law: no label would tell."""
    writer = open_writer(tmp_path / "other", "b", replace(identity, law="fisher"))
    shutil.copytree(writer.commit(make_arrays(9, seed=9), facts(1)), three_shards[0] / "shards" / "b-00000")
    with pytest.raises(UserError, match="b-00000 was collected differently"):
        Dataset(three_shards[0])


@pytest.mark.parametrize("change", ["value", "rows", "jacobian"])
def test_shards_of_an_earlier_version_that_hold_other_arrays_are_refused(
    three_shards: Shards, open_writer: Callable[..., DatasetWriter], make_arrays: Any, facts: Any, tmp_path: Path,
    change: str,
) -> None:  # fmt: skip
    arrays = make_arrays(9, seed=9, rows=3 if change == "rows" else 2)
    if change == "value":
        arrays.value = None
    if change == "jacobian":
        arrays.jacobian = arrays.gain = arrays.row_scale = arrays.v = None
    shard = open_writer(tmp_path / "other", "b").commit(arrays, facts(1))
    record = json.loads((shard / "shard.json").read_text())
    for name in ("identity", "checksum"):
        del record[name]
    (shard / "shard.json").write_text(json.dumps(record))
    shutil.copytree(shard, three_shards[0] / "shards" / "b-00000")
    with pytest.raises(UserError, match="b-00000 does not belong with the shards before it"):
        Dataset(three_shards[0])
