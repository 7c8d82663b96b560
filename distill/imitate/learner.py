"""Optimizer steps on the states of the ring."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from distill.engine.step import make_engine, make_step
from distill.errors import DivergedError
from distill.imitate.player import STREAM
from distill.imitate.ring import Ring
from distill.imitate.settings import ImitateRun
from distill.losses.sobolev import Losses, Objective
from distill.system.streams import generator


class Learner:
    """Adam on the divergence between teacher and student.

    Args:
        config: settings.
        net: who learns, on its device.
        device: where.
        objective: what is minimised; its derivative part is left out, since the ring keeps no derivatives.
        folder: the run, for errors.
    """

    def __init__(
        self, config: ImitateRun, net: nn.Module, device: torch.device, objective: Objective, folder: Path
    ) -> None:
        self.net, self._step, self.objective = net, make_step(net, make_engine(net)), objective
        self.optimizer = torch.optim.Adam(net.parameters(), lr=0.0, fused=True)
        self._config, self._device, self._folder = config, device, folder
        self.seconds = {"batches": 0.0, "updates": 0.0}

    def update(self, ring: Ring, step: int, rate: float, weights: Mapping[str, float]) -> tuple[Losses, Tensor]:
        """One step; which states it learns from depends on the seed, the step and what is in the ring.

        Args:
            ring: states to learn from.
            step: its number.
            rate: learning rate.
            weights: of the objective's terms, by name.

        Returns:
            (losses, global gradient norm before clipping).

        Raises:
            DivergedError: a loss or gradient is NaN or infinite.
        """
        began = time.perf_counter()
        rows = ring.draw(generator("batch", self._config.seed, STREAM, step), self._config.imitate.batch_size)
        obs, logits = (
            torch.from_numpy(part).to(self._device) for part in (ring.stacks(rows), ring.column("logits", rows))
        )
        drawn = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._step(obs, logits, None, weights, self.objective)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self._config.imitate.max_grad_norm or float("inf"))
        if not torch.isfinite(norm + losses.total):
            raise diverged(
                self._folder, f"loss {float(losses.total)}, gradient norm {float(norm)} at step {step + 1:,}"
            )
        self.optimizer.step()
        self.seconds["batches"] += drawn - began
        self.seconds["updates"] += time.perf_counter() - drawn
        return losses, norm


def diverged(folder: Path, what: str) -> DivergedError:
    """The error that says so, and what is left."""
    last = folder / "checkpoints" / "last.pt"
    good = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint had been saved yet"
    return DivergedError(f"imitation stopped: {what}; {good}; try a lower --imitate.learning_rate")
