"""The teacher's derivatives of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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

    def square_sums(self, smooth: Tensor | None = None) -> list[float]:
        """Sum over the states of ||J_T^T v||^2 of each of the K projections, over K; ``smooth``: ``blur_matrix``."""
        rows = (self.row(k) for k in range(self.v.shape[1]))
        smoothed = (row if smooth is None else smooth @ row @ smooth for row in rows)
        return [float(row.square().sum()) / self.v.shape[1] for row in smoothed]
