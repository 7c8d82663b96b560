"""``distill sweep``: a student for every cell of a grid, and a row of figures for every finished one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from distill.dataset.reader import Dataset
from distill.envs.settings import CommonConfig
from distill.errors import DivergedError, UserError
from distill.evaluate.ready import check_games
from distill.evaluate.run import evaluate
from distill.evaluate.settings import EvaluateRun
from distill.figures.figure import OWN
from distill.records.runs import describe_run, differences, plain, read_settings
from distill.students.folder import Student, load_student
from distill.sweep.cells import cell_config, cell_name, naming, short_names, typed_cells, value_text
from distill.sweep.data import refuse_other_data
from distill.sweep.grid import Cell, Row, check_rows, number_or_nothing, product, read_rows, run_grid, unfinished
from distill.sweep.on_ray import Trainings
from distill.sweep.settings import SweepRun
from distill.sweep.test_set import TestSet, untested
from distill.system.alone import alone, refuse_several_processes
from distill.system.files import is_vacant
from distill.system.progress import console, print_table
from distill.system.settings import changed, fill, part
from distill.train.adversary import try_adversary
from distill.train.checkpoint import can_go_on
from distill.train.fork import check_fork
from distill.train.loop import train
from distill.train.run import FREE, MATTERS
from distill.train.settings import TrainRun
from distill.train.setup import Data, make_student, open_data, open_dataset, steps

DATA_COLUMNS = {"data": "digest", "train_split": "train", "held_split": "held"}
"""Columns that tell a row's data by the beginning of a digest, and their names in a student's papers."""
After = Callable[[TrainRun, Path], Mapping[str, Any]]
SHOWN = {
    f"{kind} {figure.title.removeprefix('val ').removeprefix('action ')}": (f"{kind}_{figure.name}", figure.form)
    for figure in OWN
    if figure.axis and figure.needs == "outputs"
    for kind in ("val", "test")
} | {"score": ("score", ".1f")}
"""Columns of the table, and their forms, by title."""


def sweep(config: SweepRun, cells: Sequence[Cell] | None = None, after: After | None = None) -> list[Row]:
    """See ``distill.config.stages.sweep``, which checks ``config`` first."""
    refuse_several_processes("a sweep")
    _tell_passed_over(config)
    cells = typed_cells(product(config.sweep.grid) if cells is None else cells)
    folder = fill(config.sweep.out, env=config.env)
    configs = {cell_name(cell): cell_config(config, cell, folder / cell_name(cell)) for cell in cells}
    settings = _settings(config, cells)
    _refuse_another(folder, settings)
    waiting = {cell_name(cell): cell for cell in unfinished(cells, folder / "rows.csv")}
    before = read_rows(folder / "rows.csv")
    check_rows(before, folder / "rows.csv", dict.fromkeys((name for name, _ in SHOWN.values()), number_or_nothing))
    refuse_other_data(config, folder, before)
    test = TestSet(config) if config.sweep.data is not None and waiting else None
    digests = _check_data(config, [(cell, configs[name]) for name, cell in waiting.items()], test, folder / "rows.csv")

    def run(cell: Cell) -> dict[str, Any] | None:
        mine = configs[cell_name(cell)]
        with naming(cell):
            try:
                where = trained(mine)
            except DivergedError as error:
                console.print(str(error))
                return None
            student = load_student(where)
            used = student.training.data  # an earlier version's has no digests
            if used.digest not in (None, digests[fill(mine.train.data, env=mine.env)]):
                raise UserError(f"{mine.train.data} has changed since this sweep began; choose another --sweep.out")
            row = _figures(student, test.figures(student, mine, where) if test else untested(config))
            row |= {name: (getattr(used, key) or "")[:16] for name, key in DATA_COLUMNS.items()}
            row |= _scores(config, mine, where) if config.sweep.games else {}
            row["run"] = where.name
            more = dict(after(mine, where)) if after else {}
        if taken := more.keys() & {*cell, *row}:
            raise ValueError(f"after() returns columns that a row has already: {', '.join(sorted(taken))}")
        return {**row, **more}

    with alone(folder, "--sweep.out", "sweep.lock"), contextlib.ExitStack() as stack:
        trained: Callable[[TrainRun], Path] = train
        if config.sweep.workers == "ray" and waiting:
            trained = stack.enter_context(Trainings(config.sweep, [configs[name] for name in waiting]))
        describe_run(folder, settings)
        rows = run_grid(cells, run, folder / "rows.csv", say=console.print)
    diverged = unfinished(cells, folder / "rows.csv")
    if rows:
        _show([cell for cell in cells if cell not in diverged], rows, folder)
    if diverged:
        names = ", ".join(cell_name(cell) for cell in diverged)
        raise DivergedError(f"{len(diverged)} of {len(cells)} cells diverged and have no row: {names}")
    return rows


def _settings(config: SweepRun, cells: Sequence[Cell]) -> dict[str, Any]:
    """What the sweep's config.yaml says: the shared settings, and the values that the cells go through."""
    grid = {name: [cell[name] for cell in cells] for name in cells[0]}
    grid = {name: [v for i, v in enumerate(values) if v not in values[:i]] for name, values in grid.items()}
    return plain(dataclasses.replace(config, sweep=dataclasses.replace(config.sweep, grid=grid)))


