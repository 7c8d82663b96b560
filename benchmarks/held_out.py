"""How far a student is from its teacher on fixed held-out states while it trains, whoever trains it.

Needs PyTorch and NumPy only: ``imitation_peer.py`` uses it too, where this toolkit is not installed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

BATCH = 512
Logits = Callable[[Tensor], Tensor]
"""A student: uint8 (B, 4, 84, 84) to float (B, A), up to a constant per state."""


@dataclass
class Point:
    """The student after some steps."""

    seconds: float
    """Since the clock started, without the time that scoring took."""
    steps: int
    """Optimizer steps."""
    action_error: float
    """Share of held-out states where the most likely actions of student and teacher differ."""
    kl: float
    """Mean KL(teacher || student) in nats."""


@dataclass
class Run:
    """From a teacher to a student."""

    states: int
    """How many were recorded to learn from."""
    collect_seconds: float
    """Until they were there."""
    seconds: float
    """Until the end, without the time that scoring took."""
    points: list[Point]

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> Run:
        """Rebuild from ``dataclasses.asdict``."""
        return Run(**fields | {"points": [Point(**point) for point in fields["points"]]})


class Watch:
    """A clock, which stops while it scores the student.

    Args:
        file: ``obs`` uint8 (N, 4, 84, 84) and the teacher's ``logits`` float (N, A), as ``np.savez`` writes them.
        device: where the student is.
    """

    def __init__(self, file: Path, device: str) -> None:
        with np.load(file) as arrays:
            self._obs = torch.from_numpy(arrays["obs"]).to(device)
            self._teacher = torch.from_numpy(arrays["logits"]).to(device).log_softmax(1)
        self._cuda = torch.device(device).type == "cuda"
        self.points: list[Point] = []
        self.start()

    def start(self) -> None:
        """Set the clock to zero."""
        self._started, self._paused = time.perf_counter(), 0.0

    def seconds(self) -> float:
        """What the clock shows."""
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - self._started - self._paused

    @contextlib.contextmanager
    def following(self, logits: Logits) -> Iterator[None]:
        """Score a student whenever any optimizer has taken an eighth more steps, at least 25, and at the end."""
        steps, due = 0, 25

        def after_step(*_: object) -> None:
            nonlocal steps, due
            steps += 1
            if steps == due:
                due += max(25, steps // 8)
                self._score(logits, steps)

        hook = register_optimizer_step_post_hook(after_step)
        yield
        hook.remove()
        if not self.points or self.points[-1].steps < steps:
            self._score(logits, steps)

    @torch.no_grad()
    def _score(self, logits: Logits, steps: int) -> None:
        shown = self.seconds()
        student = torch.cat([logits(obs) for obs in torch.split(self._obs, BATCH)]).log_softmax(1)
        error = (student.argmax(1) != self._teacher.argmax(1)).float().mean()
        kl = (self._teacher.exp() * (self._teacher - student)).sum(1).mean()
        self.points.append(Point(shown, steps, float(error), float(kl)))
        self._paused += self.seconds() - shown
