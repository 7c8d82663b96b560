"""A convolution, ``nn.Conv2d``: square kernel and stride, nothing padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.networks.layers.layer import Affine


class Convolution(Affine):
    """Products of a convolution, in channels-last memory.

    As a first layer it is folded: an 8x8 convolution of stride 4 becomes a 2x2 one of stride 1 on an image folded by
    4, several times faster on a CPU (docs/concepts.md).
    """

    name = "convolution"
    module: ClassVar[type[nn.Module]] = nn.Conv2d
    images = True

    @classmethod
    def fits(cls, module: nn.Module) -> bool:
        """See ``Affine``."""
        if not super().fits(module):
            return False
        assert isinstance(module, nn.Conv2d)
        square = len(set(module.kernel_size)) == 1 and len(set(module.stride)) == 1
        return square and module.padding == (0, 0) and module.dilation == (1, 1) and module.groups == 1

    def foldable(self, x: Tensor) -> int:
        """Its stride where kernel and image are whole multiples of that, else 1."""
        stride: int = self.layer.stride[0]
        return 1 if any(size % stride for size in (self.layer.kernel_size[0], *x.shape[-2:])) else stride

    def prepared(self, dtype: torch.dtype) -> Tensor:
        """Folded and channels-last."""
        weight = super().prepared(dtype)
        if self.fold > 1:
            weight = F.pixel_unshuffle(weight, self.fold)
        return weight.contiguous(memory_format=torch.channels_last)

    def affine(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """See ``Affine``."""
        return F.conv2d(x, weight, bias, stride=self._stride)

    def transpose(self, g: Tensor, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """See ``Affine``."""
        # Only the shape of the missing operand is read.
        x = torch.empty(tuple(shape), dtype=g.dtype, device=g.device, memory_format=torch.channels_last)
        return self._backward(g, x, weight, data=True)

    def weight_gradient(self, x: Tensor, g: Tensor, weight: Tensor, into: Tensor | None = None) -> Tensor:
        """See ``Affine``."""
        gradient = self._backward(g, x, weight, data=False)
        return gradient if into is None else into.add_(gradient)

    def add_gradient(self, weight: Tensor, bias: Tensor) -> None:
        """See ``Affine``."""
        super().add_gradient(F.pixel_shuffle(weight, self.fold) if self.fold > 1 else weight, bias)

    @property
    def _stride(self) -> int:
        stride: int = self.layer.stride[0]
        return stride // self.fold

    def _backward(self, g: Tensor, x: Tensor, weight: Tensor, *, data: bool) -> Tensor:
        stride = [self._stride, self._stride]
        gradients = torch.ops.aten.convolution_backward(
            g, x, weight, None, stride, [0, 0], [1, 1], False, [0, 0], 1, [data, not data, False]
        )
        return gradients[0 if data else 1]  # type: ignore[no-any-return]


LAYER = Convolution
