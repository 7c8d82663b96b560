"""What occurs twice: shards, games and states."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from distill.dataset.schema import STACK, ShardArrays

if TYPE_CHECKING:
    from distill.dataset.reader import Dataset

Index = npt.NDArray[np.int64]
FEW = 256
PLAYED = ("frames", "pos", "t", "action", "reward", "terminated", "truncated", "life_lost")


def play_digest(arrays: ShardArrays) -> str | None:
    """SHA-256 of what was played in a shard, whoever labelled it and however its games are numbered.

    None for a shard of few states: the openings of games are alike by chance.
    """
    if len(arrays) < FEW:
        return None
    digest = hashlib.sha256()
    for name in PLAYED:
        part = np.ascontiguousarray(getattr(arrays, name))
        digest.update(f"{name}{part.dtype}{part.shape}".encode())
        digest.update(part.data)
    return digest.hexdigest()


def shard_contents(record: Mapping[str, Any]) -> set[str]:
    """What a shard's record says of its contents: checksums of all of it, and of what was played."""
    return {record["files"]["steps.safetensors"]["sha256"], record.get("play")} - {None}


def first_copy(contents: Iterable[tuple[str, set[str]]]) -> tuple[str, str] | None:
    """(shard, earlier shard) of the first two of these (shard, contents) that have some in common."""
    seen: dict[str, str] = {}
    for shard, known in contents:
        for checksum in known:
            if seen.setdefault(checksum, shard) != shard:
                return shard, seen[checksum]
    return None


def distinct_games(dataset: Dataset) -> dict[int, list[int]]:
    """Groups of games that are the same as far as they are recorded, by the one that stands for them.

    Two games are the same where one's first stack and actions begin the other's: the emulator does the rest. A game
    that was cut off is the same as its longer copy.

    Returns:
        ``Dataset.episode`` of a game to those of all its copies, itself included.
    """
    order = np.argsort(dataset.episode, kind="stable")
    games, starts = np.unique(dataset.episode[order], return_index=True)
    firsts = stack_names(dataset, order[starts])
    ends = [*starts[1:].tolist(), len(order)]
    paths = [
        (firsts[i].tobytes() + dataset.action[order[first:last]].astype(np.uint8).tobytes(), int(games[i]))
        for i, (first, last) in enumerate(zip(starts.tolist(), ends, strict=True))
    ]
    groups: dict[int, list[int]] = {}
    root, beginning = -1, None
    for path, game in sorted(paths):  # what begins others comes right before them
        if beginning is None or not path.startswith(beginning):
            root, beginning = game, path
        groups.setdefault(root, []).append(game)
    return groups


def repeats(dataset: Dataset, index: Index, other: Dataset, others: Index) -> float:
    """Share of the states ``index`` of one dataset that occur, bit for bit, among the states ``others`` of another."""
    if not len(index):
        return 0.0
    return float(np.isin(stack_names(dataset, index), stack_names(other, others)).mean())


def stack_names(dataset: Dataset, index: Index) -> npt.NDArray[Any]:
    """A name for the observation of each state, equal where every pixel is; (n,), 32 bytes each."""
    wanted = dataset.pos[index][:, None] + np.arange(1 - STACK, 1)
    frames, place = np.unique(wanted, return_inverse=True)
    names = b"".join(hashlib.blake2b(dataset.frames[frame], digest_size=8).digest() for frame in frames.tolist())
    stacks = np.frombuffer(names, np.uint64)[place.reshape(wanted.shape)]
    return np.ascontiguousarray(stacks).view(f"V{8 * STACK}").ravel()
