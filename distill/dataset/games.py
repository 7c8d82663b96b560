"""Whole games of a recording: a shard's end cuts games off, and a cut game is no fair sample of play.

Where a recording stops, every lane is in the middle of a game. Its fragment holds beginnings only, and those of short
games not at all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from distill.dataset.reader import Dataset
from distill.dataset.split import Index
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.system.streams import Fixed, fixed

LONGEST_SCRIPT = 8
"""Steps that an opening script can take before the first recorded state: FIRE and action 2, and a few should these
cost a life."""


def whole_games(dataset: Dataset) -> npt.NDArray[np.bool_]:
    """Which states belong to games that were recorded from their beginning to their end, bool (len(dataset),).

    A game begins with a state whose stack holds nothing but its newest frame and the preset's padding, at most
    ``LONGEST_SCRIPT`` steps into the game, and ends with one that terminates or truncates it.
    """
    order = np.lexsort((dataset.t, dataset.episode))
    games, places, counts = np.unique(dataset.episode[order], return_index=True, return_counts=True)
    first, last = order[places], order[places + counts - 1]
    begun = (dataset.t[first] <= LONGEST_SCRIPT) & _begins_anew(dataset, first)
    return np.isin(dataset.episode, games[begun & dataset.ends_game[last]])


def _begins_anew(dataset: Dataset, index: Index) -> npt.NDArray[np.bool_]:
    """Which of these states' stacks hold nothing but the newest frame and what the preset puts before it."""
    stacks = dataset.stacks(index)
    padding = 0 if get_preset(dataset.identity.preset).padding_type == "zero" else stacks[:, -1:]
    anew: npt.NDArray[np.bool_] = (stacks[:, :-1] == padding).all((1, 2, 3))
    return anew


def some_whole_games(dataset: Dataset, states: int) -> Index:
    """Whole games in a random order that only the data decides, until they have so many states; all if they have fewer.

    Args:
        dataset: the recording.
        states: the last game taken is the one that reaches this number.

    Returns:
        Sorted int64 indices into the dataset.

    Raises:
        UserError: no game is whole.
    """
    whole = np.flatnonzero(whole_games(dataset))
    if not len(whole):
        raise UserError(
            f"{dataset.folder} has no whole game, one recorded from its first state to its end; "
            "collect more states, or use fewer --collect.num_envs"
        )
    games, counts = np.unique(dataset.episode[whole], return_counts=True)
    drawn = fixed(Fixed.TEST_GAMES).permutation(len(games))
    reached = int(np.searchsorted(np.cumsum(counts[drawn]), states))
    return whole[np.isin(dataset.episode[whole], games[drawn[: reached + 1]])]
