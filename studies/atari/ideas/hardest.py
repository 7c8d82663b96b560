"""Derivatives on those states of each batch where the student is furthest from the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from distill.api import Batch, Lesson, Losses, Targets
from distill.losses.divergence import kl
from distill.losses.sobolev import states_of_share
from distill.networks.nets import to_unit
from distill.sweep.grid import Cell
from studies.atari.ideas.idea import Idea, OfLesson
from studies.atari.plan import SHARE, afforded
from teachers.protocol import Teacher

CARRIED = 0.25
"""Share of each batch whose derivatives count; those of all of it are read, to choose from."""
FORWARD = 1 / 3
"""Operations of a forward pass over those of a plain step, about."""


class WhereTheyDiffer(Idea):
    """See the module."""

    settings: ClassVar[Cell] = {SHARE: 1.0}

    def steps(self, cell: Cell, cost: float) -> int:
        """See ``Idea``; it pays for a forward pass in half of the steps."""
        steps = afforded({**cell, SHARE: CARRIED}, cost)
        return round(cost / (cost / steps + FORWARD / 2))

    def minimised(self, of: Lesson, teacher: Teacher) -> Hardest:
        """See ``Idea``."""
        return Hardest(of)


class Hardest(OfLesson):
    """The lesson's gradient, of the batch in another order."""

    def gradient(self, batch: Batch, weights: Mapping[str, float]) -> Losses:
        """See ``Minimised``."""
        t = batch.targets
        if t is not None:
            with torch.no_grad():
                far = kl(self._of.net(to_unit(batch.obs)), batch.logits)
            order = far.argsort(descending=True)
            first = order[: states_of_share(CARRIED, len(order))]
            kept = Targets(t.v[first], t.vjp[first], None if t.scale is None else t.scale[first])
            batch = Batch(batch.index[order.cpu().numpy()], batch.obs[order], batch.logits[order], kept)
        return self._of.gradient(batch, weights)
