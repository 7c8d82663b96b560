"""Ratios of two students' test figures: intervals over seeds and, where rows say what each game gave, over games."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from distill.api import UserError
from distill.sweep.grid import Row
from studies.common import Interval, ratio_interval, ratio_over_games

GAMES = "games"
"""Column of a row: which games its student was tested on."""
LIMITED = "limited"
"""Column of a row: which of these games the frame limit ended."""
SUMMED = {
    "test_kl": "kl",
    "test_action_error": "action_error",
    "test_merged_action_error": "merged_action_error",
    "test_total_variation": "total_variation",
}
"""Figures of which a row keeps every game's sum, and their columns in a run's test_games.csv."""

Pair = tuple[Row, Row]
"""Two students of one seed; the first one's figure is divided by the second one's."""


def game_columns(games: Sequence[Row]) -> Row:
    """Columns for a student's row: its test games, and every game's sum of the figures, apart by spaces."""
    columns = {GAMES: " ".join(f"{game['writer']}:{game['game']}:{game['states']}" for game in games)}
    return columns | {_sums(figure): " ".join(game[name] for game in games) for figure, name in SUMMED.items()}


def by_game(row: Row, figure: str) -> npt.NDArray[np.float64]:
    """The sum of a figure over each test game's states, float64 (games,).

    Raises:
        UserError: the games do not add up to the row's figure.
    """
    sums = np.array([float(value) for value in row[_sums(figure)].split()])
    if not math.fsum(sums) / int(row["test_states"]) == float(row[figure]):
        raise UserError(f"the row of {row['run']} is damaged: its test games do not add up to its {figure}")
    return sums


def ended_alone(rows: Sequence[Row]) -> list[Row]:
    """The rows with figures on the games that ended by themselves; none where the frame limit ended no game."""
    return [_ended_alone(row) for row in rows if row.get(LIMITED)]


def _ended_alone(row: Row) -> Row:
    limited = set(row[LIMITED].split())
    names = row[GAMES].split()
    kept = [i for i, name in enumerate(names) if name.rpartition(":")[0] not in limited]
    states = sum(int(names[i].rpartition(":")[2]) for i in kept)
    new = {**row, GAMES: " ".join(names[i] for i in kept), "test_states": str(states), "test_games": str(len(kept))}
    new.pop("test_repeats", None)  # it is a share of all states
    for figure in SUMMED:
        sums = by_game(row, figure)[kept]
        new[_sums(figure)] = " ".join(str(value) for value in sums.tolist())
        new[figure] = str(math.fsum(sums) / states)
    return new


def ratio(seeds: Sequence[Sequence[Pair]], figure: str) -> Interval:
    """Geometric mean over seeds of the geometric mean over each seed's pairs.

    Raises:
        UserError: students that were tested on different states.
    """
    rows = [row for pairs in seeds for pair in pairs for row in pair]
    games = {row.get(GAMES, "") for row in rows}
    if len(games) > 1:
        raise UserError(f"{rows[0]['run']} and others in a table with it were tested on different states")
    if games != {""}:
        above, below = ([[by_game(pair[i], figure) for pair in pairs] for pairs in seeds] for i in (0, 1))
        return ratio_over_games(above, below)
    values = np.array([[[float(row[figure]) for row in pair] for pair in pairs] for pairs in seeds])
    logs = np.log(values[..., 0] / values[..., 1]).mean(1)
    return ratio_interval(np.exp(logs), np.ones(len(logs)))


def resampled(interval: Interval) -> str:
    """What an interval is over."""
    return f"seeds and {interval.games} games" if interval.games else "seeds only"


def _sums(figure: str) -> str:
    return f"{figure}_by_game"
