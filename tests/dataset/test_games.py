"""Whole games are those recorded from their first state to their end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.config.config import Config
from distill.config.stages import collect
from distill.dataset.games import LONGEST_SCRIPT, some_whole_games, whole_games
from distill.dataset.reader import Dataset
from distill.dataset.schema import ShardArrays
from distill.dataset.writer import DatasetWriter
from distill.errors import UserError
from distill.records.dataset import Played

Make = Callable[..., ShardArrays]
Facts = Callable[[int], Played]
GAMES = {"whole": 4, "cut off": 3, "begun earlier": 5, "cut by the frame limit": 2, "first state is missing": 3}


@pytest.fixture
def games(tmp_path: Path, open_writer: Callable[..., DatasetWriter], make_arrays: Make, facts: Facts) -> Dataset:
    """Every kind of game in two lanes' order, each cut in two by a shard's end."""
    episode = np.repeat(np.arange(len(GAMES)), list(GAMES.values()))
    t = np.concatenate([np.arange(count) for count in GAMES.values()])
    t[episode == 2] += 500
    last = np.append(episode[1:] != episode[:-1], True)
    writer = open_writer(tmp_path / "data")
    for number, part in enumerate((slice(0, None, 2), slice(1, None, 2))):
        arrays = make_arrays(len(t[part]), number)
        arrays.episode, arrays.t = episode[part], t[part].astype(np.int32)
        arrays.terminated = last[part] & np.isin(arrays.episode, (0, 2, 4))
        arrays.truncated = last[part] & (arrays.episode == 3)
        for i in np.flatnonzero(((t == 0) | (t == 500))[part] & (arrays.episode != 4)):
            arrays.frames[arrays.pos[i] - 3 : arrays.pos[i]] = 0  # a stack that was zeroed
        writer.commit(arrays, facts(len(GAMES)))
    return Dataset(tmp_path / "data")


def test_whole_games_begin_and_end(games: Dataset) -> None:
    whole = whole_games(games)
    assert set(games.episode[whole].tolist()) == {0, 3}
    assert set(games.episode[~whole].tolist()) == {1, 2, 4}


def test_a_script_may_come_first(games: Dataset) -> None:
    games.t += LONGEST_SCRIPT
    assert set(games.episode[whole_games(games)].tolist()) == {0, 3}
    games.t += 1
    assert not whole_games(games).any()


def test_games_are_taken_until_there_are_enough_states(games: Dataset) -> None:
    taken = {count: some_whole_games(games, count) for count in (1, 2, 3, 4, 5, 6, 100)}
    for index in taken.values():
        assert np.all(np.diff(index) > 0)
        for game in np.unique(games.episode[index]):
            assert np.sum(games.episode[index] == game) == np.sum(games.episode == game)
    first = set(games.episode[taken[1]].tolist())
    assert len(first) == 1
    assert [len(index) for index in taken.values()] == [
        6 if count > len(taken[1]) else len(taken[1]) for count in taken
    ]


def test_without_a_whole_game_one_sentence_says_so(pong_data: Path) -> None:
    with pytest.raises(UserError, match=r"data has no whole game, one recorded from its first state to its end; coll"):
        some_whole_games(Dataset(pong_data), 10)


@pytest.mark.parametrize("preset", ["sb3", "cleanrl"])
def test_real_games_are_whole_where_the_environment_says_they_ended(
    preset: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """Breakout by chance: short games, lives lost on the way, and scripts that begin them."""
    wild = {"out": str(tmp_path / "data"), "states": 1200, "num_envs": 2, "shard_states": 200,
            "behaviour": "epsilon", "epsilon": 1.0, "jacobian": "none"}  # fmt: skip
    ended = collect(make_config(env="breakout", preset=preset, seed=7, collect=wild)).games
    data = Dataset(tmp_path / "data")
    whole = whole_games(data)
    assert len(ended) >= 2
    assert len(np.unique(data.episode[whole])) == len(ended)
    assert len(np.unique(data.episode)) == len(ended) + 2
    lengths = sorted(int(data.t[data.episode == game].max()) + 1 for game in np.unique(data.episode[whole]))
    # The script before a lane's first game, two steps, counts for the environment and not in t.
    for length, game in zip(lengths, sorted(ended, key=lambda game: game.length), strict=True):
        assert game.length - length in (0, 2)
