"""Held-out states are whole games that training never sees: neighbours in time are near-duplicates."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from distill.dataset.reader import GAME_MASK, Dataset
from distill.errors import UserError

Index = npt.NDArray[np.int64]


def split_by_episode(dataset: Dataset, fraction: float, seed: int) -> tuple[Index, Index]:
    """Split into training and held-out states by whole games.

    Each writer gives ``ceil(fraction * games)`` of its games to the held-out set, chosen by a hash
    of seed, writer's name and game number, so that a student's own games are held out as well as the teacher's.

    Returns:
        (training, held-out): sorted int64 indices into the dataset.

    Raises:
        UserError: a writer has only one game, so none can be held out.
    """
    held: list[int] = []
    for writer, name in enumerate(dataset.writers):
        games = np.unique(dataset.episode[dataset.writer == writer])
        if len(games) < 2:
            raise UserError(
                f"{dataset.folder} has a single game from one writer, so no whole game can be held out; "
                "collect more states or use more --collect.num_envs"
            )
        count = min(math.ceil(fraction * len(games)), len(games) - 1)
        # By the writer's own game numbers and name, so that another writer's data changes nothing here.
        keys = {game: f"{seed}:{name}:{game & GAME_MASK}".encode() for game in games.tolist()}
        ranked = sorted(keys, key=lambda game: hashlib.sha256(keys[game]).digest())
        held += ranked[:count]
    is_held = np.isin(dataset.episode, held)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def by_random_games(dataset: Dataset, index: Index, seed: int) -> Index:
    """The same states, whole games together, games in random order: a prefix is a small sample of games."""
    games = np.random.default_rng([seed, 7]).permutation(np.unique(dataset.episode[index]))
    place = {game: rank for rank, game in enumerate(games.tolist())}
    ranks = np.array([place[game] for game in dataset.episode[index].tolist()])
    return index[np.argsort(ranks, kind="stable")]
