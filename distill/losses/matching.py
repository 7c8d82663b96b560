"""How a student's derivative is compared with the teacher's, and the slope of that comparison.

Every function takes float32 (B, C, H, W) derivatives per [0, 1] pixel and returns the loss of each
state, (B,), with its gradient with respect to the student's derivative: the engine needs both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill.envs.presets import SIZE
from distill.errors import UserError, nearest

MATCHES = ("l2", "cosine")
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


def match(name: str, student: Tensor, teacher: Tensor, blur: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Compare derivatives by ``name``; with ``blur``, compare low-passed ones.

    Args:
        name: ``l2`` or ``cosine``.
        student: float (B, C, H, W).
        teacher: same shape.
        blur: symmetric smoothing matrix (H, H) applied to rows and columns, see ``blur_matrix``.

    Returns:
        (loss (B,), d loss / d student, same shape as ``student``).
    """
    if name not in MATCHES:
        raise UserError(f"unknown match {name!r}{nearest(name, MATCHES)}; known: {', '.join(MATCHES)}")
    if blur is not None:
        student, teacher = blur @ student @ blur, blur @ teacher @ blur
    loss, slope = l2(student, teacher) if name == "l2" else cosine(student, teacher)
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
