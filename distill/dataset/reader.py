"""Reading a dataset: frames in memory, Jacobians memory-mapped, any state at random."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import zstandard
from safetensors import SafetensorError
from safetensors.numpy import load

from distill.dataset.codec import scales
from distill.dataset.schema import FRAMES_PER_CHUNK, STACK, ShardArrays, read_identity
from distill.dataset.store import mapped_copy, memory_size, will_need
from distill.errors import UserError
from distill.files import read_json, sha256

FRAME = (84, 84)
GAME_BITS = 40
GAME_MASK = (1 << GAME_BITS) - 1


def committed_shards(folder: Path) -> dict[str, list[Path]]:
    """Committed shards of every writer, in order.

    Raises:
        UserError: a shard that was committed is missing.
    """
    # Counts before shards: a writer at work commits a shard first and counts it then.
    records = {path.stem: read_json(path, "writer record", "shards") for path in folder.glob("writers/*.json")}
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in folder.glob("shards/*/shard.json"):
        match = re.fullmatch(r"(.+)-(\d{5})", path.parent.name)
        if match:
            found[match[1]][int(match[2])] = path.parent
    for writer, counted in records.items():
        missing = sorted(set(range(int(counted["shards"]))) - set(found[writer]))
        if missing:
            raise UserError(
                f"{folder} has lost shard {writer}-{missing[0]:05d}: it was committed and is gone; "
                "restore it from a copy or collect into a new folder"
            )
    for writer, shards in found.items():
        missing = sorted(set(range(max(shards, default=-1) + 1)) - set(shards))
        if missing:
            raise UserError(f"{folder} has lost shard {writer}-{missing[0]:05d}; restore it from a copy")
    return {writer: [shards[n] for n in sorted(shards)] for writer, shards in sorted(found.items()) if shards}


def read_record(shard: Path) -> dict[str, Any]:
    """The shard.json of a committed shard."""
    record: dict[str, Any] = read_json(
        shard / "shard.json", "shard record", "states", "frames", "files", "next_episode", "jacobian_square_sum"
    )
    return record


def load_shard(
    folder: Path,
    *,
    jacobian: bool = True,
    verify: bool = False,
    frames: npt.NDArray[np.uint8] | None = None,
    decompress: bool = True,
) -> ShardArrays:
    """One shard's arrays; the Jacobian is a memory map.

    Args:
        folder: the shard.
        jacobian: map the Jacobian too.
        verify: compare every file's SHA-256 with shard.json.
        frames: where to decompress the frames to, (P, 84, 84); by default into new memory.
        decompress: False where ``frames`` already holds them.

    Raises:
        UserError: a file is missing, has another size, or is damaged.
    """
    record = read_record(folder)
    for name, facts in record["files"].items():
        _check_file(folder / name, facts, verify)
    try:
        tensors = load((folder / "steps.safetensors").read_bytes())
        offsets, blob = tensors.pop("frames_offsets"), tensors.pop("frames_zstd")
        frames = np.empty((record["frames"], *FRAME), np.uint8) if frames is None else frames
        decompressor = zstandard.ZstdDecompressor()
        for index in range(len(offsets) - 1 if decompress else 0):
            chunk = decompressor.decompress(blob[offsets[index] : offsets[index + 1]].tobytes())
            start = index * FRAMES_PER_CHUNK
            part = frames[start : start + FRAMES_PER_CHUNK]
            part[:] = np.frombuffer(chunk, np.uint8).reshape(part.shape)
        mapped = None
        if jacobian and "jacobian.npy" in record["files"]:
            mapped = np.load(folder / "jacobian.npy", mmap_mode="r")
        arrays = ShardArrays(frames=frames, jacobian=mapped, **tensors)
    except (SafetensorError, zstandard.ZstdError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is damaged ({error}); run `distill verify` on its dataset") from error
    if len(arrays) != record["states"] or (len(arrays) and int(arrays.pos.max()) >= len(frames)):
        raise UserError(f"{folder} is damaged: its arrays do not fit its record; run `distill verify`")
    return arrays


def _check_file(path: Path, facts: dict[str, Any], verify: bool) -> None:
    if not path.is_file():
        raise UserError(f"{path} is missing; restore it from a copy or collect into a new folder")
    size = path.stat().st_size
    if size != facts["bytes"]:
        raise UserError(f"{path} has {size} bytes, not {facts['bytes']}; it is damaged")
    if verify and sha256(path) != facts["sha256"]:
        raise UserError(f"{path} does not match its checksum; it is damaged, restore it from a copy")


@dataclass
class JacobianBatch:
    """Stored derivatives of a batch, still compressed."""

    codes: npt.NDArray[np.generic]
    """int8 or float16 (B, R, 4, 84, 84)."""
    scale: npt.NDArray[np.float32]
    """float32 (B, R, 4, 84): what one unit of code is worth."""


class Dataset:
    """All states of a dataset folder, indexed 0..len - 1.

    Args:
        folder: dataset folder.
        jacobian: make Jacobians available.
        verify: check every checksum first.
        mapped: map what is large from uncompressed copies in the folder (made once) and hold none of it in memory.

    Raises:
        UserError: no dataset, a lost shard, or damage.
    """

    def __init__(
        self, folder: str | Path, *, jacobian: bool = True, verify: bool = False, mapped: bool = False
    ) -> None:
        self.folder = Path(folder)
        self.mapped = mapped
        self.identity, self.manifest = read_identity(self.folder)
        writers = committed_shards(self.folder)
        self.shards = [path for paths in writers.values() for path in paths]
        if not self.shards:
            raise UserError(f"{self.folder} holds no complete shard yet; run `distill collect` to its end")
        self.records = [read_record(path) for path in self.shards]
        frame_starts = np.cumsum([0, *(record["frames"] for record in self.records)])
        places = {path: slice(first, last) for path, (first, last) in
                  zip(self.shards, itertools.pairwise(frame_starts), strict=True)}  # fmt: skip
        self.frames = self._mapped_frames(places) if mapped else np.empty((int(frame_starts[-1]), *FRAME), np.uint8)
        self._starts = np.cumsum([0, *(record["states"] for record in self.records)])
        self.row_scale: npt.NDArray[np.float16] | None = None
        parts: list[ShardArrays] = []
        for number, (path, place) in enumerate(places.items()):
            frames = self.frames[place]
            part = load_shard(path, jacobian=jacobian, verify=verify, frames=frames, decompress=not mapped)
            self._keep_scale(number, part)
            parts.append(part)
        self._rows = torch.from_numpy(self.frames).view(len(self.frames), -1)
        self.pos = np.concatenate([part.pos + start for part, start in zip(parts, frame_starts, strict=False)])
        # Game numbers are unique within a writer; the writer's index makes them unique overall.
        self.writers = list(writers)
        owner = [index for index, paths in enumerate(writers.values()) for _ in paths]
        self.writer = np.repeat(owner, [len(part) for part in parts])
        self.episode = np.concatenate([part.episode for part in parts]) + (self.writer << GAME_BITS)
        self.t = np.concatenate([part.t for part in parts])
        self.action = np.concatenate([part.action for part in parts])
        self.ends_game = np.concatenate([part.terminated | part.truncated for part in parts])
        self.logits = np.concatenate([part.logits for part in parts])
        self.value = _joined([part.value for part in parts])
        self.v = _joined([part.v for part in parts])
        # A memory map costs ten times as much to index as the plain array over it.
        self.jacobians = [None if part.jacobian is None else np.asarray(part.jacobian) for part in parts]
        self._outgrows_memory = sum(part.nbytes for part in self.jacobians if part is not None) > memory_size() / 2
        self.gain = _joined([part.gain for part in parts])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def has_jacobian(self) -> bool:
        """True where derivatives are stored (projected or full)."""
        return self.gain is not None and self.jacobians[0] is not None

    @property
    def jacobian_scale(self) -> float:
        """s: mean over all states and rows of ||J_T^T v||^2, from the shards' records."""
        total = sum(float(record["jacobian_square_sum"]) for record in self.records)
        return total / len(self)

    def stacks(self, index: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """Observations uint8 (B, 4, 84, 84), exactly as the teacher saw them."""
        rows = (self.pos[index][:, None] + np.arange(1 - STACK, 1)).ravel()
        # torch's index_select works with all threads, and lets Python's other threads run.
        return torch.index_select(self._rows, 0, torch.from_numpy(rows)).view(-1, STACK, *FRAME).numpy()

    def jacobian(self, index: npt.NDArray[np.integer[Any]]) -> JacobianBatch:
        """Stored derivatives of a batch of states; the dataset must have them."""
        first = self.jacobians[0]
        if self.gain is None or self.row_scale is None or first is None:
            raise UserError(f"{self.folder} stores no derivatives; collect with --collect.jacobian=projected")
        codes = np.empty((len(index), *first.shape[1:]), first.dtype)
        for place, (shard, row) in enumerate(self._places(index)):
            part = self.jacobians[shard]
            assert part is not None
            codes[place] = part[row]
        return JacobianBatch(codes, scales(self.row_scale[index], self.gain[index], self.identity.codec))

    def ask_for(self, index: npt.NDArray[np.integer[Any]], *, derivatives: bool = True) -> None:
        """Have the kernel read what these states need from disk, where it cannot all be in memory; does not wait."""
        if self.mapped:
            frame = self._rows.shape[1]
            for pos in self.pos[index].tolist():
                will_need(self.frames, (pos + 1 - STACK) * frame, STACK * frame)
        if derivatives and self._outgrows_memory:
            for shard, row in self._places(index):
                part = self.jacobians[shard]
                assert part is not None
                will_need(part, row * part[0].nbytes, part[0].nbytes)

    def _keep_scale(self, shard: int, part: ShardArrays) -> None:
        """Move a shard's row scales, which are large, to where those of all shards are."""
        scale, part.row_scale = part.row_scale, None
        if scale is None:
            return
        if self.mapped:
            self.row_scale = self._mapped_scales(scale.shape[1:]) if self.row_scale is None else self.row_scale
            return
        if self.row_scale is None:
            self.row_scale = np.empty((len(self), *scale.shape[1:]), np.float16)
        self.row_scale[self._starts[shard] : self._starts[shard + 1]] = scale

    def _mapped_frames(self, places: dict[Path, slice]) -> npt.NDArray[np.uint8]:
        def fill(frames: npt.NDArray[Any]) -> None:
            for path, place in places.items():
                load_shard(path, jacobian=False, frames=frames[place])

        shape = (int(max(place.stop for place in places.values())), *FRAME)
        return mapped_copy(self.folder, "frames", self._contents, shape, np.uint8, fill)

    def _mapped_scales(self, shape: tuple[int, ...]) -> npt.NDArray[np.float16]:
        def fill(row_scale: npt.NDArray[Any]) -> None:
            for path, (first, last) in zip(self.shards, itertools.pairwise(self._starts), strict=True):
                row_scale[first:last] = load_shard(path, jacobian=False, decompress=False).row_scale

        return mapped_copy(self.folder, "row_scale", self._contents, (len(self), *shape), np.float16, fill)

    @property
    def _contents(self) -> list[str]:
        """What the copies are copies of."""
        return [record["files"]["steps.safetensors"]["sha256"] for record in self.records]

    def _places(self, index: npt.NDArray[np.integer[Any]]) -> Iterator[tuple[int, int]]:
        """(shard, row in it) of every state."""
        owner = np.searchsorted(self._starts, index, side="right") - 1
        return zip(owner.tolist(), (index - self._starts[owner]).tolist(), strict=True)


def _joined(parts: list[Any]) -> Any:
    """All shards' arrays end to end, or None for a field this dataset does not store."""
    return None if parts[0] is None else np.concatenate(parts)
