"""What students are tested on: states of all whole games of another recording, taken evenly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from distill.api import Dataset, load_student
from distill.dataset.games import LONGEST_SCRIPT
from distill.dataset.repeats import share_among, stack_names
from distill.dataset.schema import GAME_BITS, GAME_MASK
from distill.envs.presets import get_preset
from distill.figures.by_game import measure_games, over_games
from distill.sweep.cells import cell_config
from distill.sweep.grid import Row
from distill.train.setup import training_split
from studies.atari.perturb import Index, agreement
from studies.atari.plan import SEED, STATES, Scale, part_config
from studies.atari.ratios import LIMITED, game_columns
from studies.common import evenly


class TestGames:
    """Test games of a game, read once.

    Raises:
        UserError: the recording has no whole game.
    """

    __test__ = False  # no test for pytest

    def __init__(self, game: str, scale: Scale) -> None:
        self._config = part_config("grid", game, scale)
        self._training = Dataset(f"{scale.data}/{game}")
        self._dataset = Dataset(f"{scale.data}/{game}-test")
        self._index = evenly(self._dataset, scale.tested)
        self._perturbed = np.sort(np.random.default_rng([0, 8]).permutation(self._index)[: scale.perturbed])
        self._names = stack_names(self._dataset, self._index)
        self._trained = stack_names(self._training, np.arange(len(self._training)))

    def figures(self, row: Row, run: Path) -> dict[str, Any]:
        """Figures of a row's student on the test games, each game's sums, and figures on perturbed pixels."""
        net = load_student(run).net
        games = measure_games(net, self._dataset, self._index, device=self._config.device)
        measured = {f"test_{name}": value for name, value in over_games(games).items()}
        size = {"test_games": len(games), "test_states": len(self._index), "test_repeats": self._repeats(row)}
        columns = game_columns([{name: str(value) for name, value in game.items()} for game in games])
        columns[LIMITED] = " ".join(at_limit(self._dataset, self._index))
        return {**measured, **size, **columns, **agreement(net, self._dataset, self._perturbed)}

    def _repeats(self, row: Row) -> float:
        """Share of the test states that occur, pixel by pixel, among those that a student was trained on."""
        cell = {STATES: int(row[STATES]), SEED: int(row[SEED])}
        mine, _ = training_split(cell_config(self._config, cell, Path("unused")), self._training)
        return share_among(self._names, self._trained[mine])


def at_limit(dataset: Dataset, index: Index) -> list[str]:
    """``writer:number`` of the games among these states that the preset's frame limit ended, in order."""
    preset = get_preset(dataset.task.preset)
    longest = preset.max_frames // preset.frame_skip
    unseen = preset.noop_max // preset.frame_skip + 1 + LONGEST_SCRIPT  # steps before the first recorded state
    games = np.unique(dataset.episode[index])
    found = [game for game in games.tolist() if dataset.t[dataset.episode == game].max() >= longest - unseen]
    return [f"{dataset.writers[game >> GAME_BITS]}:{game & GAME_MASK}" for game in found]
