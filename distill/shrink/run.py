"""``distill shrink``: a ladder of ever smaller students, one cell at a time, and the picture of it."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

from distill.dataset.reader import Dataset
from distill.errors import DivergedError, UserError
from distill.evaluate.run import evaluate
from distill.records.runs import describe_run, is_same_run, plain
from distill.records.scores import AgentScores
from distill.rounds.settings import RoundsRun
from distill.shrink.check import check_cells, refuse_other_data, tell_passed_over
from distill.shrink.ladder import Rung, as_rows, ladder
from distill.shrink.picture import picture
from distill.shrink.settings import INT8, ShrinkRun
from distill.shrink.show import log_rungs, markdown, show, title
from distill.shrink.speed import TEACHER, speeds
from distill.shrink.students import cells, evaluation, run_cell
from distill.students.onnx_file import require_onnx
from distill.sweep.grid import (
    Cell,
    Row,
    a_count,
    a_number,
    check_rows,
    filled,
    finished,
    number_or_nothing,
    run_grid,
    unfinished,
    write_rows,
)
from distill.system.alone import alone, refuse_several_processes
from distill.system.files import write_bytes
from distill.system.progress import console
from distill.system.settings import fill
from distill.train.run import FREE as TRAIN_FREE
from teachers.load import load_teacher
from teachers.protocol import Teacher

RANDOM = "random"
MATTERS = ("env", "teacher", "preset", "teacher_preset", "tau", "seed", "student", "objective", "evaluate.protocol",
           "evaluate.num_envs")  # fmt: skip
GROWS = ("shrink.networks", "shrink.seeds", "shrink.precisions")
FREE = {"student.name", "shrink.out", *GROWS, *RoundsRun.FREE, *TRAIN_FREE}
LEARNING = {"imitate": ("imitate",), "rounds": ("imitate", "rounds"), "train": ("train",)}
"""Sections that say how students learn."""
ROWS = "rows.csv"
FORMS = {"run": filled, **dict.fromkeys(("score", "score_low", "score_high"), a_number),
         **dict.fromkeys(("weights", "bytes"), a_count),
         **dict.fromkeys(("int8_kl", "int8_action_error"), number_or_nothing)}  # fmt: skip


def shrink(config: ShrinkRun) -> list[Rung]:
    """See ``distill.config.stages.shrink``, which checks ``config`` first."""
    refuse_several_processes("a ladder")
    s = config.shrink
    if INT8 in s.precisions:
        require_onnx("--shrink.precisions with int8", run=True)
    config, teacher = _taught_by(config)
    every = [cell for seed in s.seeds for cell in cells(config, seed)]
    folder = fill(s.out, env=config.env)
    check_cells(config, teacher, every, folder)
    tell_passed_over(config)
    matters = (*MATTERS, "shrink", *LEARNING[s.by])
    is_same_run(folder, plain(config), ShrinkRun, "--shrink.out", FREE, matters)
    rungs: list[Rung] = []
    with alone(folder, "--shrink.out", "shrink.lock"):
        refuse_other_data(config, folder / ROWS, every)
        describe_run(folder, plain(config))
        reference = _reference(config, folder, teacher.info.preset)
        run = functools.partial(_run_cell, config, folder, every)
        for seed in s.seeds:  # the whole ladder, and then its next seed
            begun = [cell for cell in every if cell["seed"] == seed]
            run_grid(begun, run, folder / ROWS, say=console.print)
            rows = finished(every, folder / ROWS)
            check_rows(rows, folder / ROWS, FORMS)
            rungs = _publish(config, folder, teacher, reference, rows)
    if not rungs:
        raise DivergedError("every training diverged; try a lower learning rate")
    show(config, rungs, reference[RANDOM].mean)
    for name in ("table.csv", "table.md", "shrink.png"):
        console.print(f"written: {folder / name}")
    _refuse_missing(unfinished(every, folder / ROWS))
    return rungs


def _run_cell(config: ShrinkRun, folder: Path, every: list[Cell], cell: Cell) -> dict[str, Any] | None:
    """``run_cell``, while the data is that of the others: hours may have passed since they began."""
    refuse_other_data(config, folder / ROWS, every)
    return run_cell(config, folder, cell)


def _taught_by(config: ShrinkRun) -> tuple[ShrinkRun, Teacher]:
    """Who teaches: whom the settings name, or who labelled the dataset; and the settings that say so."""
    if config.shrink.by != "train":
        teacher = load_teacher(
            config.teacher, game=config.env, tau=config.tau, preset=config.teacher_preset, recorded=config.preset
        )
        return config, teacher
    dataset = Dataset(fill(config.train.data, env=config.env), verify=config.train.verify, mapped=True)
    name = dataset.teacher_name if config.teacher in ("", config.env) else config.teacher
    told, tau = dataset.identity.teacher_preset, dataset.manifest.teacher_tau or config.tau
    teacher = load_teacher(name, game=config.env, tau=tau, preset=told)
    if teacher.info.fingerprint != dataset.identity.teacher:
        raise UserError(f"{dataset.folder} is of another teacher than {name}; say with --teacher where its teacher is")
    return dataclasses.replace(config, teacher=name, teacher_preset=told, tau=tau), teacher


def _reference(config: ShrinkRun, folder: Path, sees: str) -> dict[str, AgentScores]:
    """The teacher, by its own eyes, and random play, in the games of all."""
    asked = evaluation(config, [TEACHER, RANDOM], folder / "reference")
    eyes = sees if config.preset not in (None, sees) else config.teacher_preset
    asked = dataclasses.replace(asked, preset=config.preset, teacher_preset=eyes)
    try:
        return dict(evaluate(asked).agents)
    except UserError as error:  # it is the ladder that is of another teacher
        raise UserError(str(error).replace("--evaluate.out", "--shrink.out")) from error


def _publish(
    config: ShrinkRun, folder: Path, teacher: Teacher, reference: dict[str, AgentScores], rows: list[Row]
) -> list[Rung]:
    """Table, picture and TensorBoard of what there is so far."""
    if not rows:
        return []
    onnx = any(row["precision"] == INT8 for row in rows)
    rungs = ladder(rows, reference, teacher, speeds(folder, teacher, rows, onnx=onnx))
    random = reference[RANDOM].mean
    drawn = picture(rungs, random, title(config))
    write_rows(folder / "table.csv", as_rows(rungs))
    write_bytes(folder / "table.md", markdown(config, rungs, random).encode())
    write_bytes(folder / "shrink.png", drawn)
    log_rungs(folder, rungs, drawn)
    return rungs


def _refuse_missing(missing: list[Cell]) -> None:
    if missing:
        names = "; ".join(", ".join(f"{name} {value}" for name, value in cell.items()) for cell in missing)
        raise DivergedError(f"{len(missing)} cells diverged and have no row: {names}")
