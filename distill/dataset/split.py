"""Held-out states are whole games that training never sees: neighbours in time are near-duplicates."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from distill.dataset.reader import Dataset
from distill.errors import UserError

Index = npt.NDArray[np.int64]


def split_by_episode(dataset: Dataset, fraction: float, seed: int) -> tuple[Index, Index]:
    """Split into training and held-out states by whole games.

    Each writer gives ``ceil(fraction * games)`` of its games to the held-out set, chosen by a hash
    of game number and seed, so that a student's own games are held out as well as the teacher's.

    Returns:
        (training, held-out): sorted int64 indices into the dataset.

    Raises:
        UserError: a writer has only one game, so none can be held out.
    """
    held: list[int] = []
    for writer in np.unique(dataset.writer):
        games = np.unique(dataset.episode[dataset.writer == writer])
        if len(games) < 2:
            raise UserError(
                f"{dataset.folder} has a single game from one writer, so no whole game can be held out; "
                "collect more states or use more --collect.num_envs"
            )
        count = min(math.ceil(fraction * len(games)), len(games) - 1)
        ranked = sorted(games.tolist(), key=lambda game: hashlib.sha256(f"{seed}:{game}".encode()).digest())
        held += ranked[:count]
    is_held = np.isin(dataset.episode, held)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)
