"""What occurs twice: shards, games and states."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distill.dataset.schema import GAME_BITS, ShardArrays
from distill.envs.presets import STACK
from distill.records.dataset import ShardRecord

if TYPE_CHECKING:
    from distill.dataset.reader import Dataset

Index = npt.NDArray[np.int64]


class Runs(NamedTuple):
    """States of one game that are recorded one after the other, in the order of the dataset."""

    start: Index
    """First state of each run."""
    length: Index
    """States of each."""
    game: Index
    """``Dataset.episode`` of each."""

    @staticmethod
    def of(episode: Index) -> Runs:
        """Runs of the games of all states."""
        start = np.flatnonzero(np.concatenate([[True], episode[1:] != episode[:-1]]))
        return Runs(start, np.diff(start, append=len(episode)), episode[start])


FEW, NAME = 256, 8
"""States of a shard that is no chance opening, and bytes of a frame's name."""
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


def shard_contents(record: ShardRecord) -> set[str]:
    """What a shard's record says of its contents: checksums of all of it, and of what was played."""
    return {mark for mark in (record.files["steps.safetensors"].sha256, record.play) if mark is not None}


def first_copy(contents: Iterable[tuple[str, set[str]]]) -> tuple[str, str] | None:
    """(shard, earlier shard) of the first two of these (shard, contents) that have some in common."""
    seen: dict[str, str] = {}
    for shard, known in contents:
        for checksum in known:
            if seen.setdefault(checksum, shard) != shard:
                return shard, seen[checksum]
    return None


class Distinct(NamedTuple):
    """Games that differ, by ``Dataset.episode``."""

    copies: dict[int, list[int]]
    """Each of the games that differ to all that are the same as far as they are recorded, itself included."""
    own: dict[int, list[int]]
    """Of every writer those that differ among its own, whatever other writers have."""


def distinct_games(dataset: Dataset) -> Distinct:
    """Which games differ, and their copies.

    Two games are the same where one's first stack and actions begin the other's: the emulator does the rest. A game
    that was cut off is the same as its longer copy. One of a few states begins several games that differ, and is
    among the copies of each: it makes them no copies of one another.
    """
    paths = _paths(dataset)
    writers = {game >> GAME_BITS for _, game in paths}
    own = {writer: [*_copies([path for path in paths if path[1] >> GAME_BITS == writer])] for writer in writers}
    return Distinct(_copies(paths), own)


def _copies(paths: list[tuple[bytes, int]]) -> dict[int, list[int]]:
    """The first game of every path that begins no other path to all games that are on it."""
    games: dict[bytes, list[int]] = {}
    for path, game in sorted(paths):
        games.setdefault(path, []).append(game)
    copies: dict[int, list[int]] = {}
    begun: list[bytes] = []
    for path, after in itertools.zip_longest(games, [*games][1:], fillvalue=b""):
        while begun and not path.startswith(begun[-1]):
            begun.pop()
        begun.append(path)
        if not after.startswith(path):  # what is begun by others comes right behind them
            copies[games[path][0]] = [game for beginning in begun for game in games[beginning]]
    return copies


def shared_games(dataset: Dataset, other: Dataset) -> list[int]:
    """Games of one dataset that are in another, too: their first ``FEW`` states are the same.

    Shorter games and fragments say nothing: games open alike by chance.

    Returns:
        ``Dataset.episode`` of the first dataset's games.
    """
    beginnings = {path[: STACK * NAME + FEW] for path, _ in _paths(other) if len(path) >= STACK * NAME + FEW}
    return [game for path, game in _paths(dataset) if path[: STACK * NAME + FEW] in beginnings]


def _paths(dataset: Dataset) -> list[tuple[bytes, int]]:
    """The first stack and the actions of every game, and the game."""
    runs = dataset.runs
    order = np.argsort(runs.game, kind="stable")
    games, starts = np.unique(runs.game[order], return_index=True)
    firsts = dataset.openings(runs.start[order[starts]])
    paths = []
    for game, first, mine in zip(games.tolist(), firsts, np.split(order, starts[1:]), strict=True):
        played = [dataset.action[runs.start[run] : runs.start[run] + runs.length[run]] for run in mine.tolist()]
        paths.append((first.tobytes() + np.concatenate(played).astype(np.uint8).tobytes(), int(game)))
    return paths


def repeats(dataset: Dataset, index: Index, other: Dataset, others: Index) -> float:
    """Share of the states ``index`` of one dataset that occur, bit for bit, among the states ``others`` of another."""
    if not len(index):
        return 0.0
    return share_among(stack_names(dataset, index), stack_names(other, others))


def share_among(names: npt.NDArray[Any], others: npt.NDArray[Any]) -> float:
    """Share of the first ``stack_names`` that are among the second."""
    return float(np.isin(names, others).mean())


def stack_names(dataset: Dataset, index: Index) -> npt.NDArray[Any]:
    """A name for the observation of each state, equal where every pixel is; (n,), 32 bytes each."""
    wanted = dataset.pos[index][:, None] + np.arange(1 - STACK, 1)
    frames, place = np.unique(wanted, return_inverse=True)
    names = b"".join(hashlib.blake2b(frame.data, digest_size=NAME).digest() for frame in dataset.each_frame(frames))
    stacks = np.frombuffer(names, np.uint64)[place.reshape(wanted.shape)]
    return np.ascontiguousarray(stacks).view(f"V{NAME * STACK}").ravel()
