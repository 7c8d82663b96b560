"""What is large of a shard, read piece by piece: nothing is in memory but what was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard
from safetensors import SafetensorError, safe_open

from distill.dataset.schema import FRAME, FRAMES_PER_CHUNK
from distill.errors import UserError
from distill.records.dataset import FileMark, ShardRecord
from distill.system.files import sha256

Array = npt.NDArray[Any]
LARGE = ("frames_zstd", "row_scale")
"""Tensors that are left in the file."""


class ShardFile:
    """A committed shard.

    Args:
        folder: of the shard.
        record: its shard.json.

    Raises:
        UserError: a file is missing, has another size, or cannot be read.
    """

    def __init__(self, folder: Path, record: ShardRecord) -> None:
        self.folder, self.record = folder, record
        for name, mark in record.files.items():
            check_file(folder / name, mark, verify=False)
        with self._reading():
            steps: Any = safe_open(folder / "steps.safetensors", framework="numpy")
            self._steps = steps
            self._names = list(steps.keys())
            self._offsets = steps.get_tensor("frames_offsets").tolist()

    def check(self, *names: str) -> None:
        """Compare files with their checksums; by default all.

        Raises:
            UserError: one differs.
        """
        for name in names or self.record.files:
            check_file(self.folder / name, self.record.files[name], verify=True)

    def small(self) -> Mapping[str, Array]:
        """Everything but frames and row scales."""
        with self._reading():
            wanted = [name for name in self._names if name not in (*LARGE, "frames_offsets")]
            return {name: self._steps.get_tensor(name) for name in wanted}

    def frames(self, rows: Array, out: Array | None = None) -> Array:
        """uint8 (len(rows), 84, 84): frames of the shard, by number.

        Args:
            rows: which, sorted.
            out: where to; by default new memory.
        """
        out = np.empty((len(rows), *FRAME), np.uint8) if out is None else out
        chunks = rows // FRAMES_PER_CHUNK
        decompressor = zstandard.ZstdDecompressor()
        with self._reading():
            blob = self._steps.get_slice("frames_zstd")
            for chunk in np.unique(chunks).tolist():
                data = decompressor.decompress(blob[self._offsets[chunk] : self._offsets[chunk + 1]].tobytes())
                first, last = np.searchsorted(chunks, (chunk, chunk + 1))
                whole = np.frombuffer(data, np.uint8).reshape(-1, *FRAME)
                wanted = rows[first:last] - chunk * FRAMES_PER_CHUNK
                out[first:last] = whole if len(wanted) == len(whole) else whole[wanted]
        return out

    def all_frames(self, out: Array) -> None:
        """Write all frames to ``out``, uint8 (P, 84, 84)."""
        self.frames(np.arange(self.record.frames), out)

    def row_scale(self, rows: Array | None = None) -> Array:
        """float16 (len(rows), R, 4, 84), by default of all states that carry derivatives."""
        with self._reading():
            if rows is None:
                return np.asarray(self._steps.get_tensor("row_scale"))  # a slice of no rows is an error
            scale = self._steps.get_slice("row_scale")
            return np.concatenate([scale[row : row + 1] for row in rows.tolist()])

    def jacobian(self) -> Array:
        """int8 or float16 (c, R, 4, 84, 84), mapped for as long as the array is kept."""
        with self._reading():
            # A memory map costs ten times as much to index as the plain array over it.
            return np.asarray(np.load(self.folder / "jacobian.npy", mmap_mode="r"))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (SafetensorError, zstandard.ZstdError, ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(f"{self.folder} is damaged ({error}); run `distill verify` on its dataset") from error


def check_file(path: Path, mark: FileMark, verify: bool) -> None:
    """Compare a file's size with what was written down of it, and its checksum too, where asked for.

    Raises:
        UserError: it is missing, or differs.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; restore it from a copy or collect into a new folder")
    size = path.stat().st_size
    if size != mark.bytes:
        raise UserError(f"{path} has {size} bytes, not {mark.bytes}; it is damaged")
    if verify and sha256(path) != mark.sha256:
        raise UserError(f"{path} does not match its checksum; it is damaged, restore it from a copy")


def refuse_nan(where: Path, name: str, labels: Array) -> None:
    """Refuse labels that are NaN or infinite: what compares or averages them would do so in silence.

    Raises:
        UserError: naming the labels.
    """
    # A sum takes no memory, and one NaN or Inf makes it one.
    if not np.isfinite(labels.sum(dtype=np.float64)):
        raise UserError(f"{where}: its {name} are NaN or infinite in some state; such labels teach nothing")


def unlike_others(where: Path, name: str) -> UserError:
    """What a shard is refused with whose arrays are not like those of the others."""
    return UserError(
        f"{where} does not belong with the shards before it, or is damaged: its {name} are of another kind or "
        "number; move it out, or restore it from a copy"
    )
