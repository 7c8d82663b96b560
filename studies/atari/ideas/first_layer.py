"""Derivatives at the first layer's output, in place of the pixels'.

The first layer is linear, so the pixels' derivatives are those at its output (before the activation) times its weights:
the factor says as much, and more than half of it is zeros. Student and teacher can only be compared there if they have
the first layer in common; so the student has the teacher's, and leaves it as it is. What that does by itself are
questions of their own: a layer of that shape, and one that begins as the teacher's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from distill.api import Batch, Lesson, Losses, StudentConfig, Targets
from distill.losses.sobolev import sobolev_loss
from distill.networks.inherit import inherit
from distill.networks.nets import AtariCNN, to_unit
from studies.atari.ideas.idea import Idea, OfLesson, first_batches
from teachers.protocol import Teacher


class AsWide(Idea):
    """A student whose first layer has the teacher's shape."""

    student = StudentConfig("mnih2013", convs=[(32, 8, 4), (32, 4, 2)])


class TeachersFirstLayer(AsWide):
    """It has the teacher's weights and leaves them as they are; derivatives are the pixels'."""

    def prepare(self, net: AtariCNN, teacher: Teacher) -> None:
        """See ``Idea``."""
        inherit(net, teacher.net, 1)


class FromTheTeachersFirstLayer(TeachersFirstLayer):
    """It has them at the beginning, and is trained as the others are."""

    def prepare(self, net: AtariCNN, teacher: Teacher) -> None:
        """See ``Idea``."""
        super().prepare(net, teacher)
        net.requires_grad_(True)


class HalfOfTheTeachersFirstLayer(TeachersFirstLayer):
    """The usual student, which is narrower, on the teacher's largest filters."""

    student = StudentConfig("mnih2013")


class AtItsOutput(TeachersFirstLayer):
    """Derivatives there."""

    def minimised(self, of: Lesson, teacher: Teacher) -> AtOutput:
        """See ``Idea``."""
        return AtOutput(of, teacher)


class AtOutput(OfLesson):
    """The objective of the layers after the first, whose input is the first one's output; by double backward."""

    def __init__(self, of: Lesson, teacher: Teacher) -> None:
        super().__init__(of)
        self._first, *rest = path(of.net)
        self._rest, self._teachers = nn.Sequential(*rest), path(teacher.net)[1:]
        squares = [
            targets.row(0).flatten(1).square().sum(1)
            for batch in first_batches(of)
            if (targets := self._seen(batch)[1]) is not None
        ]
        self._objective = replace(of.objective, scale=float(torch.cat(squares).mean()))

    def _seen(self, batch: Batch) -> tuple[Tensor, Targets | None]:
        """The first layer's output, and the teacher's derivatives there in the batch's first direction."""
        with torch.no_grad():
            x = self._first(to_unit(batch.obs))
        if batch.targets is None:
            return x, None
        v = batch.targets.v[:, :1]
        at = x[: len(v)].clone().requires_grad_()
        (slope,) = torch.autograd.grad((self._teachers(at) * v[:, 0]).sum(), at)
        return x, Targets(v, slope.unsqueeze(1))

    def gradient(self, batch: Batch, weights: Mapping[str, float]) -> Losses:
        """See ``Minimised``."""
        x, targets = self._seen(batch)
        losses = sobolev_loss(self._rest, x, batch.logits, targets, weights, self._objective)
        torch.autograd.backward(losses.total)
        return losses


def path(net: nn.Module) -> nn.Sequential:
    """Its layers from pixels to logits."""
    assert isinstance(net, AtariCNN)
    return net.path()
