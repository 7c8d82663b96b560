"""Gaussian noise on the pixels of a batch, from a table that is drawn once.

To draw it afresh costs a CPU two thirds of a small student's step. A state takes a random stretch of one long
table instead, a tenth of that: each value keeps its exact law, and two states hardly ever share any.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill.system.streams import Stream, numbered, torch_numbered

TABLE = 2**24


class PixelNoise:
    """Adds noise that depends on (seed, step) alone, on any device.

    Args:
        deviation: standard deviation in gray levels.
        seed: of the table and the stretches.
        device: where observations are.
    """

    def __init__(self, deviation: float, seed: int, device: torch.device) -> None:
        self.seed = seed
        generator = torch_numbered(Stream.NOISE_TABLE, seed)
        # Pixels are whole, so that rounding the noise rounds the sum; beyond 255 clipping gives the same.
        noise = torch.randn(TABLE, generator=generator).mul_(deviation).round_().clamp_(-255, 255)
        self._table = noise.to(torch.int16).to(device)

    def add(self, obs: Tensor, step: int, batch: int, share: slice) -> Tensor:
        """round(obs + noise), clipped to 0..255, uint8.

        Args:
            obs: uint8 (B, 4, 84, 84), the rows ``share`` of a batch.
            step: number of the batch.
            batch: states of the whole batch.
            share: which of them ``obs`` holds.
        """
        pixels = obs[0].numel()
        stretches = self._table.unfold(0, pixels, 1)  # a view; every place of the table starts one
        starts = numbered(Stream.NOISE, self.seed, step).integers(len(stretches), size=batch)[share]
        noise = stretches[torch.from_numpy(starts).to(obs.device)].view(obs.shape)
        return noise.add_(obs).clamp_(0, 255).to(torch.uint8)
