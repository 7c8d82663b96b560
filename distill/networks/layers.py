"""Layers that the fast engine can differentiate by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class ReCU(nn.Module):
    """Rectified cubic unit max(0, x)^3: piecewise a polynomial, yet with two continuous derivatives."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        h = x.relu()
        return h * h * h


@dataclass(frozen=True)
class Smooth:
    """Derivatives of a smooth activation h = phi(a) as functions of h, so that no pass computes phi again."""

    slope: Callable[[Tensor, Tensor], Tensor]
    """phi'(a) * g of (h, g)."""
    curvature: Callable[[Tensor, Tensor], Tensor]
    """phi''(a) * g of (h, g)."""


def _tanh1(h: Tensor, g: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward(g, h)  # type: ignore[no-any-return]


def _tanh2(h: Tensor, g: Tensor) -> Tensor:
    return _tanh1(h, g).mul_(h).mul_(-2)


def _softplus1(h: Tensor, g: Tensor) -> Tensor:
    return torch.addcmul(g, g, h.neg().exp_(), value=-1)


def _softplus2(h: Tensor, g: Tensor) -> Tensor:
    rest = h.neg().exp_()
    return torch.addcmul(g, g, rest, value=-1).mul_(rest)


def _recu1(h: Tensor, g: Tensor) -> Tensor:
    return h.pow(2 / 3).mul_(g).mul_(3)


def _recu2(h: Tensor, g: Tensor) -> Tensor:
    return h.pow(1 / 3).mul_(g).mul_(6)


SMOOTH: dict[type[nn.Module], Smooth] = {
    nn.Tanh: Smooth(_tanh1, _tanh2),
    nn.Softplus: Smooth(_softplus1, _softplus2),
    ReCU: Smooth(_recu1, _recu2),
}


def known(path: nn.Sequential) -> bool:
    """True where every layer is one the engine can differentiate by hand."""
    if len(path) == 0 or not isinstance(path[0], nn.Conv2d | nn.Linear) or not isinstance(path[-1], nn.Linear):
        return False
    images, active = isinstance(path[0], nn.Conv2d), False
    for module in path:
        if _plain_conv(module) if images else _plain_linear(module):
            active = False
        elif isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            images = False
        elif _plain_activation(module) and not active:  # a stage has room for one activation
            active = True
        else:
            return False
    return True


# By exact type: a subclass may compute something else, and a parametrized layer has no plain weight.
def _plain_linear(module: nn.Module) -> bool:
    return type(module) is nn.Linear and isinstance(module.weight, nn.Parameter)


def _plain_conv(module: nn.Module) -> bool:
    if type(module) is not nn.Conv2d or not isinstance(module.weight, nn.Parameter):
        return False
    square = len(set(module.kernel_size)) == 1 and len(set(module.stride)) == 1
    return square and module.padding == (0, 0) and module.dilation == (1, 1) and module.groups == 1


def _plain_activation(module: nn.Module) -> bool:
    if isinstance(module, nn.Softplus):
        return type(module) is nn.Softplus and module.beta == 1 and module.threshold >= 20
    return type(module) is nn.ReLU or type(module) in SMOOTH
