"""Does a student still do what its teacher would, when pixels are noisy or the picture is moved a little?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from distill.api import Dataset
from distill.losses.divergence import action_error, kl

NOISES = (4, 8, 16)
"""Standard deviations of Gaussian noise, in gray levels (0..255)."""
SHIFTS = (1, 2)
"""Pixels, up, down, left and right; what comes in at the edge repeats it."""

Index = npt.NDArray[np.int64]


def agreement(net: nn.Module, dataset: Dataset, index: Index) -> dict[str, float]:
    """Top-action disagreement and KL between the teacher at clean pixels and the student at perturbed ones.

    Returns:
        ``noise4_error``, ``noise4_kl``, ``shift1_error``, ... means over states, and over the four directions.
    """
    stacks, teacher = torch.from_numpy(dataset.stacks(index)), torch.from_numpy(dataset.logits[index])
    generator = torch.Generator().manual_seed(0)
    found = {}
    for sigma in NOISES:
        noise = torch.randn(stacks.shape, generator=generator) * sigma
        found[f"noise{sigma}"] = [compare(net, (stacks + noise).round_().clamp_(0, 255), teacher)]
    for pixels in SHIFTS:
        moves = [(pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels)]
        found[f"shift{pixels}"] = [compare(net, shifted(stacks, *move), teacher) for move in moves]
    means = {}
    for name, pairs in found.items():
        means[f"{name}_error"], means[f"{name}_kl"] = (float(mean) for mean in np.mean(pairs, 0))
    return means


def shifted(stacks: Tensor, down: int, right: int) -> Tensor:
    """Pictures moved by whole pixels, (B, 4, H, W)."""
    height, width = stacks.shape[-2:]
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return stacks[..., rows, :][..., columns]


@torch.no_grad()
def compare(net: nn.Module, stacks: Tensor, teacher: Tensor) -> tuple[float, float]:
    """(disagreement, KL) for gray levels (B, 4, 84, 84) and the teacher's logits (B, A), both on the CPU."""
    device = next((part.device for part in net.parameters()), torch.device("cpu"))
    logits = torch.cat([net(part.to(device).float() / 255).cpu() for part in torch.split(stacks, 256)])
    return float(action_error(logits, teacher).mean()), float(kl(logits, teacher).mean())
