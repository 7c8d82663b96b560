"""What is refused, or said, before a ladder begins."""

from __future__ import annotations

from pathlib import Path

from distill.dataset.reader import Dataset
from distill.dataset.shards import folder_digest
from distill.errors import UserError
from distill.imitate.settings import ImitateRun
from distill.imitate.setup import check_online, check_plain
from distill.imitate.setup import check_settings as check_imitate
from distill.imitate.setup import make_student as make_imitator
from distill.records.data import DataUsed
from distill.records.runs import data_of, only_described
from distill.rounds.settings import RoundsRun
from distill.rounds.setup import check_eyes, check_rounds
from distill.shrink.settings import INT8, ShrinkRun
from distill.shrink.students import check_int8, run_name, run_settings
from distill.sweep.cells import naming
from distill.sweep.grid import Cell, read_rows
from distill.system.progress import console
from distill.system.settings import changed, check_settings, fill
from distill.train.adversary import try_adversary
from distill.train.settings import TrainRun
from distill.train.setup import check_dataset, make_student
from teachers.protocol import Teacher


def check_cells(config: ShrinkRun, teacher: Teacher, every: list[Cell], folder: Path) -> None:
    """Refuse now what a cell would be refused for in hours; every network is built once.

    Args:
        config: settings.
        teacher: who teaches.
        every: cells of the ladder.
        folder: the ladder's.

    Raises:
        UserError: naming the cell.
    """
    if INT8 in config.shrink.precisions:
        check_int8(config, teacher.info.num_actions)
    built: set[str] = set()
    for cell in every:
        mine = run_settings(config, cell, folder)
        with naming(cell):
            check_settings(mine)
            if isinstance(mine, TrainRun):
                _check_training(mine, build=cell["network"] not in built)
            else:
                _check_playing(mine, teacher, build=cell["network"] not in built)
        built.add(cell["network"])


def _check_training(mine: TrainRun, *, build: bool) -> None:
    dataset = Dataset(fill(mine.train.data, env=mine.env), verify=False, mapped=True)
    check_dataset(mine, dataset)
    if build:
        try_adversary(mine, make_student(mine, dataset))


def _check_playing(mine: ImitateRun, teacher: Teacher, *, build: bool) -> None:
    check_imitate(mine, teacher)
    if isinstance(mine, RoundsRun):
        check_rounds(mine)
        check_eyes(mine, teacher.info)
    else:
        check_plain(mine)
    if not isinstance(mine, RoundsRun) or mine.rounds.form == "online":
        check_online(mine)
    if build:
        make_imitator(mine, teacher)


def tell_passed_over(config: ShrinkRun) -> None:
    """Say what has no part in a ladder, though a file of settings may have it for other stages."""
    s, usual = config.shrink, ShrinkRun()
    if s.by != "train" and config.train.data != usual.train.data:
        console.print(f"students learn by {s.by}, not from train.data={config.train.data} (--shrink.by=train)")
    if s.by == "train" and (given := changed(config.imitate)):
        console.print(f"students learn by train, not as imitate.{', imitate.'.join(given)} says (--shrink.by=imitate)")
    if config.evaluate.games not in (usual.evaluate.games, s.games):
        console.print(f"{s.games} whole games each, as shrink.games says, not evaluate.games={config.evaluate.games}")


def refuse_other_data(config: ShrinkRun, path: Path, every: list[Cell]) -> None:
    """Rungs stand side by side only where they learned from the same data.

    Args:
        config: settings.
        path: of the ladder's rows.
        every: cells, of which some may have begun and have no row.

    Raises:
        UserError: the dataset has changed since a student began to learn from it.
    """
    if config.shrink.by != "train":
        return
    data = fill(config.train.data, env=config.env)
    digest = folder_digest(data)
    names = [row["run"] for row in read_rows(path) if row.get("run")] + [run_name(cell) for cell in every]
    for run in (path.parent / name for name in dict.fromkeys(names)):
        before = None if only_described(run) else data_of(run)
        if isinstance(before, DataUsed) and before.digest not in (None, digest):
            raise UserError(
                f"{data} has changed since {run} learned from it, so rungs would be of different data; choose another "
                "--shrink.out, or bring the data back"
            )
