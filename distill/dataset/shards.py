"""Shards on disk: which there are, their records, and their arrays."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zstandard
from safetensors import SafetensorError
from safetensors.numpy import load

from distill.dataset.large import check_file, refuse_nan, unlike_others
from distill.dataset.schema import FRAME, FRAMES_PER_CHUNK, ShardArrays, read_manifest
from distill.errors import UserError
from distill.records.dataset import Identity, ShardRecord, read_shard, read_writer
from distill.system.files import check_folders

FINITE = ("logits", "value", "v", "gain", "row_scale", "jacobian", "reward")


def committed_shards(folder: Path) -> dict[str, list[Path]]:
    """Committed shards of every writer, in order.

    Raises:
        UserError: a shard that was committed is missing.
    """
    check_folders(folder)
    # Counts before shards: a writer at work commits a shard first and counts it then.
    records = {path.stem: read_writer(path) for path in folder.glob("writers/*.json")}
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in folder.glob("shards/*/shard.json"):
        match = re.fullmatch(r"(.+)-(\d{5})", path.parent.name)
        if match:
            found[match[1]][int(match[2])] = path.parent
    for writer, counted in records.items():
        missing = sorted(set(range(counted.shards)) - set(found[writer]))
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


def read_record(shard: Path) -> ShardRecord:
    """The shard.json of a committed shard."""
    return read_shard(shard / "shard.json")


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
    for name, mark in record.files.items():
        check_file(folder / name, mark, verify)
    try:
        tensors = load((folder / "steps.safetensors").read_bytes())
        offsets, blob = tensors.pop("frames_offsets"), tensors.pop("frames_zstd")
        frames = np.empty((record.frames, *FRAME), np.uint8) if frames is None else frames
        decompressor = zstandard.ZstdDecompressor()
        for index in range(len(offsets) - 1 if decompress else 0):
            chunk = decompressor.decompress(blob[offsets[index] : offsets[index + 1]].tobytes())
            start = index * FRAMES_PER_CHUNK
            part = frames[start : start + FRAMES_PER_CHUNK]
            part[:] = np.frombuffer(chunk, np.uint8).reshape(part.shape)
        mapped = None
        if jacobian and "jacobian.npy" in record.files:
            mapped = np.load(folder / "jacobian.npy", mmap_mode="r")
        arrays = ShardArrays(frames=frames, jacobian=mapped, **tensors)
    except (SafetensorError, zstandard.ZstdError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is damaged ({error}); run `distill verify` on its dataset") from error
    fits = (len(arrays), arrays.rows) == (record.states, record.rows)
    if not fits or (len(arrays) and int(arrays.pos.max()) >= len(frames)):
        raise UserError(f"{folder} is damaged: its arrays do not fit its record; run `distill verify`")
    return arrays


def folder_digest(folder: Path) -> str:
    """``Dataset.digest`` of a folder, without reading its arrays.

    Raises:
        UserError: no dataset, or one with a lost shard or a damaged record.
    """
    shards = [path for paths in committed_shards(folder).values() for path in paths]
    return contents_digest(read_manifest(folder).identity, {path.name: read_record(path) for path in shards})


def contents_digest(identity: Identity, records: Mapping[str, ShardRecord]) -> str:
    """SHA-256 over what a dataset is and every byte of its shards, from their records by name."""
    files = {shard: {name: vars(mark) for name, mark in record.files.items()} for shard, record in records.items()}
    return hashlib.sha256(json.dumps([identity.to_dict(), files], sort_keys=True).encode()).hexdigest()


def refuse_not_finite(where: Path, arrays: ShardArrays) -> None:
    """``refuse_nan`` of all labels."""
    for name in FINITE:
        array = getattr(arrays, name)
        if array is not None and array.dtype.kind == "f":
            refuse_nan(where, name, array)


def refuse_other_arrays(where: Path, arrays: ShardArrays, first: ShardArrays) -> None:
    """Refuse a shard whose states are not all described, or otherwise than those of the dataset's first shard.

    Raises:
        UserError: naming the arrays.
    """
    for name, array in vars(arrays).items():
        if name in ("frames", "row_scale"):  # not one for each state; and where those of all shards are by now
            continue
        wanted = arrays.rows if name in ("v", "jacobian", "gain") else len(arrays)
        other = getattr(first, name)
        found, expected = (None if part is None else (part.shape[1:], part.dtype) for part in (array, other))
        if found != expected or (array is not None and len(array) != wanted):
            raise unlike_others(where, name)
