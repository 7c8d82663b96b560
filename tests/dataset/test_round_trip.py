from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.dataset.codec import CODECS, decode, encode, scales
from distill.dataset.reader import Dataset
from distill.dataset.schema import ShardArrays
from distill.dataset.shards import load_shard
from distill.dataset.writer import DatasetWriter
from distill.errors import UserError
from distill.records.dataset import Identity
from distill.system.files import read_json, sha256

Shards = tuple[Path, list[ShardArrays]]


def test_every_field_of_a_shard_comes_back(three_shards: Shards) -> None:
    folder, shards = three_shards
    for number, written in enumerate(shards):
        read = load_shard(folder / "shards" / f"a-{number:05d}", verify=True)
        assert read.carries is written.carries is None
        for name, value in vars(written).items():
            if name == "carries":
                continue
            got = getattr(read, name)
            assert got.dtype == value.dtype, name
            np.testing.assert_array_equal(got, value, err_msg=name)


def test_absent_fields_stay_absent(
    tmp_path: Path, open_writer: Any, make_arrays: Any, facts: Any, identity: Identity
) -> None:
    plain = Identity(**{**vars(identity), "jacobian": "none", "k": 0})
    arrays = make_arrays(4)
    arrays.value = arrays.v = arrays.jacobian = arrays.row_scale = arrays.gain = None
    folder = open_writer(tmp_path / "data", identity=plain).commit(arrays, facts(1))
    read = load_shard(folder)
    assert [read.value, read.v, read.jacobian, read.row_scale, read.gain] == [None] * 5
    assert not (folder / "jacobian.npy").exists()
    dataset = Dataset(tmp_path / "data")
    assert not dataset.has_jacobian
    with pytest.raises(UserError, match="stores no derivatives"):
        dataset.jacobian(np.array([0]))


def test_dataset_is_its_shards_in_order(three_shards: Shards) -> None:
    folder, shards = three_shards
    dataset = Dataset(folder, verify=True)
    assert len(dataset) == 37
    for name in ("logits", "action", "t", "v", "value", "episode"):
        want = np.concatenate([getattr(arrays, name) for arrays in shards])
        np.testing.assert_array_equal(getattr(dataset, name), want, err_msg=name)
    assert dataset.jacobian_scale == pytest.approx(3 * 1.5 / 37)


def test_stacks_are_four_frames_up_to_the_state(three_shards: Shards) -> None:
    folder, shards = three_shards
    stacks = Dataset(folder).stacks(np.array([36, 0, 5, 34]))
    for stack, (shard, state) in zip(stacks, [(2, 1), (0, 0), (1, 0), (1, 29)], strict=True):
        np.testing.assert_array_equal(stack, shards[shard].frames[10 * state : 10 * state + 4])


def test_jacobian_gathers_across_shards_in_any_order(three_shards: Shards) -> None:
    folder, shards = three_shards
    dataset = Dataset(folder)
    index = np.array([36, 2, 15, 35, 2, 4, 5])
    places = [(2, 1), (0, 2), (1, 10), (2, 0), (0, 2), (0, 4), (1, 0)]
    batch = dataset.jacobian(index)
    for row, (shard, state) in enumerate(places):
        arrays = shards[shard]
        assert arrays.jacobian is not None
        assert arrays.row_scale is not None
        assert arrays.gain is not None
        np.testing.assert_array_equal(batch.codes[row], arrays.jacobian[state])
        worth = scales(arrays.row_scale[state : state + 1], arrays.gain[state : state + 1], "int8")[0]
        np.testing.assert_array_equal(batch.scale[row], worth)


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_derivatives_decode_to_what_was_encoded(
    tmp_path: Path, open_writer: Any, make_arrays: Any, facts: Any, identity: Identity, codec: str
) -> None:
    arrays: ShardArrays = make_arrays(3)
    rows = np.random.default_rng(5).standard_normal((3, 2, 4, 84, 84)).astype(np.float32)
    encoded = encode(rows, codec)
    arrays.jacobian, arrays.row_scale, arrays.gain = encoded.codes, encoded.row_scale, encoded.gain
    open_writer(tmp_path / "data", identity=Identity(**{**vars(identity), "codec": codec})).commit(arrays, facts(1))
    batch = Dataset(tmp_path / "data").jacobian(np.array([2, 0]))
    assert batch.codes.dtype == CODECS[codec]
    got = batch.codes.astype(np.float32) * batch.scale[..., None]
    np.testing.assert_allclose(got, decode(encoded, codec)[[2, 0]], rtol=1e-6)


def test_record_holds_size_and_checksum_of_every_file(three_shards: Shards) -> None:
    folder, _ = three_shards
    shard = folder / "shards" / "a-00001"
    record = read_json(shard / "shard.json", "shard record")
    assert (record["states"], record["frames"], record["next_episode"]) == (30, 303, 2)
    assert set(record["files"]) == {path.name for path in shard.iterdir()} - {"shard.json"}
    for name, facts in record["files"].items():
        assert facts == {"bytes": (shard / name).stat().st_size, "sha256": sha256(shard / name)}


def test_frames_take_less_room_than_pixels(
    tmp_path: Path, open_writer: Any, make_arrays: Callable[..., ShardArrays], facts: Any
) -> None:
    arrays = make_arrays(10)
    arrays.frames[:] = 87
    folder = open_writer(tmp_path / "data").commit(arrays, facts(1))
    assert (folder / "steps.safetensors").stat().st_size < arrays.frames.nbytes / 2


def test_jacobian_is_an_ordinary_npy_file(three_shards: Shards) -> None:
    folder, shards = three_shards
    np.testing.assert_array_equal(np.load(folder / "shards" / "a-00000" / "jacobian.npy"), shards[0].jacobian)


def test_writer_counts_what_it_has(three_shards: Shards, open_writer: Callable[..., DatasetWriter]) -> None:
    writer = open_writer(three_shards[0])
    assert (writer.states, writer.next_episode, len(writer.shards)) == (37, 3, 3)
