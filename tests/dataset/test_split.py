from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.dataset.reader import Dataset
from distill.dataset.split import split_by_episode
from distill.errors import UserError

GAMES = {"a": 9, "b": 4, "c": 2}


@pytest.fixture
def dataset(tmp_path: Path, open_writer: Callable, make_arrays: Callable, facts: Callable) -> Dataset:
    """Three writers of 9, 4 and 2 games, numbered from 0 in each."""
    for name, games in GAMES.items():
        writer = open_writer(tmp_path / "data", name)
        arrays = make_arrays(3 * games, rows=1)
        arrays.episode = np.arange(3 * games) % games
        arrays.jacobian = arrays.v = arrays.row_scale = arrays.gain = None
        writer.commit(arrays, facts(games))
    return Dataset(tmp_path / "data")


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3, 0.99])
def test_split_is_by_whole_games(dataset: Dataset, fraction: float) -> None:
    train, held = split_by_episode(dataset, fraction, seed=1)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(len(dataset)))
    assert not set(dataset.episode[train]) & set(dataset.episode[held])
    for writer, games in enumerate(GAMES.values()):
        kept = len(set(dataset.episode[held][dataset.writer[held] == writer]))
        assert kept == min(np.ceil(fraction * games), games - 1)
        assert 1 <= kept < games


def test_split_is_a_function_of_the_seed(dataset: Dataset) -> None:
    splits = [tuple(split_by_episode(dataset, 0.3, seed)[1]) for seed in (1, 1, 2, 3, 4)]
    assert splits[0] == splits[1]
    assert len(set(splits)) > 1


def test_more_states_of_the_same_games_do_not_move_a_game(dataset: Dataset) -> None:
    """A game held out stays held out when its writer goes on recording it."""
    held_before = set(dataset.episode[split_by_episode(dataset, 0.3, 1)[1]])
    before = copy.copy(dataset)
    vars(before).pop("runs")  # what is known of the longer one
    vars(before).pop("distinct_games")
    _, last = np.unique(dataset.episode[::-1], return_index=True)
    first = np.setdiff1d(np.arange(len(dataset)), len(dataset) - 1 - last)
    assert len(first) == 2 * len(dataset) // 3
    before.episode, before.pos, before.action = dataset.episode[first], dataset.pos[first], dataset.action[first]
    assert set(before.episode[split_by_episode(before, 0.3, 1)[1]]) == held_before


def test_single_game_cannot_be_split(
    tmp_path: Path, open_writer: Callable, make_arrays: Callable, facts: Callable
) -> None:
    open_writer(tmp_path / "data").commit(make_arrays(5), facts(1))
    with pytest.raises(UserError, match=r"data has a single game from one writer.*collect more states"):
        split_by_episode(Dataset(tmp_path / "data"), 0.1, 1)
