"""Per-game figures of a row: kept exactly, checked, and resampled; rows of another test set stay apart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from distill.api import Dataset, UserError, load_teacher
from distill.figures.by_game import measure_games, over_games
from distill.sweep.grid import Row, read_rows, write_rows
from studies.atari.ratios import GAMES, LIMITED, SUMMED, by_game, ended_alone, game_columns, ratio, resampled
from studies.common import ratio_interval, ratio_over_games

FIGURES = {"test_kl": 0.2, "test_action_error": 0.1, "test_merged_action_error": 0.1, "test_total_variation": 0.3}


def row(run: str, seed: int, scale: float = 1.0, games: int = 4) -> Row:
    """A student's row, with 10, 20, ... states of its test games."""
    rng = np.random.default_rng(seed)
    table = []
    for game in range(games):
        states = 10 * (game + 1)
        sums = {name: str(scale * FIGURES[figure] * states * rng.uniform(0.5, 1.5)) for figure, name in SUMMED.items()}
        table.append({"writer": "teacher", "game": str(game), "states": str(states), **sums})
    total = sum(int(game["states"]) for game in table)
    figures = {figure: str(math.fsum(float(g[name]) for g in table) / total) for figure, name in SUMMED.items()}
    return {"run": run, "test_states": str(total), **figures, **game_columns(table)}


def without_games(given: Row) -> Row:
    """As the rows of an earlier form of the study are."""
    return {name: value for name, value in given.items() if name != GAMES and not name.endswith("_by_game")}


def test_a_students_columns_add_up_to_its_figures_exactly(pong_data: Path, tmp_path: Path) -> None:
    """From a real measurement, by way of the run's file and the rows' file."""
    data, net = Dataset(pong_data), load_teacher("pong").net
    net.policy.weight.data.mul_(0.5)
    games = measure_games(net, data, np.arange(len(data)))
    write_rows(tmp_path / "test_games.csv", [{name: str(value) for name, value in game.items()} for game in games])
    figures = {f"test_{name}": str(value) for name, value in over_games(games).items()}
    made = {
        "run": "a",
        "test_states": str(len(data)),
        **figures,
        **game_columns(read_rows(tmp_path / "test_games.csv")),
    }
    write_rows(tmp_path / "rows.csv", [made])
    (kept,) = read_rows(tmp_path / "rows.csv")
    assert kept[GAMES].split() == [f"teacher:{game['game']}:{game['states']}" for game in games]
    for figure, name in SUMMED.items():
        assert by_game(kept, figure).tolist() == [game[name] for game in games]
        assert math.fsum(by_game(kept, figure)) / len(data) == float(kept[figure])


@pytest.mark.parametrize("damage", ["1.0", "nan"])
def test_games_that_do_not_add_up_are_refused(damage: str) -> None:
    bad = row("a-run", 1)
    bad["test_kl_by_game"] = " ".join([damage, *bad["test_kl_by_game"].split()[1:]])
    with pytest.raises(UserError, match=r"^the row of a-run is damaged: its test games do not add up to its test_kl$"):
        ratio([[(bad, row("b", 2))]], "test_kl")
    assert by_game(bad, "test_action_error").shape == (4,)


def test_intervals_are_over_games_where_all_rows_have_them() -> None:
    pairs = [[(row("a", seed, 0.5), row("b", 10 + seed))] for seed in (1, 2, 3)]
    found = ratio(pairs, "test_kl")
    above, below = ([[by_game(pair[i], "test_kl") for pair in mine] for mine in pairs] for i in (0, 1))
    assert found == ratio_over_games(above, below)
    assert (found.games, resampled(found)) == (4, "seeds and 4 games")
    old = ratio([[(without_games(a), without_games(b)) for a, b in mine] for mine in pairs], "test_kl")
    values = [[float(mine[0][i]["test_kl"]) for mine in pairs] for i in (0, 1)]
    assert old == pytest.approx(ratio_interval(*values))
    assert (old.games, resampled(old)) == (0, "seeds only")
    assert old.mean == pytest.approx(found.mean)
    assert found.low < old.low < old.high < found.high


def test_students_of_different_test_games_are_not_divided() -> None:
    for other in (without_games(row("b", 2)), row("b", 2, games=3)):
        with pytest.raises(UserError, match="a and others in a table with it were tested on different states"):
            ratio([[(row("a", 1), other)]], "test_kl")


def test_games_that_the_frame_limit_ended_can_be_left_out() -> None:
    given = row("a", 1)
    assert ended_alone([given, {**given, LIMITED: ""}]) == []
    (left,) = ended_alone([{**given, LIMITED: "teacher:1 teacher:3", "test_repeats": "0.1"}])
    assert "test_repeats" not in left  # it was of all states
    assert left[GAMES].split() == ["teacher:0:10", "teacher:2:30"]
    assert (left["test_states"], left["test_games"]) == ("40", "2")
    for figure in SUMMED:
        kept = by_game(given, figure)[[0, 2]]
        assert by_game(left, figure).tolist() == kept.tolist()
        assert float(left[figure]) == pytest.approx(kept.sum() / 40)
