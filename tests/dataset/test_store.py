from __future__ import annotations

import ctypes
import errno
import re
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.dataset import reader, store
from distill.dataset.reader import Dataset
from distill.dataset.schema import ShardArrays
from distill.dataset.store import check_copies
from distill.errors import UserError
from distill.records.dataset import Identity

Shards = tuple[Path, list[ShardArrays]]
INDEX = np.array([36, 0, 5, 34, 5])


class Advice:
    """Stands in for libc: what the kernel was told."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def madvise(self, address: ctypes.c_void_p, size: ctypes.c_size_t, advice: int) -> int:
        assert address.value is not None
        self.asked.append((address.value, size.value, advice))
        return int(ctypes.CDLL(None).madvise(address, size, advice))


@pytest.fixture
def advice(monkeypatch: pytest.MonkeyPatch) -> Advice:
    libc = Advice()
    monkeypatch.setattr(store, "_libc", lambda: libc)
    return libc


def test_mapped_frames_are_the_same_frames(three_shards: Shards) -> None:
    folder, _ = three_shards
    held, mapped = Dataset(folder), Dataset(folder, mapped=True)
    np.testing.assert_array_equal(mapped.frames, held.frames)
    np.testing.assert_array_equal(mapped.stacks(INDEX), held.stacks(INDEX))
    for field in ("codes", "scale"):
        np.testing.assert_array_equal(getattr(mapped.jacobian(INDEX), field), getattr(held.jacobian(INDEX), field))
    assert Dataset(folder, verify=True, mapped=True).mapped


def test_the_copy_is_made_once(three_shards: Shards) -> None:
    folder, _ = three_shards
    Dataset(folder, mapped=True)
    copies = list((folder / "cache").iterdir())
    before = [copy.stat().st_mtime_ns for copy in copies]
    Dataset(folder, mapped=True)
    assert [copy.stat().st_mtime_ns for copy in copies] == before
    assert len(copies) == 2  # frames and row scales


def test_a_dataset_that_grew_gets_a_new_copy(
    three_shards: Shards, open_writer: Any, make_arrays: Any, facts: Any
) -> None:
    folder, _ = three_shards
    old = Dataset(folder, mapped=True)
    before = old.frames.copy()
    writer = open_writer(folder)
    writer.commit(make_arrays(4, 9, episode=3), facts(4))
    grown = Dataset(folder, mapped=True)
    assert len(grown) == 41
    np.testing.assert_array_equal(grown.frames, Dataset(folder).frames)
    np.testing.assert_array_equal(grown.jacobian(INDEX).scale, Dataset(folder).jacobian(INDEX).scale)
    assert len(list((folder / "cache").iterdir())) == 2
    np.testing.assert_array_equal(old.frames, before)  # who still uses the old copy keeps it


@pytest.mark.parametrize("name", ["frames", "row_scale"])
def test_a_damaged_copy_is_made_again(three_shards: Shards, name: str) -> None:
    folder, _ = three_shards
    Dataset(folder, mapped=True)
    (copy,) = (folder / "cache").glob(f"{name}-*.npy")
    copy.write_bytes(copy.read_bytes()[:5000])
    np.testing.assert_array_equal(getattr(Dataset(folder, mapped=True), name), getattr(Dataset(folder), name))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["frames", "row_scale"])
@pytest.mark.parametrize("place", [128, 5000, -40, -1], ids=["first", "middle", "last", "checksum"])
def test_a_flipped_bit_is_noticed(three_shards: Shards, name: str, place: int) -> None:
    folder, _ = three_shards
    Dataset(folder, mapped=True)
    assert check_copies(folder) == 2
    (copy,) = (folder / "cache").glob(f"{name}-*.npy")
    good = copy.read_bytes()
    flip(copy, place)
    with pytest.raises(UserError, match=rf"{name}-\w+\.npy does not match its checksum; delete it"):
        check_copies(folder)
    with pytest.raises(UserError, match=rf"{name}-\w+\.npy did not match its checksum.* is removed"):
        Dataset(folder, verify=True, mapped=True)
    Dataset(folder, verify=True, mapped=True)
    assert copy.read_bytes() == good


def test_an_unused_copy_does_not_matter_but_for_its_check(three_shards: Shards) -> None:
    folder, _ = three_shards
    assert check_copies(folder) == 0
    Dataset(folder, mapped=True)
    flip(next((folder / "cache").glob("frames-*.npy")), 999)
    Dataset(folder, verify=True)
    Dataset(folder, mapped=True)


@pytest.mark.parametrize(
    "array",
    [np.zeros((40, 84, 84), np.int8), np.zeros((40, 84 * 84), np.uint8), np.zeros((84, 84, 40), np.uint8, order="F")],
    ids=["dtype", "shape", "order"],
)
def test_a_copy_with_another_header_is_made_again(
    three_shards: Shards, array: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = three_shards
    Dataset(folder, mapped=True)
    assert "made again" not in capsys.readouterr().out
    (copy,) = (folder / "cache").glob("frames-*.npy")
    size = copy.stat().st_size
    np.save(copy, array)
    with copy.open("ab") as file:
        file.truncate(size)
    np.testing.assert_array_equal(Dataset(folder, mapped=True).frames, Dataset(folder).frames)
    assert "it is made again" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("error", [None, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_room_cannot_be_reserved_it_is_written(
    three_shards: Shards, error: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, start: int, size: int) -> None:
        raise OSError(error, "not here")

    if error is None:
        monkeypatch.delattr(store.os, "posix_fallocate")
    else:
        monkeypatch.setattr(store.os, "posix_fallocate", refuse)
    folder, _ = three_shards
    np.testing.assert_array_equal(Dataset(folder, mapped=True).frames, Dataset(folder).frames)
    assert check_copies(folder) == 2


@pytest.mark.parametrize("reserves", [True, False])
def test_no_room_for_a_copy(three_shards: Shards, reserves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on file sizes gives the same error at the same calls as a disk without room."""
    if not reserves:
        monkeypatch.delattr(store.os, "posix_fallocate")
    folder, _ = three_shards
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            Dataset(folder, mapped=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert re.search(r"cache/frames-\w+\.npy$", caught.value.filename)
    assert list((folder / "cache").iterdir()) == []


def test_a_killed_copy_leaves_no_copy(three_shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checksum is in the file before the file has its name."""
    folder, _ = three_shards
    digest = store._digest

    def killed(file: Any, size: int) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_digest", killed)
    with pytest.raises(KeyboardInterrupt):
        Dataset(folder, mapped=True)
    assert list((folder / "cache").iterdir()) == []
    monkeypatch.setattr(store, "_digest", digest)
    Dataset(folder, mapped=True)
    assert check_copies(folder) == 2


def test_a_dataset_without_derivatives_is_mapped_too(
    tmp_path: Path, open_writer: Any, make_arrays: Any, facts: Any, identity: Identity
) -> None:
    arrays = make_arrays(9, 0)
    arrays.jacobian = arrays.v = arrays.row_scale = arrays.gain = None
    plain = Identity(**{**vars(identity), "jacobian": "none", "k": 0})
    open_writer(tmp_path / "plain", identity=plain).commit(arrays, facts(1))
    dataset = Dataset(tmp_path / "plain", mapped=True)
    assert dataset.row_scale is None
    assert not dataset.has_jacobian
    np.testing.assert_array_equal(dataset.frames, arrays.frames)


def test_nothing_is_asked_for_where_all_is_in_memory(three_shards: Shards, advice: Advice) -> None:
    Dataset(three_shards[0]).ask_for(INDEX)
    assert advice.asked == []


def test_mapped_frames_are_asked_for(three_shards: Shards, advice: Advice) -> None:
    dataset = Dataset(three_shards[0], mapped=True)
    dataset.ask_for(INDEX)
    base, frame = dataset.frames.ctypes.data, 84 * 84
    assert len(advice.asked) == len(INDEX)
    for state, (address, size, _) in zip(INDEX, advice.asked, strict=True):
        assert address % 4096 == 0
        assert address <= base + (dataset.pos[state] - 3) * frame
        assert address + size == base + (dataset.pos[state] + 1) * frame


def test_derivatives_that_outgrow_memory_are_asked_for(
    three_shards: Shards, advice: Advice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "memory_size", lambda: 10_000)
    dataset = Dataset(three_shards[0])
    dataset.ask_for(INDEX)
    assert len(advice.asked) == len(INDEX)
    assert all(2 * 4 * 84 * 84 <= size < 2 * 4 * 84 * 84 + 4096 for _, size, _ in advice.asked)
    advice.asked.clear()
    dataset.ask_for(INDEX, carrying=0)
    assert advice.asked == []
