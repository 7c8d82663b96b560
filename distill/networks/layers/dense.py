"""A dense layer, ``nn.Linear``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from distill.networks.layers.layer import Affine


class Dense(Affine):
    """Products of a matrix."""

    name = "dense"
    module: ClassVar[type[nn.Module]] = nn.Linear
    images = False

    def affine(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """See ``Affine``."""
        return F.linear(x, weight, bias)

    def transpose(self, g: Tensor, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """See ``Affine``."""
        return g @ weight

    def weight_gradient(self, x: Tensor, g: Tensor, weight: Tensor, into: Tensor | None = None) -> Tensor:
        """See ``Affine``."""
        return g.T @ x if into is None else into.addmm_(g.T, x)


LAYER = Dense
