"""Space to depth for the first layer.

An 8x8 convolution of stride 4 equals a 2x2 convolution of stride 1 on an image folded by 4, whose
input gradient a CPU computes several times faster (docs/concepts.md).
"""

from __future__ import annotations

import torch
from torch import Tensor


def fold_pixels(x: Tensor, fold: int) -> Tensor:
    """``pixel_unshuffle`` straight into channels-last memory: (B, C, H, W) to (B, C*f*f, H/f, W/f)."""
    b, c, h, w = x.shape
    runs, dtype = _runs(x.contiguous(), fold)
    folded = runs.view(b, c, h // fold, fold, w // fold, -1).permute(0, 2, 4, 1, 3, 5).contiguous().view(dtype)
    return folded.view(b, h // fold, w // fold, c * fold * fold).permute(0, 3, 1, 2)


def unfold_pixels(x: Tensor, fold: int) -> Tensor:
    """The inverse of ``fold_pixels``, contiguous."""
    b, channels, h, w = x.shape
    c = channels // fold**2
    runs, dtype = _runs(x.permute(0, 2, 3, 1).contiguous(), fold)
    pixels = runs.view(b, h, w, c, fold, -1).permute(0, 3, 1, 4, 2, 5).contiguous().view(dtype)
    return pixels.view(b, c, h * fold, w * fold)


def _runs(x: Tensor, fold: int) -> tuple[Tensor, torch.dtype]:
    """On a CPU, runs of ``fold`` pixels as one wide number each where there is one: moved three times as fast."""
    wide = {2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}.get(x.element_size() * fold)
    return (x.view(wide), x.dtype) if wide is not None and x.device.type == "cpu" else (x, x.dtype)


def fold_rows(scale: Tensor, fold: int) -> Tensor:
    """One number an image row, (B, C, H), shaped to multiply pixels folded by ``fold``."""
    batch, channels, height = scale.shape
    if fold == 1:
        return scale.unsqueeze(-1)
    rows = scale.view(batch, channels, height // fold, fold).transpose(1, 2)
    rows = rows.reshape(batch, height // fold, 1, channels * fold).repeat_interleave(fold, -1)
    return rows.permute(0, 3, 1, 2)
