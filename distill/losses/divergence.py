"""Distances between the teacher's and the student's outputs, one number per state.

Each takes the student's and the teacher's logits, float (B, A), and returns float (B,). A
temperature sharpens the teacher only (Rusu et al. 2016, section 3): pass ``teacher_logits / tau``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def squared(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared Euclidean distance of the outputs themselves: regression, also of a single number.

    The only one that is not blind to a shift of all outputs, so none for policies.
    """
    return (student - teacher).square().sum(-1)


def kl_slope(student: Tensor, teacher: Tensor) -> Tensor:
    """pi_S - pi_T."""
    return F.softmax(student, -1) - F.softmax(teacher, -1)


def reverse_kl_slope(student: Tensor, teacher: Tensor) -> Tensor:
    """pi_S * (log pi_S - log pi_T - KL)."""
    log_probs = F.log_softmax(student, -1)
    surprise = log_probs - F.log_softmax(teacher, -1)
    probs = log_probs.exp()
    return probs * (surprise - (probs * surprise).sum(-1, keepdim=True))


def ce_slope(student: Tensor, teacher: Tensor) -> Tensor:
    """pi_S minus one at the teacher's most likely action."""
    return F.softmax(student, -1) - F.one_hot(teacher.argmax(-1), teacher.shape[-1])


def mse_slope(student: Tensor, teacher: Tensor) -> Tensor:
    """Twice the centred difference over the number of actions."""
    difference = student - teacher
    return 2 / student.shape[-1] * (difference - difference.mean(-1, keepdim=True))


def squared_slope(student: Tensor, teacher: Tensor) -> Tensor:
    """Twice the difference."""
    return 2 * (student - teacher)


DIVERGENCES: dict[str, Divergence] = {"kl": kl, "reverse_kl": reverse_kl, "ce": ce, "mse": mse, "squared": squared}
SLOPES: dict[str, Divergence] = {
    "kl": kl_slope,
    "reverse_kl": reverse_kl_slope,
    "ce": ce_slope,
    "mse": mse_slope,
    "squared": squared_slope,
}
"""Gradient of each state's divergence by the student's logits, (B, A): written out, since a step that
autograd has no part in can be compiled whole and captured in a CUDA graph."""


def get_divergence(name: str) -> Divergence:
    """Look a divergence up by name.

    Raises:
        UserError: unknown name.
    """
    return lookup("divergence", DIVERGENCES, name)


def get_slope(name: str) -> Divergence:
    """Look up the gradient of a divergence by the student's logits, (B, A)."""
    return lookup("divergence", SLOPES, name)


def action_error(student: Tensor, teacher: Tensor) -> Tensor:
    """1.0 where the most likely actions differ, float (B,): the paper's second figure."""
    return (student.argmax(-1) != teacher.argmax(-1)).to(torch.float32)


def total_variation(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the sum of |pi_T - pi_S|: how often draws from the two must differ, at the least."""
    return (F.softmax(teacher, -1) - F.softmax(student, -1)).abs().sum(-1) / 2


def merged_action_error(student: Tensor, teacher: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """1.0 where the most likely effects differ, float (B,).

    Args:
        student: logits.
        teacher: logits; a temperature matters here.
        groups: actions that have one effect, whose probabilities are added.
    """
    return action_error(_merged(student, groups), _merged(teacher, groups))


def _merged(logits: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Logits in which the first action of each group stands for all of it."""
    merged = logits.clone()
    for group in groups:
        merged[:, group[0]] = logits[:, list(group)].logsumexp(-1)
        merged[:, list(group[1:])] = -torch.inf
    return merged
