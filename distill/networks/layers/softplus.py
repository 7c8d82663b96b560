"""log(1 + exp x), ``nn.Softplus`` with beta 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill.networks.layers.layer import Activation


def _slope(h: Tensor, g: Tensor) -> Tensor:
    return torch.addcmul(g, g, h.neg().exp_(), value=-1)


def _curvature(h: Tensor, g: Tensor) -> Tensor:
    rest = h.neg().exp_()
    return torch.addcmul(g, g, rest, value=-1).mul_(rest)


def _suits(module: nn.Softplus) -> bool:
    return module.beta == 1 and module.threshold >= 20


LAYER = Activation("softplus", nn.Softplus, _slope, _curvature, suits=_suits)
