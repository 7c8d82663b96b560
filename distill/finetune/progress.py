"""Where a run stands, its folder, and its checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from distill.errors import UserError
from distill.finetune.settings import FinetuneRun
from distill.records.runs import is_same_run, plain, run_folder
from distill.students.folder import is_student, load_student
from distill.system.progress import console
from distill.system.settings import fill
from distill.train.checkpoint import load_checkpoint, newest_checkpoint
from distill.train.hooks import Status
from distill.train.run import hold_run
from distill.train.saver import Kept, Saver

MATTERS = ("env", "teacher", "preset", "teacher_preset", "tau", "seed", "student", "finetune")
"""What makes a run another run, section by section."""
FREE = tuple(f"finetune.{name}" for name in ("resume", "out", "checkpoint_every", "log_every", "loggers"))
"""Settings in those sections that may change."""
MIN_GAMES = 10
"""The mean of fewer games is no judge."""


@dataclass
class Progress:
    """Where a run stands. Rates and schedules follow from it."""

    step: int = 0
    """Optimizer steps done."""
    states: int = 0
    """States played and learned from, those of the warm-up included."""
    seconds: float = 0.0
    """Time spent so far, saving included."""
    warmed: bool = False
    """The value head needs no warm-up any more."""
    begun: int = 0
    """Games begun."""
    games: int = 0
    """Games finished."""
    scores: list[float] = field(default_factory=list)
    """Scores of the last ones."""
    best_score: float | None = None
    """Mean score of the last games when the best student was kept."""
    best_step: int = 0
    """Its optimizer step."""
    compared: dict[str, float] = field(default_factory=dict)
    """Student and teacher on some states of the last whole rollout: ``kl``, ``action_error``."""
    teacher: str | None = None
    """Fingerprint of who teaches; another one makes it another run."""
    start: str | None = None
    """Fingerprint of the agent that it began with, likewise."""

    @property
    def score(self) -> float | None:
        """Mean score of the last games; None before the first."""
        return float(np.mean(self.scores)) if self.scores else None


def open_run(config: FinetuneRun, student: str, stack: contextlib.ExitStack) -> tuple[Path, bool]:
    """Create the run folder, or accept one that has this run already.

    Args:
        config: settings.
        student: name of the network.
        stack: holds the folder until it is closed.

    Returns:
        (folder, True where there is a checkpoint to go on from).

    Raises:
        UserError: it holds a different run, or another process is at work there.
    """
    c = config.finetune

    def name(when: str) -> Path:
        return fill(c.out, env=config.env, student=student, seed=config.seed, time=when)

    folder, asked = run_folder(c.out, name, newest=c.resume), plain(config)

    def is_same() -> bool:
        return is_same_run(folder, asked, FinetuneRun, "--finetune.out", FREE, MATTERS)

    return folder, hold_run(folder, asked, "--finetune.out", is_same, stack)


def is_finished(folder: Path, now: Progress) -> bool:
    """Whether this run's student is there. Its papers name its teacher; with whom it began, a checkpoint alone knows.

    Raises:
        UserError: it is another teacher's, or began with another agent.
    """
    if not is_student(folder):
        return False
    teacher, start = load_student(folder).training.teacher or None, now.start
    with contextlib.suppress(UserError):  # none there, or damaged: a finished run needs it no more
        content = load_checkpoint(folder / "checkpoints" / "last.pt", torch.device("cpu"))
        start = content["progress"].get("start", start)
    _refuse_others(folder, teacher, start, now)
    return True


def _refuse_others(folder: Path, teacher: str | None, start: str | None, now: Progress) -> None:
    """Refuse a run whose teacher or first agent, by fingerprint, are others than ``now`` says."""
    for before, current, what in (
        (teacher, now.teacher, "learned from another teacher"),
        (start, now.start, "began with another agent"),
    ):
        if before != current:
            raise UserError(f"{folder} {what} than the one that is there now; choose another --finetune.out")


def restore(folder: Path, device: torch.device, kept: Kept) -> None:
    """Weights, optimizer and progress of the newest checkpoint.

    Raises:
        UserError: it is damaged, or teacher or first agent are others than ``kept.progress`` says.
    """
    content = newest_checkpoint(folder, device, "--finetune.out")
    progress = Progress(**content["progress"])
    _refuse_others(folder, progress.teacher, progress.start, kept.progress)
    kept.restore(content)
    if not progress.warmed and not kept.progress.warmed:
        kept.progress.seconds = progress.seconds  # else the states of both would be less for the policy to learn from
        console.print(f"{folder}: its warm-up was cut off, and begins again")
        return
    kept.progress = progress
    console.print(
        f"{folder}: continuing at {progress.states:,} states, step {progress.step:,}; emulators are not saved, "
        "so it begins new games"
    )


class BestSaver(Saver):
    """Keeps a checkpoint every so many states; each time the best student, too, if this is it.

    Args:
        folder: the run.
        kept: what is saved.
        every: states between two checkpoints.
        write_best: writes the student as it is now.
        games: that a score must be the mean of.
    """

    def __init__(
        self, folder: Path, kept: Kept, every: int, write_best: Callable[[], None], games: int = MIN_GAMES
    ) -> None:
        self._write_best, self._games = write_best, games
        self._every, self._last = every, kept.progress.states
        super().__init__(folder, kept, self._is_due, lambda: f"{kept.progress.states:,} states")

    def _is_due(self, now: Status) -> bool:
        due: bool = now.states - self._last >= self._every
        self._last = now.states if due else self._last
        return due

    def save(self) -> None:
        """See ``Saver``; the best student first: a checkpoint that knows its score must not come before it."""
        p: Progress = self.kept.progress
        # The papers of a best student are to tell how near its teacher it is.
        score = p.score if p.compared or p.teacher is None else None
        if score is not None and len(p.scores) >= self._games and (p.best_score is None or score > p.best_score):
            p.best_score, p.best_step = score, p.step
            self._write_best()
        super().save()
