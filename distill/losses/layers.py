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
    """First and second derivative of a smooth activation, as functions of the pre-activation."""

    first: Callable[[Tensor], Tensor]
    second: Callable[[Tensor], Tensor]


def _tanh1(a: Tensor) -> Tensor:
    return 1 - torch.tanh(a).square()


def _tanh2(a: Tensor) -> Tensor:
    y = torch.tanh(a)
    return -2 * y * (1 - y.square())


def _softplus2(a: Tensor) -> Tensor:
    y = torch.sigmoid(a)
    return y * (1 - y)


def _recu1(a: Tensor) -> Tensor:
    return 3 * a.relu().square()


def _recu2(a: Tensor) -> Tensor:
    return 6 * a.relu()


SMOOTH: dict[type[nn.Module], Smooth] = {
    nn.Tanh: Smooth(_tanh1, _tanh2),
    nn.Softplus: Smooth(torch.sigmoid, _softplus2),
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
