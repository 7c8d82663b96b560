"""A run's folder: what was asked, with which versions, and whether it may be continued."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.losses.settings import ObjectiveConfig
from distill.records.data import DataUsed, write_data
from distill.records.runs import describe_run, is_same_run, only_described, plain, refuse_other_data, run_folder
from distill.system.alone import alone
from distill.system.settings import fill
from distill.train.checkpoint import can_go_on
from distill.train.settings import TrainRun

MATTERS = ("env", "teacher", "preset", "tau", "seed", "student", "objective", "train")
"""What makes a run another run, section by section."""
FREE = tuple(
    f"train.{name}"
    for name in ("resume", "out", "checkpoint_every", "log_every", "loggers", "verify", "hold_data", "cuda_graph")
)
"""Settings in those sections that may change."""


def objective_name(objective: ObjectiveConfig) -> str:
    """Short name for folders and tables: ``kl``, ``kl-sobolev0.01`` or ``kl-noise8``."""
    name: str = objective.divergence
    if objective.jacobian_weight > 0:
        name += f"-sobolev{objective.jacobian_weight:g}"
    name += f"-noise{objective.input_noise:g}" if objective.input_noise > 0 else ""
    return name + "".join(f"-{term_name(term)}{weight:g}" for term, weight in objective.terms.items())


def term_name(term: str) -> str:
    """A term of ``objective.terms`` in a folder's name: the last part of a dotted path."""
    return re.split(r"[:.]", term)[-1].lower()


def open_run(
    config: TrainRun, used: DataUsed, held: contextlib.ExitStack, check: Callable[[], None] = lambda: None
) -> tuple[Path, bool]:
    """Create the run folder, or accept one that has this run already; ``held`` keeps others out.

    Args:
        config: settings.
        used: the data to train on.
        held: holds the folder until it is closed.
        check: called before a run is begun; what it refuses leaves no folder.

    Returns:
        (folder, True where there is a checkpoint to go on from).

    Raises:
        UserError: it holds a different run or one on other data, or another process is at work there.
    """
    t = config.train
    folder = run_folder(t.out, lambda when: _folder(config, when), newest=t.resume)
    asked = plain(config)

    def is_same() -> bool:
        if not is_same_run(folder, asked, TrainRun, "--train.out", FREE, MATTERS):
            return False
        refuse_other_data(folder, used, "--train.out")
        return True

    resuming = hold_run(folder, asked, "--train.out", is_same, held, check)
    if not resuming:
        write_data(folder, used)
    return folder, resuming


def hold_run(
    folder: Path,
    asked: dict[str, Any],
    flag: str,
    is_same: Callable[[], bool],
    stack: contextlib.ExitStack,
    check: Callable[[], None] = lambda: None,
) -> bool:
    """Keep other processes out of a run's folder, and begin the run if need be; what is no such run is not touched.

    Args:
        folder: of the run.
        asked: its settings by section.
        flag: the setting that names the folder.
        is_same: whether the run is there already; refuses others.
        stack: holds the folder until it is closed.
        check: called before a run is begun; what it refuses leaves no folder.

    Returns:
        True where there is a checkpoint to go on from.

    Raises:
        UserError: it holds a different run, or another process is at work there.
    """

    def is_begun() -> bool:
        return not only_described(folder) and is_same() and can_go_on(folder)

    if not is_begun():
        check()
    stack.enter_context(alone(folder, flag))
    if is_begun():  # another process may have been there meanwhile
        return True
    describe_run(folder, asked)
    return False


def _folder(config: TrainRun, when: str) -> Path:
    return fill(
        config.train.out,
        env=config.env,
        student=config.student.in_folders,
        objective=objective_name(config.objective),
        seed=config.seed,
        time=when,
    )
