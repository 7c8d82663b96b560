"""Where a run stands, its folder, and its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from distill.errors import UserError
from distill.imitate.settings import ImitateRun
from distill.records.runs import describe_run, is_same_run, plain, run_folder
from distill.system.progress import console
from distill.system.settings import fill
from distill.train.checkpoint import can_go_on, newest_checkpoint
from distill.train.hooks import Status
from distill.train.saver import Kept, Saver

LAST_GAMES = 20
MATTERS = ("env", "teacher", "preset", "teacher_preset", "tau", "seed", "student", "objective", "imitate")
"""What makes a run another run, section by section."""
FREE = tuple(
    f"imitate.{name}"
    for name in ("resume", "out", "checkpoint_every", "log_every", "loggers", "ring", "teacher_zip", "value")
)
"""Settings in those sections that may change."""


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


def open_run(config: ImitateRun) -> tuple[Path, bool]:
    """Create the run folder, or accept one that has this run already.

    Returns:
        (folder, True where there is a checkpoint to go on from).

    Raises:
        UserError: it holds a different run.
    """
    c = config.imitate
    folder = run_folder(c.out, lambda when: _folder(config, when), newest=c.resume)
    asked = plain(config)
    if is_same_run(folder, asked, ImitateRun, "--imitate.out", FREE, MATTERS) and can_go_on(folder):
        return folder, True
    describe_run(folder, asked)
    return folder, False


def _folder(config: ImitateRun, when: str) -> Path:
    return fill(config.imitate.out, env=config.env, student=config.student.in_folders, seed=config.seed, time=when)


def restore(folder: Path, device: torch.device, kept: Kept) -> None:
    """Weights, optimizer and progress of the newest checkpoint.

    Raises:
        UserError: it is damaged, or another teacher labelled than ``kept.progress`` says.
    """
    content = newest_checkpoint(folder, device, "--imitate.out")
    progress = Progress(**content["progress"])
    if progress.teacher != kept.progress.teacher:
        raise UserError(
            f"{folder} learned from another teacher than the one that is there now; choose another --imitate.out"
        )
    kept.restore(content)
    kept.progress = progress
    console.print(
        f"{folder}: continuing at {progress.states:,} states, step {progress.step:,}; the ring is not saved, "
        "so it fills again from new games before the student learns"
    )


def make_saver(folder: Path, kept: Kept, every: int) -> Saver:
    """Keeps a checkpoint every so many states."""
    saved: int = kept.progress.states

    def due(now: Status) -> bool:
        nonlocal saved
        if now.states - saved < every:
            return False
        saved = now.states
        return True

    return Saver(folder, kept, due, lambda: f"{kept.progress.states:,} states")
