"""Rectified linear unit, ``nn.ReLU``.

In place: such arrays are large, and nobody needs what was there again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill.networks.layers.layer import Activation


def _activate(module: nn.Module, a: Tensor, out: Tensor | None) -> Tensor:
    return a.relu_() if out is None else torch.clamp_min(a, 0, out=out)


def _slope(h: Tensor, g: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward.grad_input(g, h, 0, grad_input=g)  # type: ignore[no-any-return]


LAYER = Activation("relu", nn.ReLU, _slope, activate=_activate)
