"""Rectified cubic unit, max(0, x)³.

Piecewise a polynomial, yet with two continuous derivatives.
"""

from __future__ import annotations

from torch import Tensor, nn

from distill.networks.layers.layer import Activation


class ReCU(nn.Module):
    """Rectified cubic unit max(0, x)^3."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        h = x.relu()
        return h * h * h


def _slope(h: Tensor, g: Tensor) -> Tensor:
    return h.pow(2 / 3).mul_(g).mul_(3)


def _curvature(h: Tensor, g: Tensor) -> Tensor:
    return h.pow(1 / 3).mul_(g).mul_(6)


LAYER = Activation("recu", ReCU, _slope, _curvature)
