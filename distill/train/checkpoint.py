"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.errors import UserError, first_line
from distill.figures.fidelity import Fidelity
from distill.system.files import write_bytes
from distill.system.progress import console
from distill.system.signals import StopRequest, outcome
from distill.train.settings import TrainRun
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


MARK = b"\nsha256 of what is before this line: "
LENGTH = len(MARK) + 64
NAMES = ("last", "previous")
"""Checkpoints that a run can go on from, newest first."""


def save_checkpoint(path: Path, content: dict[str, Any], keep: Path | None = None) -> None:
    """Write a checkpoint atomically: ``torch.save``'s bytes, which ``torch.load`` reads, and a checksum behind them.

    Args:
        path: the file.
        content: what is saved.
        keep: where the file that is replaced goes.
    """
    buffer = io.BytesIO()  # torch's own file writer hides the reason of an error, such as a full disk
    # The content says so too: a checksum that cannot be recognised must not pass for one that never was there.
    torch.save({**content, "has_checksum": True}, buffer)
    data = buffer.getvalue()
    write_bytes(path, data + MARK + hashlib.sha256(data).hexdigest().encode(), keep)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint without unpickling objects.

    Raises:
        UserError: missing, or damaged by as little as one bit. (The last version's checkpoints have no checksum
            of their own, only those of the ZIP format over every tensor.)
    """
    try:
        data = path.read_bytes()
        has_checksum = data[-LENGTH:].startswith(MARK)
        if has_checksum and hashlib.sha256(data[:-LENGTH]).hexdigest().encode() != data[-64:]:
            raise ValueError("it does not match its checksum")
        if not has_checksum and (damaged := zipfile.ZipFile(io.BytesIO(data)).testzip()):
            raise ValueError(f"{damaged} in it does not match its checksum")
        content = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except Exception as error:  # damage can make an unpickler raise anything
        raise UserError(f"{path} is not a readable checkpoint ({first_line(error)})") from error
    if not isinstance(content, dict) or not {"model", "optimizer", "progress", "rng", "config"} <= content.keys():
        raise UserError(f"{path} is not a checkpoint of this toolkit")
    if content.get("has_checksum", False) != has_checksum:
        raise UserError(f"{path} is not a readable checkpoint (its checksum is missing)")
    return content


def can_go_on(folder: Path) -> bool:
    """True for a run folder with a checkpoint to go on from, damaged or not."""
    return any((folder / "checkpoints" / f"{name}.pt").exists() for name in NAMES)


def newest_checkpoint(folder: Path, device: torch.device, flag: str = "--train.out") -> dict[str, Any]:
    """The run's last checkpoint or, where that is damaged, the one before it, which it says.

    Args:
        folder: the run.
        device: where its tensors go.
        flag: the setting to change where there is none, for the error.

    Raises:
        UserError: neither can be read.
    """
    errors: list[str] = []
    for path in (folder / "checkpoints" / f"{name}.pt" for name in NAMES):
        if not path.exists():
            continue
        try:
            content = load_checkpoint(path, device)
        except UserError as error:
            errors.append(str(error))
            continue
        if errors:
            console.print(f"{errors[0]}: going on from {path.name}, the checkpoint before it")
            with contextlib.suppress(FileNotFoundError):  # else the next checkpoint would push out the good one
                os.replace(path.with_name("last.pt"), path.with_name("damaged.pt"))
        return content
    also = " and no more is previous.pt" if len(errors) > 1 else ", and there is none before it"
    raise UserError(f"{errors[0]}{also}; choose another {flag} to start again")


def best_weights(content: dict[str, Any], folder: Path, device: torch.device) -> dict[str, Tensor]:
    """The best weights up to a checkpoint; nothing where none were judged yet.

    Raises:
        UserError: a checkpoint of the last version, which has them in best.pt only, and that is damaged.
    """
    if "best" in content:
        return dict(content["best"])
    if not content["progress"]["best_step"]:
        return {}
    return dict(load_checkpoint(folder / "checkpoints" / "best.pt", device)["model"])


class Saver:
    """Keeps checkpoints while in context; on Ctrl-C or SIGTERM the step in hand is finished and saved first.

    Half an optimizer step must not be saved, so the first signal only asks: ``check`` raises it
    between steps. A second one stops at once and saves nothing.

    Args:
        folder: the run, or None to write nothing: another process does.
        model: with the optimizer, what is saved.
        optimizer: of the model.
        progress: where the run stands; changed by the loop.
        config: kept in every checkpoint.
        best: the best weights so far, of a run that goes on.
    """

    def __init__(
        self,
        folder: Path | None,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        config: TrainRun,
        best: dict[str, Tensor] | None = None,
    ) -> None:
        self.folder, self.progress = folder, progress
        self.best = best or {}
        self._model, self._optimizer = model, optimizer
        self._config = config.to_dict()
        self._stop = StopRequest()

    def save(self, name: str = "last") -> None:
        """Write ``name.pt``; the last one but one is kept, for a run must be able to go on from what it reads."""
        if self.folder is None:
            return
        content = {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "progress": dict(vars(self.progress)),
            "rng": torch.get_rng_state(),
            "config": self._config,
        }
        folder = self.folder / "checkpoints"
        if name == "last":  # all that the run needs is in one file
            save_checkpoint(folder / "last.pt", {**content, "best": self.best}, keep=folder / "previous.pt")
        else:
            save_checkpoint(folder / f"{name}.pt", content)

    def judge(self, scores: Fidelity) -> None:
        """Keep the weights if they are the best so far."""
        if scores.kl < self.progress.best_kl:
            self.progress.best_kl, self.progress.best_step = scores.kl, self.progress.step
            self.progress.bad_validations = 0
            self.best = {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}
            self.save("best")
        else:
            self.progress.bad_validations += 1

    def check_best(self) -> None:
        """Say so if best.pt is damaged. The student does not need it, but somebody may."""
        if self.folder is None:
            return
        try:
            load_checkpoint(self.folder / "checkpoints" / "best.pt", torch.device("cpu"))
        except UserError as error:
            console.print(f"{error}; the student is made of the copy in last.pt")

    def check(self, team: Team) -> None:
        """Call between steps: raises KeyboardInterrupt, in all processes at once, if one was asked to stop."""
        if team.any(self._stop.asked):
            raise self._stop.take()

    def __enter__(self) -> Saver:
        self._stop.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *rest: object) -> None:
        self._stop.__exit__()
        if isinstance(error, KeyboardInterrupt) and not self._stop.asked:
            self.save("last")
            goes_on = self._config["train"]["resume"]
            how = "The same command continues." if goes_on else "Add --train.resume=true to continue."
            console.print(f"{outcome(error)[0]} at step {self.progress.step}; saved. {how}")
