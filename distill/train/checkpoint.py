"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import io
import pickle
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.config import Config
from distill.errors import UserError, first_line
from distill.evaluate.fidelity import Fidelity
from distill.files import write_bytes
from distill.progress import console
from distill.train.team import Team


@dataclass
class Progress:
    """Where a run stands. Batches, learning rate and projections follow from step and seed."""

    step: int = 0
    """Optimizer steps done."""
    best_kl: float = float("inf")
    """Lowest val/kl so far."""
    best_step: int = 0
    """Its step."""
    bad_validations: int = 0
    """Validations since then."""
    jacobian_scale: float = 1.0
    """s, fixed at the start."""
    train_states: int = 0
    """Training states."""
    seconds: float = 0.0
    """Training time so far, validation and saving included."""
    data: dict[str, Any] = field(default_factory=dict)
    """Which data it trains on (``DataUsed``); other data makes it another run."""


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, config: dict[str, Any]
) -> None:
    """Write a checkpoint atomically."""
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": dict(vars(progress)),
        "rng": torch.get_rng_state(),
        "config": config,
    }
    buffer = io.BytesIO()  # torch's own file writer hides the reason of an error, such as a full disk
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint without unpickling objects.

    Raises:
        UserError: missing or damaged.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is not a readable checkpoint ({first_line(error)})") from error
    if not isinstance(content, dict) or not {"model", "optimizer", "progress", "rng", "config"} <= content.keys():
        raise UserError(f"{path} is not a checkpoint of this toolkit")
    return content


class Saver:
    """Keeps checkpoints while in context; on Ctrl-C the step in hand is finished and saved first.

    Half an optimizer step must not be saved, so the first Ctrl-C only asks: ``check`` raises it
    between steps. A second one stops at once and saves nothing.

    Args:
        folder: the run, or None to write nothing: another process does.
        model: with the optimizer, what is saved.
        optimizer: of the model.
        progress: where the run stands; changed by the loop.
        config: kept in every checkpoint.
    """

    def __init__(
        self,
        folder: Path | None,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        config: Config,
    ) -> None:
        self.folder, self.progress = folder, progress
        self._parts = (model, optimizer)
        self._config = config.to_dict()
        self._asked = False
        self._before: Any = None

    def save(self, name: str) -> None:
        """Write ``name.pt``."""
        if self.folder is not None:
            save_checkpoint(self.folder / "checkpoints" / f"{name}.pt", *self._parts, self.progress, self._config)

    def judge(self, scores: Fidelity) -> None:
        """Keep the weights if they are the best so far."""
        if scores.kl < self.progress.best_kl:
            self.progress.best_kl, self.progress.best_step = scores.kl, self.progress.step
            self.progress.bad_validations = 0
            self.save("best")
        else:
            self.progress.bad_validations += 1

    def check(self, team: Team) -> None:
        """Call between steps: raises KeyboardInterrupt, in all processes at once, if Ctrl-C was pressed."""
        if team.any(self._asked):
            self._asked = False
            raise KeyboardInterrupt

    def __enter__(self) -> Saver:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if kind is not None and issubclass(kind, KeyboardInterrupt) and not self._asked:
            self.save("last")
            goes_on = self._config["train"]["resume"]
            how = "The same command continues." if goes_on else "Add --train.resume=true to continue."
            console.print(f"interrupted at step {self.progress.step}; saved. {how}")

    def _ask(self, *signal_and_frame: object) -> None:
        self._asked = True
        signal.signal(signal.SIGINT, self._before)
