"""Games that the frame limit ended; each game's part adds up."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from distill.api import Dataset
from studies.atari.test_games import at_limit


def test_games_that_reach_the_frame_limit_are_named(pong_data: Path) -> None:
    data = Dataset(pong_data)
    index = np.arange(len(data))
    assert at_limit(data, index) == []
    last = np.flatnonzero(data.episode == 2)[-1]
    data.t[last] = 26_999
    assert at_limit(data, index) == [f"{data.writers[0]}:2"]
    assert at_limit(data, index[data.episode == 1]) == []
