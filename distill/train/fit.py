"""The training loop. It is given its parts; ``distill.train.loop`` builds those of ``distill train``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from distill.batches.loader import Batch
from distill.errors import DivergedError
from distill.losses.sobolev import Losses
from distill.train.hooks import Hook, Status
from distill.train.team import ALONE, Team

B = TypeVar("B", bound=Batch, contravariant=True)


class Counts(Protocol):
    """Where a training stands, kept in its checkpoints."""

    step: int
    """Optimizer steps done."""
    seconds: float
    """Time so far."""


@dataclass
class Place:
    """The same and no more."""

    step: int = 0
    seconds: float = 0.0


class Minimised(Protocol[B]):
    """An objective with what computes its gradient, for one kind of batches."""

    def weights(self, step: int, total: int) -> Mapping[str, float]:
        """Weights of its terms at that step."""

    def gradient(self, batch: B, weights: Mapping[str, float]) -> Losses:
        """Losses of a batch; adds their gradient to every parameter's ``.grad``."""


@dataclass
class Model:
    """What is fitted, and how it takes a step."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    learning_rate: Callable[[int, int], float]
    """Of (step, steps in all)."""
    total: int
    """Steps in all, for schedules."""
    batch_size: int
    """States of a step, those of all processes."""
    max_grad_norm: float = 0.0
    """Gradients are clipped to this global norm; 0 turns clipping off."""
    progress: Counts = field(default_factory=Place)
    """Where it stands; ``fit`` counts on."""
    team: Team = ALONE
    """Processes that take each step together."""


def fit(
    model: Model, stream: Iterable[B], objective: Minimised[B], hooks: Hook, until: Callable[[Status], bool]
) -> Status:
    """Take a step on every batch of ``stream``.

    Args:
        model: what is fitted.
        stream: batches, beginning with number ``model.progress.step``; each is this process's share.
        objective: what is minimised.
        hooks: what watches.
        until: asked before every step whether this was the last.

    Raises:
        DivergedError: a loss or gradient is NaN or infinite.
    """
    net, optimizer, progress = model.net, model.optimizer, model.progress
    now = Status(progress.step, model.total, progress.step * model.batch_size, progress.seconds)
    clock = time.perf_counter() - progress.seconds
    hooks.started(now)
    batches = iter(stream)
    while not until(now):
        batch = next(batches)
        step = progress.step
        rate, weights = model.learning_rate(step, model.total), objective.weights(step, model.total)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        losses = model.team.average(net.parameters(), objective.gradient(batch, weights))
        norm = nn.utils.clip_grad_norm_(net.parameters(), model.max_grad_norm or float("inf"))
        refuse_not_finite(norm, losses, step, batch)
        optimizer.step()
        progress.step = step + 1
        progress.seconds = time.perf_counter() - clock
        states = progress.step * model.batch_size
        now = Status(progress.step, model.total, states, progress.seconds, losses, norm, rate, weights)
        hooks.stepped(now)
    hooks.ended(now)
    return now


def refuse_not_finite(norm: Tensor, losses: Losses, step: int, batch: Batch) -> None:
    """A NaN or Inf anywhere in loss or gradient shows in the gradient's norm."""
    if torch.isfinite(norm + losses.total):  # one question, since each waits for the GPU
        return
    batch.check(step + 1)
    states = ", ".join(map(str, batch.index[:4]))
    what = f"loss {float(losses.total)}, gradient norm {float(norm)}, batch of states {states}, ..."
    raise DivergedError(f"training stopped at step {step + 1}: {what}")
