"""What every student of a sweep is tested on: whole games that none was trained on."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from distill.batches.source import Index
from distill.dataset.games import some_whole_games, whole_games
from distill.dataset.reader import Dataset
from distill.dataset.repeats import share_among, shared_games, stack_names
from distill.errors import UserError
from distill.figures.by_game import measure_games, over_games
from distill.figures.figure import chosen, without_quantiles
from distill.students.folder import Student
from distill.sweep.grid import read_rows, write_rows
from distill.sweep.settings import SweepRun
from distill.system.device import pick_device
from distill.system.progress import console
from distill.system.settings import fill
from distill.train.settings import TrainRun

TEST_GAMES = "test_games.csv"
"""In a run folder: figures of the student added up over each test game (docs/metrics.md)."""


def untested(config: SweepRun) -> dict[str, None]:
    """Columns of a student that was not tested."""
    names = [*(figure.name for figure in chosen(config.evaluate.figures)), "games", "states", "data", "repeats"]
    return {f"test_{name}": None for name in names}


class TestSet:
    """Whole games that no student was trained on, the same for all."""

    __test__ = False  # no test for pytest

    def __init__(self, config: SweepRun) -> None:
        mapped = config.train.hold_data == "disk"
        data = fill(str(config.sweep.data), env=config.env)
        self._dataset = Dataset(data, verify=config.train.verify, mapped=mapped)
        self._wanted = config.sweep.test_states
        self._figures = without_quantiles(chosen(config.evaluate.figures), "a sweep")
        self._repeats: dict[tuple[Any, ...], float] = {}
        self._training: tuple[str, npt.NDArray[Any]] | None = None
        self._tried = not config.evaluate.figures

    def check_fits(self, training: Dataset) -> None:
        """Refuse what no student of that training data can be tested on."""
        mine, folder = self._dataset, self._dataset.folder
        mine.task.refuse_other(training.task, f"--sweep.data={folder}", f"choose a dataset like {training.folder}")
        if mine.identity.teacher != training.identity.teacher:
            raise UserError(
                f"--sweep.data={folder} is of another teacher than {training.folder}; choose one of the same"
            )
        if _shards(mine) & _shards(training):
            raise UserError(f"--sweep.data={folder} is what the students train on; collect games with another --seed")
        shared = shared_games(mine, training)
        if shared:
            raise UserError(
                f"--sweep.data={folder} has {len(shared)} games that are in {training.folder}, too, which the students "
                "train on; collect games with another --seed, by sampling the actions"
            )

    def choose(self, rows: Path) -> None:
        """Choose the games once, and say what is left out; refuse rows of students that were tested on other states."""
        if hasattr(self, "_index"):
            return
        every, whole = self._dataset.episode, whole_games(self._dataset)
        self._index = some_whole_games(self._dataset, self._wanted)
        games, there, all_of_them = (len(np.unique(part)) for part in (every[self._index], every[whole], every))
        self._size = {"test_games": games, "test_states": len(self._index)}
        if any(row.get(name) != str(size) for row in read_rows(rows) for name, size in self._size.items()):
            raise UserError(
                f"{rows} has students that were tested on other states than the {len(self._index):,} of {games} whole "
                "games that are taken now; choose another --sweep.out"
            )
        console.print(
            f"test: {games} of {there} whole games of {self._dataset.folder}, {len(self._index):,} states; "
            f"{all_of_them - there} fragments of games ({np.sum(~whole):,} states) are left out"
        )

    def try_figures(self, net: nn.Module) -> None:
        """Measure somebody's figures of a student that knows nothing yet, once: what fails does so before training."""
        if not self._tried:
            over_games(measure_games(net, self._dataset, self._index[:2], figures=self._figures), self._figures)
            self._tried = True

    def count_repeats(self, config: TrainRun, training: Dataset, index: Index) -> None:
        """Count, and print, the test states that occur among a student's training states; once for each split."""
        key = _split(config)
        if key in self._repeats:
            return
        if self._training is None or self._training[0] != key[0]:
            self._training = key[0], stack_names(training, np.arange(len(training)))
        seen = self._repeats[key] = share_among(self._names, self._training[1][index])
        console.print(
            f"test: {seen:.1%} of the states occur, pixel by pixel, among the {len(index):,} training states "
            f"of {training.folder}, seed {config.seed}"
        )

    @functools.cached_property
    def _names(self) -> npt.NDArray[Any]:
        return stack_names(self._dataset, self._index)

    def figures(self, student: Student, config: TrainRun, run: Path) -> dict[str, Any]:
        """Columns of one student, with the teacher at its objective's temperature; each game's sums go into its run."""
        temperature, device = config.objective.temperature, pick_device(config.device)
        games = measure_games(
            student.net, self._dataset, self._index, temperature=temperature, device=device, figures=self._figures
        )
        write_rows(run / TEST_GAMES, [{name: str(value) for name, value in game.items()} for game in games])
        measured = {f"test_{name}": value for name, value in over_games(games, self._figures).items()}
        known = {"test_data": self._dataset.digest[:16], "test_repeats": self._repeats[_split(config)]}
        return {**measured, **self._size, **known}


def _split(config: TrainRun) -> tuple[Any, ...]:
    """What decides which states a student trains on."""
    t = config.train
    return fill(t.data, env=config.env), config.seed, t.val_fraction, t.states


def _shards(dataset: Dataset) -> set[str]:
    return {record.files["steps.safetensors"].sha256 for record in dataset.records}
