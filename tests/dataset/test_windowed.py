"""A dataset in windows reads what a dataset in memory reads, holds no more than its slots, and notices damage."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from distill.config.config import Config
from distill.config.stages import collect
from distill.dataset.reader import Dataset
from distill.dataset.schema import ShardArrays
from distill.dataset.split import split_by_episode
from distill.dataset.windowed import WindowedDataset
from distill.errors import UserError

COLUMNS = ("pos", "episode", "t", "action", "ends_game", "logits", "value", "carries", "v", "gain", "shard_starts")


@pytest.fixture(params=["pong_data", "pong_quarter"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    source: Path = request.getfixturevalue(request.param)
    return Path(shutil.copytree(source, tmp_path / "data", ignore=shutil.ignore_patterns("cache")))


def spoil(path: Path) -> None:
    """Change a byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def compare(windowed: Dataset, whole: Dataset, index: np.ndarray) -> None:
    np.testing.assert_array_equal(windowed.stacks(index), whole.stacks(index))
    carrying = index[whole.carries[index]]
    for name in ("codes", "scale"):
        got, want = (getattr(data.jacobian(carrying), name) for data in (windowed, whole))
        np.testing.assert_array_equal(got, want)


def test_it_reads_what_is_read_from_memory(folder: Path) -> None:
    whole, windowed = Dataset(folder), WindowedDataset(folder, 2)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(windowed, name), getattr(whole, name), err_msg=name)
    assert (len(windowed), windowed.digest, windowed.task) == (len(whole), whole.digest, whole.task)
    assert windowed.jacobian_scale == whole.jacobian_scale
    assert windowed.distinct_games == whole.distinct_games
    for mine, its in zip(split_by_episode(windowed, 0.3, 1), split_by_episode(whole, 0.3, 1), strict=True):
        np.testing.assert_array_equal(mine, its)
    index = np.random.default_rng(0).permutation(len(whole))[:80]
    compare(windowed, whole, index)  # of shards that nobody asked to hold
    for wanted in ([0, 3], [3, 1], [4], []):
        windowed.want(wanted)
        compare(windowed, whole, index)


