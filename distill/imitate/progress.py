"""Where a run stands, its folder, and its checkpoints."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.errors import UserError
from distill.imitate.settings import ImitateRun
from distill.records.runs import describe_run, differences, plain, read_settings
from distill.system.files import is_vacant
from distill.system.progress import console
from distill.system.settings import fill
from distill.system.signals import StopRequest, outcome
from distill.train.checkpoint import can_go_on, newest_checkpoint, save_checkpoint

LAST_GAMES = 20
MATTERS = ("env", "teacher", "preset", "teacher_preset", "tau", "seed", "student", "objective", "imitate")
"""What makes a run another run, section by section."""
FREE = tuple(
    f"imitate.{name}" for name in ("resume", "out", "checkpoint_every", "log_every", "ring", "teacher_zip", "value")
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
    """Create the run folder, or accept an existing one that may be resumed.

    Returns:
        (folder, True where there is a checkpoint to resume from).

    Raises:
        UserError: the folder exists and resume is off, or it holds a different run.
    """
    folder = _folder(config, str(int(time.time())))
    if config.imitate.resume and "{time}" in config.imitate.out:
        pattern = _folder(config, "*")  # the newest run of these settings, whenever it was started
        folder = max(pattern.parent.glob(pattern.name), default=folder)
    asked = plain(config)
    if folder.exists() and not (folder.is_dir() and is_vacant(folder)):
        if not config.imitate.resume:
            raise UserError(
                f"{folder} exists; add --imitate.resume=true to continue it, or choose another --imitate.out"
            )
        changed = differences(read_settings(folder, "--imitate.out", ImitateRun), asked, MATTERS, FREE)
        if changed:
            raise UserError(f"{folder} is a different run: {'; '.join(changed)}; choose another --imitate.out")
        if can_go_on(folder):
            return folder, True
    describe_run(folder, asked)
    return folder, False


def _folder(config: ImitateRun, when: str) -> Path:
    return fill(config.imitate.out, env=config.env, student=config.student.in_folders, seed=config.seed, time=when)


def restore(
    folder: Path, device: torch.device, model: nn.Module, optimizer: torch.optim.Optimizer, teacher: str
) -> Progress:
    """Weights, optimizer and progress of the newest checkpoint.

    Raises:
        UserError: it is damaged, or another teacher labelled.
    """
    content = newest_checkpoint(folder, device, "--imitate.out")
    progress = Progress(**content["progress"])
    if progress.teacher != teacher:
        raise UserError(
            f"{folder} learned from another teacher than the one that is there now; choose another --imitate.out"
        )
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["rng"].cpu())
    console.print(
        f"{folder}: continuing at {progress.states:,} states, step {progress.step:,}; the ring is not saved, "
        "so it fills again from new games before the student learns"
    )
    return progress


class Saver:
    """Keeps checkpoints while in context; on Ctrl-C or SIGTERM the turn in hand is finished and saved first.

    Args:
        folder: the run.
        model: with the optimizer, what is saved.
        optimizer: of the model.
        progress: where the run stands; changed by the loop.
        config: kept in every checkpoint.
    """

    def __init__(
        self, folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, config: ImitateRun
    ) -> None:
        self._folder, self._model, self._optimizer = folder / "checkpoints", model, optimizer
        self._progress, self._config = progress, config
        self._every, self._saved = config.imitate.checkpoint_every, progress.states
        self._stop = StopRequest()

    def save(self) -> None:
        """Write ``last.pt``; the one before it is kept, for a run must be able to go on from what it reads."""
        content = {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "progress": dict(vars(self._progress)),
            "rng": torch.get_rng_state(),
            "config": self._config.to_dict(),
        }
        save_checkpoint(self._folder / "last.pt", content, keep=self._folder / "previous.pt")
        self._saved = self._progress.states

    def check(self) -> None:
        """Call between turns: saves where it is time to, and raises KeyboardInterrupt if one was asked to stop."""
        if self._stop.asked:
            raise self._stop.take()
        if self._progress.states - self._saved >= self._every:
            self.save()

    def __enter__(self) -> Saver:
        self._stop.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *rest: Any) -> None:
        self._stop.__exit__()
        if isinstance(error, KeyboardInterrupt) and not self._stop.asked:
            self.save()
            how = (
                "The same command continues" if self._config.imitate.resume else "Add --imitate.resume=true to continue"
            )
            console.print(f"{outcome(error)[0]} at {self._progress.states:,} states; saved. {how}.")
