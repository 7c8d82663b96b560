"""Held-out states are whole games that training never sees: neighbours in time are near-duplicates."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from distill.dataset.reader import Dataset
from distill.dataset.schema import GAME_BITS, GAME_MASK
from distill.errors import UserError
from distill.system.streams import Stream, numbered

Index = npt.NDArray[np.int64]


def split_by_episode(dataset: Dataset, fraction: float, seed: int) -> tuple[Index, Index]:
    """Split into training and held-out states by whole games.

    Each writer gives ``ceil(fraction * games)`` of its games to the held-out set, chosen by a hash
    of seed, writer's name and game number, so that a student's own games are held out as well as the teacher's.
    Copies of a game count as one and stay together (greedy play without sticky actions repeats itself). A fragment
    that begins several games that differ is held out only where all of these are.

    Returns:
        (training, held-out): sorted int64 indices into the dataset.

    Raises:
        UserError: a writer has only one game, so none can be held out.
    """
    copies, own = dataset.distinct_games
    chosen: set[int] = set()
    for writer, name in enumerate(dataset.writers):
        mine = own[writer]
        if len(mine) == 1:
            raise UserError(_single(dataset, writer))
        count = min(math.ceil(fraction * len(mine)), len(mine) - 1)
        # By the writer's own game numbers and name, so that another writer's data changes nothing here.
        keys = {game: f"{seed}:{name}:{game & GAME_MASK}".encode() for game in mine}
        ranked = sorted(keys, key=lambda game: hashlib.sha256(keys[game]).digest())
        # Where another writer has a game, too, or goes on with it, that writer decides.
        free = [game for game in ranked if game in copies]
        chosen.update([game for game in ranked[:count] if game in copies] or (free[:1] if len(free) > 1 else []))
    trained = [copy for game in copies if game not in chosen for copy in copies[game]]
    is_held = np.repeat(~np.isin(dataset.runs.game, trained), dataset.runs.length)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def _single(dataset: Dataset, writer: int) -> str:
    """Why no whole game can be held out."""
    games = np.count_nonzero(np.unique(dataset.runs.game) >> GAME_BITS == writer)
    if games == 1:
        why = "has a single game from one writer"
    else:
        why = f"has {games} games from one writer that are all the same game"
    return (
        f"{dataset.folder} {why}, so no whole game can be held out; "
        "collect more states, use more --collect.num_envs, or sample the actions"
    )


def by_random_games(dataset: Dataset, index: Index, seed: int) -> Index:
    """The same states, whole games together, games in random order: a prefix is a small sample of games."""
    games = numbered(Stream.SMALL_DATA, seed).permutation(np.unique(dataset.episode[index]))
    place = {game: rank for rank, game in enumerate(games.tolist())}
    ranks = np.array([place[game] for game in dataset.episode[index].tolist()])
    return index[np.argsort(ranks, kind="stable")]