def _refuse_another(folder: Path, settings: dict[str, Any]) -> None:
    """Rows of other shared settings cannot stand beside these; other values of the same grid can."""
    if not folder.exists() or (folder.is_dir() and is_vacant(folder)):
        return
    before = read_settings(folder, "--sweep.out", SweepRun)
    then, now = ((content.get("sweep") or {}).get("grid") or {} for content in (before, settings))
    if then.keys() != now.keys():
        raise UserError(
            f"{folder} is a sweep over {', '.join(then) or 'nothing'}, not over {', '.join(now)}; "
            "choose another --sweep.out"
        )
    matters = [*MATTERS, "sweep.data", "sweep.test_states", "sweep.games"]
    if settings["sweep"]["games"]:
        matters += ["evaluate.protocol", "evaluate.attack"]
        attacked = settings["evaluate"]["attack"] is not None
        matters += ["evaluate.num_envs"] if _lanes(before) != _lanes(settings) else []
        matters += ["evaluate.attack_eps", "evaluate.attacked_steps", "threat"] if attacked else []
    matters += ["evaluate.figures"] if settings["sweep"]["data"] else []
    others = differences(before, settings, matters, {*FREE, *now})
    if others:
        raise UserError(f"{folder} is a different sweep: {'; '.join(others)}; choose another --sweep.out")


def _lanes(settings: Mapping[str, Any]) -> int | None:
    """How many games are played side by side, which decides what games these are; None where nobody says."""
    games = (settings.get("sweep") or {}).get("games")
    lanes = (settings.get("evaluate") or {}).get("num_envs")
    return min(lanes, games) if isinstance(lanes, int) and isinstance(games, int) else None


def _tell_passed_over(config: SweepRun) -> None:
    """Say what would be of games, where none are played; a file of settings may have it for other stages."""
    given = [name for name in changed(config.evaluate) if name != "figures"]
    if given and not config.sweep.games:
        console.print(
            f"no whole games are played, so passed over: {', '.join(f'evaluate.{name}' for name in given)}; "
            "--sweep.games=32 plays 32 with every student"
        )


def _check_data(
    config: SweepRun, cells: Sequence[tuple[Cell, TrainRun]], test: TestSet | None, rows: Path
) -> dict[Path, str]:
    """Verify every training dataset once, and refuse now what a cell would be refused for in hours.

    Returns:
        The datasets' digests by folder.
    """
    firsts: dict[Path, TrainRun] = {}
    for _, mine in cells:
        firsts.setdefault(fill(mine.train.data, env=mine.env), mine)
    digests = {}
    for folder, first in firsts.items():
        dataset = open_dataset(first, config.train.verify)
        if test is not None:
            test.check_fits(dataset)
            test.choose(rows)
        digests[folder] = dataset.digest
        for cell, mine in cells:
            if fill(mine.train.data, env=mine.env) == folder:
                with naming(cell):
                    data = _check_cell(config, mine, dataset, test)
                    if test is not None:
                        test.count_repeats(mine, dataset, data.train_index)
    return digests


def _check_cell(config: SweepRun, mine: TrainRun, dataset: Dataset, test: TestSet | None) -> Data:
    """Begin a cell's training as ``train`` does, as far as that leaves nothing behind."""
    here = dataclasses.replace(mine, train=dataclasses.replace(mine.train, hold_data="memory"))
    data = open_data(here, torch.device("cpu"), dataset)
    student = make_student(mine, dataset)
    try_adversary(mine, student)
    _, last = steps(mine, data.sampler)
    if not can_go_on(Path(mine.train.out)):  # what a run that has begun is a fork of may be gone
        check_fork(mine, student, dataset.task, last)
    if config.sweep.games:
        check_games(_playing(config, mine, Path(mine.train.out)), student, dataset.task.preset)
    if test is not None:
        test.try_figures(student)
    return data


def _figures(student: Student, tested: Mapping[str, Any]) -> dict[str, Any]:
    training = student.training
    took = {name: getattr(training, name) for name in ("steps", "best_step", "train_seconds")}
    return {**training.metrics, **tested, **took}


def _scores(config: SweepRun, mine: TrainRun, run: Path) -> dict[str, Any]:
    """Play whole games with a finished student."""
    student = evaluate(_playing(config, mine, run)).agents["student"]
    return {"score": student.mean, "score_low": student.ci95[0], "score_high": student.ci95[1]}


def _playing(config: SweepRun, mine: TrainRun, run: Path) -> EvaluateRun:
    """Settings of a student's games."""
    played = dataclasses.replace(
        config.evaluate,
        agents=[f"student={run}"],
        games=config.sweep.games,
        data=None,
        figures=[],
        out=str(run / "scores"),
    )
    return EvaluateRun(**vars(part(mine, CommonConfig)), evaluate=played, threat=config.threat)


def _show(cells: Sequence[Cell], rows: Sequence[Row], folder: Path) -> None:
    """Print the figures that say how good each student is."""
    shown = {title: figure for title, figure in SHOWN.items() if any(row.get(figure[0]) for row in rows)}
    lines = []
    for cell, row in zip(cells, rows, strict=True):
        line = [value_text(value) for value in cell.values()]
        line += [format(float(row[name]), form) if row.get(name) else "-" for name, form in shown.values()]
        lines.append(line)
    header = [name.replace("_", " ") for name in short_names(list(cells[0]))]  # so that it wraps between words
    print_table(f"sweep over {', '.join(cells[0])}", [*header, *shown], lines)
    console.print(f"written: {folder / 'rows.csv'}")
