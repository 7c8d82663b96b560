"""The teacher's value as one more output: the student's value head matches it, and its derivatives where any are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from distill.api import Batch, Lesson, Losses
from distill.networks.nets import AtariCNN, to_unit
from distill.sweep.grid import Cell
from studies.atari.ideas.idea import Idea, OfLesson, first_batches
from studies.atari.plan import SHARE, afforded
from teachers.protocol import Teacher

VALUE = 0.1
"""Weight of the value's squared error over its variance."""


class ValueToo(Idea):
    """See the module."""

    def steps(self, cell: Cell, cost: float) -> int:
        """See ``Idea``; derivatives of the value cost those of one more direction."""
        return afforded({**cell, SHARE: 2 * cell[SHARE]}, cost)

    def prepare(self, net: AtariCNN, teacher: Teacher) -> None:
        """See ``Idea``; what the net has drawn already stays."""
        net.value = nn.Linear(net.policy.in_features, 1)
        nn.init.orthogonal_(net.value.weight)
        nn.init.zeros_(net.value.bias)

    def minimised(self, of: Lesson, teacher: Teacher) -> WithValue:
        """See ``Idea``."""
        return WithValue(of, teacher)


class WithValue(OfLesson):
    """The lesson's gradient and the value's, by double backward: 0.1 error / variance + lambda mismatch / s.

    The student's value head is reached through features that it shares with the policy. The teacher is asked anew for
    every batch.
    """

    def __init__(self, of: Lesson, teacher: Teacher) -> None:
        super().__init__(of)
        self._teacher = teacher
        values, slopes = [], []
        for batch in first_batches(of):
            value, slope = value_and_slope(teacher, to_unit(batch.obs), carried(batch))
            values.append(value)
            slopes.append(slope.flatten(1).square().sum(1))
        self._variance, self._scale = torch.cat(values).var(), torch.cat(slopes).mean()

    def gradient(self, batch: Batch, weights: Mapping[str, float]) -> Losses:
        """See ``Minimised``; losses are the lesson's."""
        losses = self._of.gradient(batch, weights)
        x, count = to_unit(batch.obs), carried(batch)
        value, slope = value_and_slope(self._of.net, x, count, learn=True)
        theirs, their_slope = value_and_slope(self._teacher, x, count)
        loss = VALUE * (value - theirs).square().mean() / self._variance
        if count:
            mismatch = (slope - their_slope).flatten(1).square().sum(1).mean()
            loss = loss + weights["jacobian"] * mismatch / self._scale
        torch.autograd.backward(loss)
        return losses


def carried(batch: Batch) -> int:
    """States of the batch that carry derivatives."""
    return 0 if batch.targets is None else len(batch.targets.v)


def value_and_slope(net: nn.Module, x: Tensor, count: int, *, learn: bool = False) -> tuple[Tensor, Tensor]:
    """Values (B,) and the first ``count`` states' derivatives (count, 4, 84, 84); differentiable where ``learn``."""
    first = x[:count].detach().requires_grad_()
    value: Tensor = net.logits_and_value(torch.cat([first, x[count:]]))[1]  # type: ignore[operator]
    if not count:
        return (value, first) if learn else (value.detach(), first.detach())
    (slope,) = torch.autograd.grad(value[:count].sum(), first, create_graph=learn)
    return (value, slope) if learn else (value.detach(), slope)
