"""How a student's derivative is compared with the teacher's, and the slope of that comparison.

Every function takes float32 (B, C, H, W) derivatives per [0, 1] pixel and returns the loss of each
state, (B,), with its gradient with respect to the student's derivative: the engine needs both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.envs.presets import SIZE
from distill.errors import UserError, nearest

TINY = 1e-12


def l2(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Squared Euclidean distance and its gradient 2 (student - teacher)."""
    residual = student - teacher
    # Not flatten(1).square(): in channels-last memory that copies, and takes 15 times as long.
    pixels = tuple(range(1, residual.dim()))
    return torch.linalg.vector_norm(residual, dim=pixels).square(), residual.mul_(2)


def cosine(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """1 - cosine of each state's derivative: blind to its length."""
    flat_s, flat_t = student.flatten(1), teacher.flatten(1)
    norm_s = flat_s.norm(dim=1).clamp_min(TINY)
    norm_t = flat_t.norm(dim=1).clamp_min(TINY)
    cos = (flat_s * flat_t).sum(1) / (norm_s * norm_t)
    shape = (-1,) + (1,) * (student.dim() - 1)
    slope = student * (cos / norm_s.square()).view(shape) - teacher * (1 / (norm_s * norm_t)).view(shape)
    return 1 - cos, slope


def norm(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distance, not squared: the paper's form, as we remember it."""
    squares, slope = l2(student, teacher)
    distance = squares.sqrt()
    return distance, slope.mul_(_by_state(0.5 / distance.clamp_min(TINY), slope))


def weighted(student: Tensor, teacher: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Squared distance times 1 / (1 + ||teacher||^2 / scale): the few states with huge derivatives count less."""
    weight = 1 / (1 + torch.linalg.vector_norm(teacher, dim=tuple(range(1, teacher.dim()))).square() / scale)
    squares, slope = l2(student, teacher)
    return squares * weight, slope.mul_(_by_state(weight, slope))


@dataclass(frozen=True)
class Comparison:
    """One way to compare derivatives."""

    compare: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
    """Of the student's, the teacher's and s, the teacher's mean square: (loss of each state, slope)."""
    unit: Callable[[float], float]
    """What the loss is divided by, of s: a student that knows nothing then has one of about 1, less if ``weighted``."""


MATCHES: Mapping[str, Comparison] = {
    "l2": Comparison(lambda student, teacher, _: l2(student, teacher), lambda scale: scale),
    "cosine": Comparison(lambda student, teacher, _: cosine(student, teacher), lambda _: 1.0),
    "norm": Comparison(lambda student, teacher, _: norm(student, teacher), math.sqrt),
    "weighted": Comparison(weighted, lambda scale: scale),
}


def _by_state(factor: Tensor, like: Tensor) -> Tensor:
    return factor.view(-1, *(1,) * (like.dim() - 1))


def match(
    name: str, student: Tensor, teacher: Tensor, blur: Tensor | None = None, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Compare derivatives by ``name``; with ``blur``, compare low-passed ones.

    Args:
        name: one of ``MATCHES``.
        student: float (B, C, H, W).
        teacher: same shape.
        blur: symmetric smoothing matrix (H, H) applied to rows and columns, see ``blur_matrix``.
        scale: s, the mean of the teacher's squared derivatives over all states, after blur.

    Returns:
        (loss (B,), d loss / d student, same shape as ``student``).
    """
    if name not in MATCHES:
        raise UserError(f"unknown match {name!r}{nearest(name, MATCHES)}; known: {', '.join(MATCHES)}")
    if blur is not None:
        student, teacher = blur @ student @ blur, blur @ teacher @ blur
    loss, slope = MATCHES[name].compare(student, teacher, scale)
    if blur is not None:
        slope = blur @ slope @ blur
    return loss, slope


def blur_matrix(sigma: float, size: int = SIZE) -> Tensor:
    """Symmetric Gaussian smoothing of one image axis, float32 (size, size), sigma in pixels.

    A kernel cut at the border is left unnormalised there, which keeps the matrix symmetric and so
    its own adjoint.
    """
    position = torch.arange(size, dtype=torch.float64)
    kernel = torch.exp(-0.5 * ((position[:, None] - position[None, :]) / sigma) ** 2)
    return (kernel / kernel[size // 2].sum()).float()
