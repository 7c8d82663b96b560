"""Reading a dataset: frames in memory, Jacobians memory-mapped, any state at random."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard
from safetensors import SafetensorError
from safetensors.numpy import load

from distill.dataset.codec import scales
from distill.dataset.schema import FRAMES_PER_CHUNK, ShardArrays, gather_stacks, read_identity
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


def load_shard(folder: Path, *, jacobian: bool = True, verify: bool = False) -> ShardArrays:
    """One shard's arrays; the Jacobian is a memory map.

    Args:
        folder: the shard.
        jacobian: map the Jacobian too.
        verify: compare every file's SHA-256 with shard.json.

    Raises:
        UserError: a file is missing, has another size, or is damaged.
    """
    record = read_record(folder)
    for name, facts in record["files"].items():
        _check_file(folder / name, facts, verify)
    try:
        tensors = load((folder / "steps.safetensors").read_bytes())
        offsets, blob = tensors.pop("frames_offsets"), tensors.pop("frames_zstd")
        frames = np.empty((record["frames"], *FRAME), np.uint8)
        decompressor = zstandard.ZstdDecompressor()
        for index in range(len(offsets) - 1):
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

    Raises:
        UserError: no dataset, a lost shard, or damage.
    """

    def __init__(self, folder: str | Path, *, jacobian: bool = True, verify: bool = False) -> None:
        self.folder = Path(folder)
        self.identity, self.manifest = read_identity(self.folder)
        writers = committed_shards(self.folder)
        self.shards = [path for paths in writers.values() for path in paths]
        if not self.shards:
            raise UserError(f"{self.folder} holds no complete shard yet; run `distill collect` to its end")
        parts = [load_shard(path, jacobian=jacobian, verify=verify) for path in self.shards]
        self.records = [read_record(path) for path in self.shards]
        self._starts = np.cumsum([0, *map(len, parts)])
        frame_starts = np.cumsum([0, *(len(part.frames) for part in parts)])
        self.frames: npt.NDArray[np.uint8] = np.concatenate([part.frames for part in parts])
        self.pos = np.concatenate([part.pos + start for part, start in zip(parts, frame_starts, strict=False)])
        # Game numbers are unique within a writer; the writer's index makes them unique overall.
        self.writers = list(writers)
        owner = [index for index, paths in enumerate(writers.values()) for _ in paths]
        self.writer = np.repeat(owner, [len(part) for part in parts])
        self.episode = np.concatenate([part.episode for part in parts]) + (self.writer << GAME_BITS)
        self.t = np.concatenate([part.t for part in parts])
        self.action = np.concatenate([part.action for part in parts])
        self.logits = np.concatenate([part.logits for part in parts])
        self.value = _joined([part.value for part in parts])
        self.v = _joined([part.v for part in parts])
        self._jacobians = [part.jacobian for part in parts]
        row_scale, gain = _joined([part.row_scale for part in parts]), _joined([part.gain for part in parts])
        stored = row_scale is not None and gain is not None
        self._scale = scales(row_scale, gain, self.identity.codec) if stored else None

    def __len__(self) -> int:
        return len(self.pos)

    @property
    def has_jacobian(self) -> bool:
        """True where derivatives are stored (projected or full)."""
        return self._scale is not None and self._jacobians[0] is not None

    @property
    def jacobian_scale(self) -> float:
        """s: mean over all states and rows of ||J_T^T v||^2, from the shards' records."""
        total = sum(float(record["jacobian_square_sum"]) for record in self.records)
        return total / len(self)

    def stacks(self, index: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """Observations uint8 (B, 4, 84, 84), exactly as the teacher saw them."""
        return gather_stacks(self.frames, self.pos[index])

    def jacobian(self, index: npt.NDArray[np.integer[Any]]) -> JacobianBatch:
        """Stored derivatives of a batch of states; the dataset must have them."""
        if self._scale is None or self._jacobians[0] is None:
            raise UserError(f"{self.folder} stores no derivatives; collect with --collect.jacobian=projected")
        first = self._jacobians[0]
        codes = np.empty((len(index), *first.shape[1:]), first.dtype)
        owner = np.searchsorted(self._starts, index, side="right") - 1
        for shard in np.unique(owner):
            rows = np.flatnonzero(owner == shard)
            part = self._jacobians[shard]
            assert part is not None
            codes[rows] = part[index[rows] - self._starts[shard]]
        return JacobianBatch(codes, self._scale[index])


def _joined(parts: list[Any]) -> Any:
    """All shards' arrays end to end, or None for a field this dataset does not store."""
    return None if parts[0] is None else np.concatenate(parts)
