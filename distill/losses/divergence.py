"""Distances between the teacher's and the student's action distributions, one number per state.

Each takes the student's and the teacher's logits, float (B, A), and returns float (B,). A
temperature sharpens the teacher only (Rusu et al. 2016, section 3): pass ``teacher_logits / tau``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.errors import lookup

Divergence = Callable[[Tensor, Tensor], Tensor]


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) in nats: the paper's policy-distillation loss."""
    target = F.log_softmax(teacher, -1)
    return (target.exp() * (target - F.log_softmax(student, -1))).sum(-1)


def reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(student || teacher) in nats: prefers to cover fewer of the teacher's actions, but surely."""
    return kl(teacher, student)


def ce(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy with the teacher's most likely action (behaviour cloning), in nats."""
    return F.cross_entropy(student, teacher.argmax(-1), reduction="none")


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of centred logits (softmax ignores a shift)."""
    difference = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    return difference.square().mean(-1)


DIVERGENCES: dict[str, Divergence] = {"kl": kl, "reverse_kl": reverse_kl, "ce": ce, "mse": mse}


def get_divergence(name: str) -> Divergence:
    """Look a divergence up by name.

    Raises:
        UserError: unknown name.
    """
    return lookup("divergence", DIVERGENCES, name)


def action_error(student: Tensor, teacher: Tensor) -> Tensor:
    """1.0 where the most likely actions differ, float (B,): the paper's second figure."""
    return (student.argmax(-1) != teacher.argmax(-1)).to(torch.float32)
