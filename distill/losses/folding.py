"""Space to depth for the first layer.

An 8x8 convolution of stride 4 equals a 2x2 convolution of stride 1 on an image folded by 4, whose
input gradient a CPU computes several times faster (docs/concepts.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def foldable(layer: nn.Conv2d | nn.Linear, x: Tensor) -> int:
    """The stride of a convolution whose kernel and image are whole multiples of it, else 1."""
    if isinstance(layer, nn.Linear) or any(size % layer.stride[0] for size in (layer.kernel_size[0], *x.shape[-2:])):
        return 1
    return layer.stride[0]


def fold_pixels(x: Tensor, fold: int) -> Tensor:
    """``pixel_unshuffle`` straight into channels-last memory: (B, C, H, W) to (B, C*f*f, H/f, W/f).

    Runs of ``fold`` pixels stay together, so they are moved as one wide integer where one exists.
    """
    b, c, h, w = x.shape
    wide = {2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}.get(x.element_size() * fold)
    if wide is None:
        folded = x.view(b, c, h // fold, fold, w // fold, fold).permute(0, 2, 4, 1, 3, 5).contiguous()
    else:
        runs = x.contiguous().view(wide).view(b, c, h // fold, fold, w // fold)
        folded = runs.permute(0, 2, 4, 1, 3).contiguous().view(x.dtype)
    return folded.view(b, h // fold, w // fold, c * fold * fold).permute(0, 3, 1, 2)
