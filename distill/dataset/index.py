"""What is small of every state of a dataset, in one mapped file: where it is, its labels, which derivatives it has.

A dataset of ten million states is opened without reading its shards: the file, a copy that is made once
(``cache/index-*.npy``), has the columns one behind the other. Frames and derivatives stay in the shards.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distill.dataset.large import ShardFile, refuse_nan, unlike_others
from distill.dataset.schema import GAME_BITS
from distill.dataset.store import Array, Wanted, mapped_copy
from distill.errors import UserError
from distill.records.dataset import ShardRecord
from distill.system.progress import console

ALIGNED = 64
OF_ROWS = ("v", "gain")
"""Columns with a line for each state that carries derivatives; the others have one for each state."""
KINDS: dict[str, type[np.generic]] = {
    "pos": np.int64, "episode": np.int64, "t": np.int32, "action": np.int16, "ends_game": np.bool_,
    "logits": np.float32, "value": np.float32, "row": np.int64, "v": np.float32, "gain": np.float32,
}  # fmt: skip
LABELS = ("logits", "value", "v", "gain")
MANY = 500
"""Shards from which on making the copy is worth a word."""


@dataclass(frozen=True)
class Column:
    """Where a column lies in the file."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def end(self) -> int:
        """The byte behind it."""
        return self.start + self.dtype.itemsize * math.prod(self.shape)

    def of(self, whole: Array) -> Array:
        """The column, of the file's bytes."""
        return whole[self.start : self.end].view(self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Shards:
    """The shards of a dataset, in order."""

    paths: Sequence[Path]
    records: Sequence[ShardRecord]
    writers: Sequence[int]
    """Number of the writer of each."""
    fetch: Callable[[str], None] | None = None
    """Called with a shard's name before its files are read."""

    def file(self, number: int) -> ShardFile:
        """A shard's file, here by now."""
        if self.fetch is not None:
            self.fetch(self.paths[number].name)
        return ShardFile(self.paths[number], self.records[number])

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """First state, row and frame of each, and behind the last, int64 (shards + 1, 3)."""
        return np.cumsum([(0, 0, 0), *((one.states, one.rows, one.frames) for one in self.records)], 0)


def read_index(folder: Path, shards: Shards, *, verify: bool) -> tuple[Array, dict[str, Array]]:
    """The whole file's bytes, mapped, and in it the columns by name, without those that the dataset does not have.

    Args:
        folder: dataset folder.
        shards: its shards.
        verify: compare the copy with its checksum, and shards with theirs where it has to be made.

    Raises:
        UserError: damage, or a shard of another kind than the first.
    """
    starts = shards.starts

    def fill(whole: Array) -> None:
        if len(shards.paths) >= MANY:
            console.print(f"{folder}: reading {len(shards.paths):,} shards once, for an index of them")

        def one(number: int) -> None:
            file = shards.file(number)
            if verify:
                file.check("steps.safetensors")
            parts = _of_shard(file, starts[number], shards.writers[number])
            for name in {**columns, **parts}:
                first, last = starts[number : number + 2, 1 if name in OF_ROWS else 0]
                mine = columns[name].of(whole)[first:last] if name in columns else None
                _copy(file.folder, name, parts.get(name), mine)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for _ in pool.map(one, range(len(shards.paths))):
                pass

    contents = [record.files["steps.safetensors"].sha256 for record in shards.records]
    columns = _columns(_tails(shards), *starts[-1, :2].tolist())
    size = max(column.end for column in columns.values())
    whole = mapped_copy(folder, contents, Wanted("index", (size,), np.uint8), fill, verify=verify)
    return whole, {name: column.of(whole) for name, column in columns.items()}


def _columns(tails: dict[str, tuple[int, ...]], states: int, rows: int) -> dict[str, Column]:
    """Where each column lies; ``tails`` are shapes of a line of those that there are."""
    columns, start = {}, 0
    for name, tail in tails.items():
        columns[name] = Column(start, (rows if name in OF_ROWS else states, *tail), np.dtype(KINDS[name]))
        start = -(-columns[name].end // ALIGNED) * ALIGNED
    return columns


def _tails(shards: Shards) -> dict[str, tuple[int, ...]]:
    """Shape of a line of every column, as the first shard has it."""
    first = _of_shard(shards.file(0), np.zeros(3, np.int64), 0)
    return {name: values.shape[1:] for name, values in first.items()}


def _of_shard(file: ShardFile, start: npt.NDArray[np.int64], writer: int) -> dict[str, Array]:
    """A shard's part of each column; ``start``: its first state, row and frame."""
    told = file.small()
    record = file.record
    try:
        parts = {
            "pos": told["pos"] + start[2],
            "episode": told["episode"] + (writer << GAME_BITS),
            "ends_game": told["terminated"] | told["truncated"],
            **{name: told[name] for name in ("t", "action", *LABELS) if name in told},
        }
    except KeyError as error:
        raise UserError(f"{file.folder} is damaged: it has no {error}; run `distill verify` on its dataset") from error
    if "carries" in told:
        parts["row"] = np.where(told["carries"], np.cumsum(told["carries"]) - 1 + start[1], -1)
    fits = len(told["pos"]) == record.states and int(told.get("carries", np.ones(record.rows)).sum()) == record.rows
    if not fits or (record.states and int(told["pos"].max()) >= record.frames):
        raise UserError(f"{file.folder} is damaged: its arrays do not fit its record; run `distill verify`")
    for name in LABELS:
        if name in parts:
            refuse_nan(file.folder, name, parts[name])
    return parts


def _copy(folder: Path, name: str, values: Array | None, column: Array | None) -> None:
    """Copy a shard's part of a column, which must be like the column."""
    found, expected = (None if part is None else (part.shape, part.dtype) for part in (values, column))
    if found != expected:
        raise unlike_others(folder, name)
    if column is not None:
        column[:] = values
