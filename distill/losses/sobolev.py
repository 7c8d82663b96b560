"""The objective in plain autograd: the reference the fast engine is tested against.

    L = mean_b D(pi_T || pi_S)  +  lambda * mean_{b,k} match(J_S^T v, J_T^T v) / s

The second mean is over the states whose derivatives are given, which may be fewer: the first ones of the batch.

(Czarnecki et al. 2017, eq. 1 and 3.) It needs double backward, so it costs several times a plain
step, but works for any network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.errors import UserError, nearest
from distill.losses.divergence import get_divergence
from distill.losses.matching import MATCHES, TINY, blur_matrix
from distill.losses.projection import outputs


@dataclass(frozen=True)
class Objective:
    """What is minimised; ``ObjectiveConfig`` documents the choices."""

    divergence: str = "kl"
    space: str = "logits"
    match: str = "l2"
    blur: float = 0.0
    """Sigma in pixels of the low-pass on both derivatives; 0 is none."""
    temperature: float = 1.0
    """The teacher's logits and derivatives are divided by it; below 1 sharpens."""
    scale: float = 1.0
    """s: mean of ||J_T^T v||^2 over the training set, after temperature and blur."""

    def __post_init__(self) -> None:
        get_divergence(self.divergence)
        outputs(self.space, torch.zeros(1, 2))
        if self.match not in MATCHES:
            raise UserError(f"unknown match {self.match!r}{nearest(self.match, MATCHES)}; known: {', '.join(MATCHES)}")

    def normaliser(self) -> float:
        """What the derivative loss is divided by: s for l2, 1 for the dimensionless cosine."""
        return self.scale if self.match == "l2" else 1.0


@dataclass
class Targets:
    """Stored or freshly computed derivatives of the teacher, for the first B states of a batch."""

    v: Tensor
    """Projections, float (B, K, A)."""
    vjp: Tensor
    """J_T^T v, (B, K, 4, 84, 84), per [0, 1] pixel: float, or stored codes (int8, fp16)."""
    scale: Tensor | None = None
    """What one code is worth, float (B, K, 4, 84), one number an image row; None for float vjp."""

    def row(self, k: int) -> Tensor:
        """J_T^T v of projection k as float (B, 4, 84, 84)."""
        vjp = self.vjp[:, k]
        return vjp if self.scale is None else vjp * self.scale[:, k].unsqueeze(-1)


@dataclass
class Losses:
    """Means over the batch, float scalars; ``logits`` are the student's, float (B, A)."""

    total: Tensor
    divergence: Tensor
    jacobian: Tensor | None
    """Before lambda; None where it was not computed, for want of targets or because lambda is 0."""
    logits: Tensor


def sobolev_loss(
    net: nn.Module, x: Tensor, teacher_logits: Tensor, targets: Targets | None, weight: float, objective: Objective
) -> Losses:
    """The whole objective as a differentiable scalar.

    Args:
        net: student, (B, 4, 84, 84) to logits.
        x: float pixels in [0, 1].
        teacher_logits: float (B, A), before temperature.
        targets: teacher's derivatives in ``objective.space``, before temperature, for all states or for the first
            ones; None for none.
        weight: lambda.
        objective: choices.
    """
    if weight == 0:
        targets = None
    count = 0 if targets is None else len(targets.v)
    seen = x[:count].detach().requires_grad_(targets is not None)
    logits = net(seen) if count == len(x) else net(x) if count == 0 else torch.cat([net(seen), net(x[count:])])
    divergence = get_divergence(objective.divergence)(logits, teacher_logits / objective.temperature).mean()
    if targets is None:
        return Losses(divergence, divergence.detach(), None, logits.detach())
    blur = blur_matrix(objective.blur, x.shape[-1]).to(x) if objective.blur else None
    parts = []
    for k in range(targets.v.shape[1]):
        projected = (outputs(objective.space, logits[:count]) * targets.v[:, k]).sum()
        (student,) = torch.autograd.grad(projected, seen, create_graph=True)
        teacher = targets.row(k) / objective.temperature
        parts.append(_differentiable_match(objective.match, student, teacher, blur).mean())
    jacobian = torch.stack(parts).mean() / objective.normaliser()
    return Losses(divergence + weight * jacobian, divergence.detach(), jacobian.detach(), logits.detach())


def _differentiable_match(name: str, student: Tensor, teacher: Tensor, blur: Tensor | None) -> Tensor:
    if blur is not None:
        student, teacher = blur @ student @ blur, blur @ teacher @ blur
    if name == "l2":
        return (student - teacher).flatten(1).square().sum(1)
    return 1 - torch.cosine_similarity(student.flatten(1), teacher.flatten(1), dim=1, eps=TINY)
