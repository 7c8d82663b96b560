"""States of all whole games, taken evenly; each game's part adds up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distill.api import Dataset, UserError
from distill.dataset.games import whole_games
from studies.atari.test_games import at_limit, evenly


def test_states_are_taken_evenly_from_every_whole_game(pong_data: Path) -> None:
    data = Dataset(pong_data)
    with pytest.raises(UserError, match="has no whole game; record more states in fewer games side by side"):
        evenly(data, 64)
    data.ends_game[data.episode == 1] = True
    whole = np.flatnonzero(whole_games(data))
    taken = evenly(data, 40)
    assert set(data.episode[taken].tolist()) == {1}
    assert 40 <= len(taken) < 80
    steps = np.sort(data.t[taken])
    assert set(np.diff(steps).tolist()) == {len(whole) // 40}
    assert evenly(data, 10**6).tolist() == whole.tolist()


def test_games_that_reach_the_frame_limit_are_named(pong_data: Path) -> None:
    data = Dataset(pong_data)
    index = np.arange(len(data))
    assert at_limit(data, index) == []
    last = np.flatnonzero(data.episode == 2)[-1]
    data.t[last] = 26_999
    assert at_limit(data, index) == [f"{data.writers[0]}:2"]
    assert at_limit(data, index[data.episode == 1]) == []