def test_a_shard_may_have_no_derivatives_at_all(make_config: Callable[..., Config], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    collected = {"states": 240, "num_envs": 4, "shard_states": 24, "jacobian_share": 0.03}
    collect(make_config(collect={"out": str(folder), **collected}))
    whole, windowed = Dataset(folder), WindowedDataset(folder, 2)
    rows = [record.rows for record in whole.records]
    assert 0 in rows
    assert any(rows)
    windowed.want([rows.index(0), rows.index(max(rows))])
    compare(windowed, whole, np.arange(len(whole)))


def test_what_is_kept_is_what_is_read(folder: Path) -> None:
    whole, windowed = Dataset(folder), WindowedDataset(folder, 2)
    index = np.array([500, 3, 77, 301, 77, 0])
    windowed.keep(index)
    compare(windowed, whole, index)
    for path in (folder / "shards").glob("*/*"):
        path.unlink()
    compare(windowed, whole, index[2:5])  # needs no file any more


def test_no_more_than_the_slots_are_held(folder: Path) -> None:
    windowed = WindowedDataset(folder, 2)
    for wanted in ([0, 1, 2, 3], [3, 4], [1, 2, 4]):
        windowed.want(wanted)
        assert len(windowed._windows._held) == 2
        assert set(windowed._windows._held) <= set(wanted)
    held = windowed._windows._frames
    assert len(held) == 2 * max(record.frames for record in windowed.records)


def test_memory_is_taken_for_the_shards_that_are_wanted(folder: Path) -> None:
    """Of a process that holds a part of the data, not for all shards."""
    whole, windowed = Dataset(folder), WindowedDataset(folder, 10**6)
    index, longest = np.arange(len(whole)), max(record.frames for record in whole.records)
    for wanted in ([1, 3], [3], [1, 2, 3]):  # three are more than two, so that all are read anew
        windowed.want(wanted)
        compare(windowed, whole, index)
    assert len(windowed._windows._frames) == 3 * longest


def test_what_is_held_may_change_while_another_thread_reads(folder: Path) -> None:
    whole, windowed = Dataset(folder), WindowedDataset(folder, 2)
    index, stop = np.random.default_rng(0).permutation(len(whole))[:60], threading.Event()

    def slide() -> None:
        for number in itertools.count():
            if stop.is_set():
                break
            windowed.want([number % 5, (number + 1) % 5])

    with ThreadPoolExecutor(1) as pool:
        sliding = pool.submit(slide)
        try:
            for _ in range(40):
                compare(windowed, whole, index)
        finally:
            stop.set()
        sliding.result()


def test_memory_of_the_index_is_let_go(folder: Path) -> None:
    windowed = WindowedDataset(folder, 1)
    before = windowed.logits.copy()
    for number in range(5):
        windowed.want([number])
        np.testing.assert_array_equal(windowed.logits, before)


def test_a_second_opening_reads_no_shard(folder: Path) -> None:
    first = WindowedDataset(folder, 2)
    games = first.distinct_games
    for path in (folder / "shards").glob("*-0000[1-4]/*.*"):
        if path.name != "shard.json":
            path.unlink()
    second = WindowedDataset(folder, 2)
    np.testing.assert_array_equal(second.episode, first.episode)
    assert second.distinct_games == games
    second.want([2])
    with pytest.raises(UserError, match=r"is missing; restore it from a copy"):
        second.stacks(np.array([second.shard_starts[2]]))


@pytest.mark.parametrize("name", ["steps.safetensors", "jacobian.npy"])
def test_damage_is_noticed_when_a_shard_is_first_held(folder: Path, name: str) -> None:
    WindowedDataset(folder, 2)
    spoil(folder / "shards" / "teacher-00003" / name)
    windowed = WindowedDataset(folder, 2, verify=True)
    windowed.want([2])
    windowed.stacks(np.array([windowed.shard_starts[2]]))
    windowed.want([2, 3])
    with pytest.raises(UserError, match=rf"teacher-00003/{name} does not match its checksum"):
        windowed.stacks(np.array([windowed.shard_starts[3]]))


def test_damage_is_noticed_when_the_index_is_made_or_read(folder: Path) -> None:
    WindowedDataset(folder, 2)
    (index,) = (folder / "cache").glob("index-*.npy")
    spoil(index)
    with pytest.raises(UserError, match="did not match its checksum: the disk has damaged it"):
        WindowedDataset(folder, 2, verify=True)
    spoil(folder / "shards" / "teacher-00001" / "steps.safetensors")
    with pytest.raises(UserError, match=r"teacher-00001/steps\.safetensors does not match its checksum"):
        WindowedDataset(folder, 2, verify=True)
    assert not list((folder / "cache").glob("index-*.npy"))


def test_pixels_that_are_not_held_have_a_checksum_of_their_own(three_shards: tuple[Path, list[ShardArrays]]) -> None:
    folder, _ = three_shards
    windowed = WindowedDataset(folder, 2)
    path = folder / "shards" / "a-00001" / "steps.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 255  # noise: nearly all of the file is frames
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a-00001 is damaged .*run `distill verify`"):
        windowed.stacks(np.arange(5, 35))


def test_a_shard_of_another_kind_is_refused(
    three_shards: tuple[Path, list[ShardArrays]], open_writer: Callable, make_arrays: Callable, facts: Callable
) -> None:
    folder, _ = three_shards
    writer, other = open_writer(folder, "b"), make_arrays(6, 9)
    other.value = None
    writer.commit(other, facts(1))
    with pytest.raises(UserError, match=r"b-00000 does not belong with the shards before it.*its value are"):
        WindowedDataset(folder, 2)


def test_a_copied_shard_is_refused(folder: Path) -> None:
    shutil.copytree(folder / "shards" / "teacher-00000", folder / "shards" / "teacher-00005")
    with pytest.raises(UserError, match="shard teacher-00005 holds the same games as teacher-00000"):
        WindowedDataset(folder, 2)
