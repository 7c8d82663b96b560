"""Keeps the state of a training, offline or online, so that it goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from distill.errors import UserError
from distill.figures.fidelity import Fidelity
from distill.system.progress import console
from distill.system.signals import StopRequest, outcome
from distill.train.checkpoint import Progress, can_go_on, load_checkpoint, newest_checkpoint, save_checkpoint
from distill.train.hooks import Hook, Status
from distill.train.team import ALONE, Team


@dataclass
class Kept:
    """What a checkpoint is made of."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    progress: Any
    """A dataclass that says where the training stands; changed by the loop."""
    settings: Mapping[str, Any]
    how_to_go_on: str = "the same command continues"
    """What continues it after an interrupt: ``the same command continues``."""

    def content(self) -> dict[str, Any]:
        """As it is now."""
        return {
            "model": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": dict(vars(self.progress)),
            "rng": torch.get_rng_state(),
            "config": self.settings,
        }

    def go_on(self, folder: Path, device: torch.device) -> bool:
        """Restore the newest checkpoint of the run in ``folder``, progress included; False where it has none.

        Raises:
            UserError: it is damaged.
        """
        if not can_go_on(folder):
            return False
        content = newest_checkpoint(folder, device)
        self.restore(content)
        self.progress = type(self.progress)(**content["progress"])
        return True

    def restore(self, content: Mapping[str, Any]) -> None:
        """Weights, optimizer and PyTorch's random stream of a checkpoint; its progress is the caller's to judge."""
        self.net.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        torch.set_rng_state(content["rng"].cpu())


class Saver(Hook):
    """Keeps checkpoints while in context; on Ctrl-C or SIGTERM the step in hand is finished and saved first.

    Half a step must not be saved, so the first signal only asks: ``check`` raises it between steps. A second one
    stops at once and saves nothing. As a hook it comes behind those that measure.

    Args:
        folder: the run, or None to write nothing: another process does.
        kept: what is saved.
        due: whether it is time for a checkpoint, after a step.
        where: how far it is, in words; by default its step.
        team: processes that stop together.
    """

    def __init__(
        self,
        folder: Path | None,
        kept: Kept,
        due: Callable[[Status], bool],
        where: Callable[[], str] | None = None,
        team: Team = ALONE,
    ) -> None:
        self._folder = None if folder is None else folder / "checkpoints"
        self.kept, self._due, self._team = kept, due, team
        self._where = where or (lambda: f"step {kept.progress.step}")
        self._stop = StopRequest()
        self._saved: Status | None = None

    def save(self) -> None:
        """Write ``last.pt``; the one before it is kept, for a run must be able to go on from what it reads."""
        if self._folder is not None:
            save_checkpoint(self._folder / "last.pt", self.content(), keep=self._folder / "previous.pt")

    def content(self) -> dict[str, Any]:
        """All that the run needs, in one file."""
        return self.kept.content()

    def check(self) -> None:
        """Raise KeyboardInterrupt, in all processes at once, if one was asked to stop."""
        if self._team.any(self._stop.asked):
            raise self._stop.take()

    def started(self, now: Status) -> None:
        """See ``Hook``."""
        self.check()

    def stepped(self, now: Status) -> None:
        """See ``Hook``."""
        if self._due(now):
            self.save()
            self._saved = now
        self.check()

    def ended(self, now: Status) -> None:
        """See ``Hook``; a checkpoint of the last step, if there is none yet."""
        if self._saved is not now:
            self.save()

    def __enter__(self) -> Self:
        self._stop.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *rest: object) -> None:
        self._stop.__exit__()
        if isinstance(error, KeyboardInterrupt) and not self._stop.asked:
            self.save()
            how = self.kept.how_to_go_on
            error.add_note(how)
            console.print(f"{outcome(error)[0]} at {self._where()}; saved. {how[0].upper()}{how[1:]}.")


class BestSaver(Saver):
    """Keeps the best weights, too: in ``best.pt``, and in every ``last.pt``, from which the student is made."""

    best: dict[str, Tensor]
    """The best weights so far; none before the first validation."""
    progress: Progress

    def __init__(self, folder: Path | None, kept: Kept, every: int, best: dict[str, Tensor], team: Team) -> None:
        self.progress, self.best = kept.progress, best
        super().__init__(folder, kept, lambda now: now.step % every == 0, team=team)

    def content(self) -> dict[str, Any]:
        """See ``Saver``."""
        return {**super().content(), "best": self.best}

    def judge(self, scores: Fidelity) -> None:
        """Keep the weights if they are the best so far."""
        if scores.kl < self.progress.best_kl:
            self.progress.best_kl, self.progress.best_step = scores.kl, self.progress.step
            self.progress.bad_validations = 0
            self.best = {name: tensor.detach().clone() for name, tensor in self.kept.net.state_dict().items()}
            if self._folder is not None:
                save_checkpoint(self._folder / "best.pt", super().content())
        else:
            self.progress.bad_validations += 1

    def check_best(self) -> None:
        """Say so if best.pt is damaged. The student does not need it, but somebody may."""
        if self._folder is None:
            return
        try:
            load_checkpoint(self._folder / "best.pt", torch.device("cpu"))
        except UserError as error:
            console.print(f"{error}; the student is made of the copy in last.pt")
