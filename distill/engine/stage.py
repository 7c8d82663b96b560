"""One affine layer with its activation: the four products that first-order passes are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.networks.layers import SMOOTH, known

aten = torch.ops.aten


@dataclass
class Stage:
    """One affine layer and the activation behind it. Weights are given, since a pass may fold or scale them."""

    layer: nn.Conv2d | nn.Linear
    activation: nn.Module | None
    flatten: bool
    """The input is flattened first."""
    fold: int = 1
    """First convolution only: kernel and input are folded by this factor (space to depth), which
    turns an 8x8 stride-4 convolution into a 2x2 stride-1 one, several times faster on a CPU."""
    frozen: bool = False
    """The weight never changes: prepare it once."""
    _ready: tuple[int, torch.dtype, Tensor] | None = None

    def weight(self, dtype: torch.dtype) -> Tensor:
        """The layer's weight, folded and channels-last."""
        if self._ready is not None and self._ready[:2] == (self.fold, dtype):
            return self._ready[2]
        weight = self._prepared(dtype)
        if self.frozen:
            self._ready = (self.fold, dtype, weight)
        return weight

    def _prepared(self, dtype: torch.dtype) -> Tensor:
        weight = self.layer.weight.detach().to(dtype)
        if self.fold > 1:
            weight = F.pixel_unshuffle(weight, self.fold)
        return weight.contiguous(memory_format=torch.channels_last) if weight.dim() == 4 else weight

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        """The layer's bias."""
        return None if self.layer.bias is None else self.layer.bias.detach().to(dtype)

    def affine(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """W x + b."""
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, weight, bias)
        return F.conv2d(x, weight, bias, stride=self._stride)

    def transpose(self, g: Tensor, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """W^T g, of the given shape."""
        if isinstance(self.layer, nn.Linear):
            return g @ weight
        # Only the shape of the missing operand is read.
        x = torch.empty(tuple(shape), dtype=g.dtype, device=g.device, memory_format=torch.channels_last)
        return self._backward(g, x, weight, data=True)

    def weight_gradient(self, x: Tensor, g: Tensor, weight: Tensor, into: Tensor | None = None) -> Tensor:
        """Correlation of a layer's input and a cotangent of its output, added to ``into`` in place."""
        if isinstance(self.layer, nn.Linear):
            return g.T @ x if into is None else into.addmm_(g.T, x)
        gradient = self._backward(g, x, weight, data=False)
        return gradient if into is None else into.add_(gradient)

    def activate(self, a: Tensor, out: Tensor | None = None) -> Tensor:
        """Activation of a pre-activation that nobody else needs. ``out``: where to put it."""
        if isinstance(self.activation, nn.ReLU):
            return a.relu_() if out is None else torch.clamp_min(a, 0, out=out)
        h = a if self.activation is None else self.activation(a)
        return h if out is None else out.copy_(h)

    def slope(self, h: Tensor, g: Tensor) -> Tensor:
        """phi'(a) * g for the output h = phi(a): the activation's linear part, the same for tangents and cotangents.

        For ReLU in place: such arrays are large, and nobody needs ``g`` again.
        """
        if self.activation is None:
            return g
        if not isinstance(self.activation, nn.ReLU):
            return SMOOTH[type(self.activation)].slope(h, g)
        return aten.threshold_backward.grad_input(g, h, 0, grad_input=g)  # type: ignore[no-any-return]

    def curvature(self, h: Tensor, tangent: Tensor, g: Tensor) -> Tensor | None:
        """phi''(a) * a_dot * g for a smooth activation, else None."""
        smooth = None if self.activation is None else SMOOTH.get(type(self.activation))
        return None if smooth is None else smooth.curvature(h, tangent).mul_(g)

    def add_gradient(self, weight: Tensor, bias: Tensor) -> None:
        """Add gradients, the weight's as folded as the weight is, to the parameters' ``.grad``."""
        _accumulate(self.layer.weight, F.pixel_shuffle(weight, self.fold) if self.fold > 1 else weight)
        if self.layer.bias is not None:
            _accumulate(self.layer.bias, bias)

    @property
    def _stride(self) -> int:
        assert isinstance(self.layer, nn.Conv2d)
        return self.layer.stride[0] // self.fold

    def _backward(self, g: Tensor, x: Tensor, weight: Tensor, *, data: bool) -> Tensor:
        stride = [self._stride, self._stride]
        gradients = aten.convolution_backward(
            g, x, weight, None, stride, [0, 0], [1, 1], False, [0, 0], 1, [data, not data, False]
        )
        return gradients[0 if data else 1]  # type: ignore[no-any-return]


def stages(path: nn.Sequential, *, frozen: bool = False) -> list[Stage]:
    """The affine layers of a network that ``known`` accepts, in order."""
    if not known(path):
        raise ValueError("the engine knows only sequences of Conv2d, Linear and known activations")
    found: list[Stage] = []
    flatten = False
    for module in path:
        if isinstance(module, nn.Conv2d | nn.Linear):
            found.append(Stage(module, None, flatten, frozen=frozen))
            flatten = False
        elif isinstance(module, nn.Flatten):
            flatten = True
        else:
            found[-1].activation = module
    return found


def _accumulate(parameter: Tensor, gradient: Tensor) -> None:
    if not parameter.requires_grad:
        return
    gradient = gradient.to(parameter.dtype)
    if gradient.stride() != parameter.stride():
        # PyTorch's fused optimizers read both as flat memory: another layout would silently train something else.
        gradient = torch.empty_like(parameter).copy_(gradient)
    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
