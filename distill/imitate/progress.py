"""Where a run stands, its folder, and its checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from distill.errors import UserError
from distill.imitate.settings import ImitateRun
from distill.records.runs import is_same_run, plain, read_settings, run_folder
from distill.system.progress import console
from distill.system.settings import fill
from distill.train.checkpoint import newest_checkpoint
from distill.train.hooks import Status
from distill.train.run import hold_run
from distill.train.saver import Kept, Saver

LAST_GAMES = 20


@dataclass
class Progress:
    """Where a run stands. Rates and shares follow from it, batches from it and the seed."""

    turn: int = 0
    """Turns done."""
    step: int = 0
    """Optimizer steps done."""
    states: int = 0
    """States played."""
    seconds: float = 0.0
    """Time spent so far, saving included."""
    next_game: int = 0
    """A number above those of all games so far; a run that continues plays none of them again."""
    games: int = 0
    """Games that the student finished and played alone."""
    scores: list[float] = field(default_factory=list)
    """Scores of the last ones, at most ``LAST_GAMES``."""
    teacher: str = ""
    """Fingerprint of who labels; another one makes it another run."""
    run: str = ""
    """Drawn as the run began: what it keeps of its states is known by it. Empty in runs of earlier versions."""
    jacobian_scale: float = 0.0
    """s, fixed before the first step with derivatives; 0 until then."""


def open_run(config: ImitateRun, stack: contextlib.ExitStack) -> tuple[Path, bool]:
    """Create the run folder, or accept one that has this run already; ``stack`` holds it.

    Returns:
        (folder, True where there is a checkpoint to go on from).

    Raises:
        UserError: it holds a different run, or another process is at work there.
    """
    c = config.imitate
    folder = run_folder(c.out, lambda when: _folder(config, when), newest=c.resume)
    asked, kind = plain(config), type(config)

    def is_same() -> bool:
        _refuse_other_command(folder, asked)
        return is_same_run(folder, asked, kind, "--imitate.out", kind.FREE, kind.MATTERS)

    return folder, hold_run(folder, asked, "--imitate.out", is_same, stack)


def _refuse_other_command(folder: Path, asked: Mapping[str, Any]) -> None:
    """`distill rounds` adds settings of its own to those of `distill imitate`; neither may pass over the other's."""
    if not (folder / "config.yaml").is_file():
        return
    saved = read_settings(folder, "--imitate.out", ImitateRun)
    if "imitate" in saved and ("rounds" in saved) != ("rounds" in asked):
        command = "rounds" if "rounds" in saved else "imitate"
        raise UserError(
            f"{folder} is a run of `distill {command}`; go on with that command, or choose another --imitate.out"
        )


def _folder(config: ImitateRun, when: str) -> Path:
    return fill(config.imitate.out, env=config.env, student=config.student.in_folders, seed=config.seed, time=when)


def restore(folder: Path, device: torch.device, kept: Kept) -> None:
    """Weights, optimizer and progress of the newest checkpoint.

    Raises:
        UserError: it is damaged, or another teacher labelled than ``kept.progress`` says.
    """
    content = newest_checkpoint(folder, device, "--imitate.out")
    progress = Progress(**content["progress"])
    refuse_other_teacher(folder, progress.teacher, kept.progress.teacher)
    kept.restore(content)
    kept.progress = progress
    console.print(f"{folder}: continuing at {progress.states:,} states, step {progress.step:,}")


def refuse_other_teacher(folder: Path, before: str, now: str) -> None:
    """Refuse to go on with a run, or to count it as finished, where another teacher has the name that it was given.

    Args:
        folder: the run.
        before: fingerprint of whom it learned from.
        now: fingerprint of who is there now.

    Raises:
        UserError: it is another one.
    """
    if before != now:
        raise UserError(
            f"{folder} learned from another teacher than the one that is there now; choose another --imitate.out"
        )


def make_saver(folder: Path, kept: Kept, every: int, place: Callable[[Status], int]) -> Saver:
    """Keeps a checkpoint every so many states or steps, by ``place``."""
    p = kept.progress
    saved = place(Status(p.step, None, p.states, p.seconds))

    def due(now: Status) -> bool:
        nonlocal saved
        if place(now) - saved < every:
            return False
        saved = place(now)
        return True

    return Saver(folder, kept, due, lambda: f"{kept.progress.states:,} states")
