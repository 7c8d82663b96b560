"""Optimizer steps on the states of the ring."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from distill.engine.step import make_engine, make_step
from distill.errors import DivergedError
from distill.imitate.fresh import Fresh
from distill.imitate.player import STREAM
from distill.imitate.ring import Ring
from distill.imitate.settings import ImitateRun
from distill.losses.sobolev import Losses, Objective, Sobolev, states_of_share
from distill.losses.targets import Targets
from distill.networks.parts import draws_from
from distill.system.streams import generator, torch_generator
from distill.train.saver import Kept


class Learner:
    """Adam on the objective between teacher and student.

    Args:
        config: settings.
        kept: who learns, on its device, its optimizer, and where the run stands.
        device: where.
        objective: what is minimised.
        folder: the run, for errors.
        fresh: gives the derivatives that the objective reads; without it, it reads none.
    """

    def __init__(
        self,
        config: ImitateRun,
        kept: Kept,
        device: torch.device,
        objective: Objective,
        folder: Path,
        fresh: Fresh | None = None,
    ) -> None:
        self.net, self.objective = kept.net, objective
        self._step = make_step(self.net, make_engine(self.net))
        self.optimizer = kept.optimizer
        self._config, self._kept, self._device, self._folder, self._fresh = config, kept, device, folder, fresh
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
            UserError: the teacher has no derivatives to match.
        """
        began = time.perf_counter()
        rows = ring.draw(generator("batch", self._config.seed, STREAM, step), self._config.imitate.batch_size)
        obs, logits = (
            torch.from_numpy(part).to(self._device) for part in (ring.stacks(rows), ring.column("logits", rows))
        )
        targets = self._targets(ring, step, obs, logits) if self._reads_derivatives(weights) else None
        drawn = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with draws_from(torch_generator("noise", self._config.seed, STREAM, step)):
            losses = self._step(obs, logits, targets, weights, self.objective)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self._config.imitate.max_grad_norm or float("inf"))
        if not torch.isfinite(norm + losses.total):
            raise diverged(
                self._folder, f"loss {float(losses.total)}, gradient norm {float(norm)} at step {step + 1:,}"
            )
        self.optimizer.step()
        self.seconds["batches"] += drawn - began
        self.seconds["updates"] += time.perf_counter() - drawn
        return losses, norm

    def _reads_derivatives(self, weights: Mapping[str, float]) -> bool:
        o = self.objective
        return self._fresh is not None and (
            weights.get(Sobolev.name, 0.0) > 0 or any(term.derivatives for term in o.terms)
        )

    def _targets(self, ring: Ring, step: int, obs: Tensor, logits: Tensor) -> Targets:
        """The teacher's derivatives of the first states of a batch; s is measured before the first."""
        assert self._fresh is not None
        progress = self._kept.progress
        if progress.jacobian_scale == 0:
            progress.jacobian_scale = self._fresh.mean_square(ring)
        self.objective = dataclasses.replace(self.objective, scale=progress.jacobian_scale)
        count = states_of_share(self.objective.jacobian_share, len(obs))
        rng = generator("directions", self._config.seed, STREAM, step)
        return self._fresh.targets(obs[:count], logits[:count], rng)


def diverged(folder: Path, what: str) -> DivergedError:
    """The error that says so, and what is left."""
    last = folder / "checkpoints" / "last.pt"
    good = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint had been saved yet"
    return DivergedError(f"imitation stopped: {what}; {good}; try a lower --imitate.learning_rate")
