"""The first layer, where nearly all the bytes are, in pieces that stay in a CPU's cache.

A batch of 256 stacks is 29 MB of floats, and a Sobolev step reads such an array nine times. Done piece by
piece, from the bytes that are stored to what the next layer needs, it stays in the cache, which matters the more the
smaller the cache is (docs/performance.md). On a GPU the piece is the whole batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from distill.engine.folding import fold_pixels, fold_rows, unfold_pixels
from distill.engine.stage import Stage
from distill.losses.matching import match
from distill.losses.sobolev import Objective
from distill.losses.targets import Targets
from distill.networks.layers.layer import Affine

PIECE_BYTES = 4 * 2**20
"""Floats of one piece: 32 stacks of 4x84x84, about what two cores keep in their second-level caches."""


class Pixels:
    """The first layer's input, and every product of that layer with something of its size.

    Args:
        stage: the first layer; its layer's ``fold`` is set to what fits ``x``.
        x: uint8 pixels or floats in [0, 1], (B, 4, 84, 84), or what the first layer takes.
        dtype: dtype of the passes. Pixels stay 0..255, which bfloat16 holds exactly: 1/255 is in the weight.
        keep: remember the folded pixels for ``weight_gradient``.
    """

    def __init__(self, stage: Stage, x: Tensor, dtype: torch.dtype, *, keep: bool = True) -> None:
        self.layer = layer = stage.layer
        layer.fold = layer.foldable(x)
        self.stage, self.x, self.dtype, self._keep = stage, x, dtype, keep
        self.full = torch.promote_types(dtype, torch.float32)
        self.weight = layer.weight(dtype)
        self.unit = 1 / 255 if x.dtype == torch.uint8 else 1.0
        self.pieces = list(_pieces(x, dtype))
        self._folded: list[Tensor] = []

    def first(self, count: int) -> Pixels:
        """The first ``count`` states, for ``residual`` and ``derivative``."""
        return self.of(self.x[:count])

    def of(self, x: Tensor) -> Pixels:
        """Other pixels, likewise, and the same weight: of one draw, where it has noise."""
        part = copy.copy(self)
        part.x, part._folded = x, []
        part.pieces = list(_pieces(x, self.dtype))
        return part

    def forward(self) -> Tensor:
        """The stage's output."""
        weight, bias = self.weight * self.unit, self.layer.bias(self.dtype)
        folded = [self.fold(self.x[piece]) for piece in self.pieces]
        if len(folded) == 1 or type(self.layer).seen is not Affine.seen:
            # Small enough to keep as floats, or dearer to look at again.
            folded = [self.layer.seen(part.to(self.dtype)) for part in folded]
        self._folded = folded if self._keep else []
        if len(folded) == 1:
            return self.stage.activate(self.layer.affine(folded[0], weight, bias))
        h: Tensor | None = None
        for piece, part in zip(self.pieces, folded, strict=True):
            a = self.layer.affine(part.to(self.dtype), weight, bias)
            h = _whole(a, len(self.x)) if h is None else h
            self.stage.activate(a, out=h[piece])
        assert h is not None
        return h

    def weight_gradient(self, g: Tensor) -> Tensor:
        """Correlation of the pixels with a cotangent of the layer's pre-activation."""
        total: Tensor | None = None
        for piece, folded in zip(self.pieces, self._folded, strict=True):
            total = self.layer.weight_gradient(folded.to(self.dtype), g[piece], self.weight, total)
        assert total is not None
        return total.to(self.full).mul_(self.unit)

    def derivative(self, g: Tensor, out: Tensor) -> None:
        """Write W^T g, for a cotangent of the pre-activation, into ``out``, of the shape of ``x``."""
        for piece in self.pieces:
            out[piece] = self.unfold(self._transpose(g[piece]))

    def residual(
        self, g: Tensor, targets: Targets, k: int, weight: float | Tensor, objective: Objective, blur: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compare W^T g with the teacher's derivative k and follow the slope e of that comparison back up.

        Args:
            g: cotangent of the pre-activation.
            targets: the teacher's derivatives, (B, K, ...).
            k: which of them.
            weight: factor of the slope.
            objective: how they are compared.
            blur: its low-pass, or None.

        Returns:
            (sum of the losses, weight gradient corr(e, g), tangent W e of the pre-activation).
        """
        plain = objective.match == "l2" and blur is None
        # The slope is linear in the residual, so its constants go to the weights, not to every pixel.
        weight = 2 * weight if plain else weight
        scaled = self.weight * weight
        loss = torch.zeros((), dtype=self.full, device=g.device)
        gradient: Tensor | None = None
        tangent: Tensor | None = None
        for piece in self.pieces:
            row = self._transpose(g[piece]).to(self.full)
            if plain:
                e = self._minus_target(row, targets, piece, k, objective.temperature)
                loss += torch.linalg.vector_norm(e).square()
            else:
                losses, e = self._match(row, targets, piece, k, objective, blur)
                loss += losses.sum()
            e = self.layer.seen(e.to(self.dtype))
            gradient = self.layer.weight_gradient(e, g[piece], self.weight, gradient)
            a = self.layer.affine(e, scaled)
            if len(self.pieces) == 1:
                tangent = a
            else:
                tangent = _whole(a, len(self.x)) if tangent is None else tangent
                tangent[piece] = a
        assert gradient is not None
        assert tangent is not None
        return loss, gradient.to(self.full).mul_(weight), tangent

    def fold(self, x: Tensor) -> Tensor:
        """Pixels as the folded layer takes them."""
        if self.layer.fold > 1:
            return fold_pixels(x, self.layer.fold)
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x

    def unfold(self, x: Tensor) -> Tensor:
        """The inverse of ``fold``."""
        return unfold_pixels(x, self.layer.fold) if self.layer.fold > 1 else x

    def _transpose(self, g: Tensor) -> Tensor:
        shape = self.x.shape[1:]
        if self.layer.fold > 1:
            shape = torch.Size([shape[0] * self.layer.fold**2, *(size // self.layer.fold for size in shape[1:])])
        return self.layer.transpose(g, self.weight, (len(g), *shape))

    def _minus_target(self, row: Tensor, targets: Targets, piece: slice, k: int, temperature: float) -> Tensor:
        """Folded derivative minus the teacher's, in place; codes are folded as bytes, before they become floats."""
        codes = self.fold(targets.vjp[piece, k]).to(self.full)
        if targets.scale is None:
            return row.sub_(codes, alpha=1 / temperature)
        scale = fold_rows(targets.scale[piece, k].to(self.full), self.layer.fold)
        return row.addcmul_(codes, scale, value=-1 / temperature)

    def _match(
        self, row: Tensor, targets: Targets, piece: slice, k: int, objective: Objective, blur: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        part = Targets(targets.v[piece], targets.vjp[piece], None if targets.scale is None else targets.scale[piece])
        teacher = (part.row(k) / objective.temperature).to(self.full)
        losses, e = match(objective.match, self.unfold(row), teacher, blur, objective.scale)
        return losses, self.fold(e)


def _pieces(x: Tensor, dtype: torch.dtype) -> Iterator[slice]:
    """Equal parts of a batch, since every new shape costs a convolution its set-up."""
    count = 1
    if x.device.type == "cpu" and x.numel():
        count = math.ceil(x.numel() * dtype.itemsize / PIECE_BYTES)
    size = math.ceil(len(x) / count)
    for start in range(0, max(len(x), 1), max(size, 1)):
        yield slice(start, min(start + size, len(x)))


def _whole(part: Tensor, batch: int) -> Tensor:
    """Room for the whole batch of what ``part`` is a piece of."""
    layout = torch.channels_last if part.dim() == 4 else torch.contiguous_format
    return torch.empty((batch, *part.shape[1:]), dtype=part.dtype, device=part.device, memory_format=layout)
