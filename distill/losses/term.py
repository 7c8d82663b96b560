"""One term of the objective: what a part of the loss is, with its weight over training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from distill.errors import UserError
from distill.losses.targets import Targets
from distill.networks.nets import to_unit


@dataclass(frozen=True)
class Seen:
    """What a term sees of a batch."""

    student: Tensor
    """The student's logits, float (B, A), which a loss is differentiated by."""
    teacher: Tensor
    """The teacher's logits after temperature, float (B, A)."""
    pixels: Tensor
    """What both look at, uint8 or float in [0, 1], (B, 4, 84, 84)."""
    targets: Targets | None
    """The teacher's derivatives, before temperature, of all states or of the first; None where nobody asks for them."""

    @property
    def obs(self) -> Tensor:
        """The pixels as float in [0, 1], (B, 4, 84, 84)."""
        return to_unit(self.pixels) if self.pixels.dtype == torch.uint8 else self.pixels


class Term:
    """A term of the objective that depends on the student by its logits alone: override ``loss``.

    Its gradient by the logits joins the backward pass that the divergence has anyway, so it costs the fast engine
    next to nothing.

    Args:
        weight: what its mean over the batch is multiplied by.
    """

    name: str
    """In logs (``train/<name>_loss``), losses and messages; by default the class's name in small letters."""
    derivatives: ClassVar[bool] = False
    """It reads ``Seen.targets``, so that batches must have them."""

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            cls.name = cls.__name__.lower()

    def loss(self, seen: Seen) -> Tensor:
        """Loss of each state, float (B,), differentiable by ``seen.student``."""
        raise NotImplementedError(f"{type(self).__name__} is a term without a loss")

    def per_state(self, seen: Seen) -> Tensor:
        """``loss``, which is of each state: a mean in its place would weigh 1/B of what is asked for.

        Raises:
            UserError: it has another shape.
        """
        found: object = self.loss(seen)
        wanted, what = tuple(seen.student.shape[:1]), f"a {type(found).__name__}"
        if not isinstance(found, Tensor) or tuple(found.shape) != wanted:
            what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else what
            raise UserError(f"loss of {self.name} gives {what}, not {wanted}, a number for each state; mend it")
        return found

    def weight_at(self, step: int, total: int) -> float:
        """Its weight at a step (0, 1, ...) of so many: the same all the time, unless you say otherwise.

        In ``distill imitate`` a step is a state of its budget, or a second where only minutes count.
        """
        return self.weight

    def slope(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """(loss of each state (B,), its gradient by that state's logits (B, A)), without a graph.

        By autograd; a term that is written out here can be compiled and recorded in a CUDA graph.
        """
        student = seen.student.detach().requires_grad_()
        with torch.enable_grad():
            loss = self.per_state(replace(seen, student=student))
            (slope,) = torch.autograd.grad(loss.sum(), student)
        return loss.detach(), slope
