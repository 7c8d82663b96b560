"""Sums of games against what each game alone gives, and against what all states together give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distill.api import Dataset, load_teacher
from distill.figures.by_game import measure_games, over_games
from distill.figures.fidelity import measure
from distill.figures.figure import OWN, from_sums, sums_of
from distill.networks.nets import AtariCNN
from distill.sweep.grid import read_rows, write_rows

FIGURES = [figure.name for figure in OWN]


@pytest.fixture(scope="module")
def net() -> AtariCNN:
    """Pong's teacher with half its logits: an agent that disagrees with it a little everywhere."""
    teacher = load_teacher("pong").net
    teacher.policy.weight.data.mul_(0.5)
    return teacher


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_games_sums_are_those_of_its_states_alone(pong_data: Path, net: AtariCNN, temperature: float) -> None:
    data = Dataset(pong_data)
    index = np.arange(0, len(data), 7)
    games = measure_games(net, data, index, temperature=temperature)
    assert [(game["writer"], game["game"]) for game in games] == [("teacher", n) for n in np.unique(data.episode)]
    for game in games:
        mine = index[data.episode[index] == game["game"]]
        assert game["states"] == len(mine)
        alone = measure(net, data, mine, temperature=temperature)
        together = from_sums({name: game[name] for name in sums_of(OWN)}, len(mine), OWN)
        for name in FIGURES:
            assert together[name] == pytest.approx(getattr(alone, name), rel=1e-5), name


def test_games_add_up_to_all_states_and_survive_a_file_exactly(pong_data: Path, net: AtariCNN, tmp_path: Path) -> None:
    data = Dataset(pong_data)
    games = measure_games(net, data, np.arange(len(data)))
    want = measure(net, data)
    got = over_games(games)
    for name in FIGURES:
        assert got[name] == pytest.approx(getattr(want, name), rel=1e-9), name
    write_rows(tmp_path / "games.csv", [{name: str(value) for name, value in game.items()} for game in games])
    assert over_games(read_rows(tmp_path / "games.csv")) == got
    assert over_games(games[::-1]) == got


def test_a_game_in_which_no_state_carries_derivatives(pong_quarter: Path, net: AtariCNN) -> None:
    data = Dataset(pong_quarter)
    games = np.unique(data.episode)
    index = np.flatnonzero(~data.carries | (data.episode != games[1]))
    found = measure_games(net, data, index)
    sums = [name for name in sums_of(OWN) if name.startswith("jacobian")]
    assert [found[1][name] for name in sums] == [0.0] * len(sums)
    assert found[1]["states"] > 0
    alone = from_sums({name: found[1][name] for name in sums_of(OWN)}, found[1]["states"], OWN)
    assert alone["jacobian_cosine"] is alone["jacobian_relative_error"] is None
    want = measure(net, data, index)
    for name, value in over_games(found).items():
        assert value == pytest.approx(getattr(want, name), rel=1e-9), name


def test_writers_keep_their_games_apart(pong_data: Path, net: AtariCNN) -> None:
    data = Dataset(pong_data)
    data.writers = ["student", "teacher"]
    data.episode[: len(data) // 2] += 1 << 40
    games = measure_games(net, data, np.arange(len(data)))
    assert {game["writer"] for game in games} == {"student", "teacher"}
    assert sum(game["states"] for game in games) == len(data)
