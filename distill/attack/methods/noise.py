"""Random noise of an attack's size: what a perturbation does that knows nothing of the agent."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.attack.method import Attack, Scene, along, as_bytes, within


def perturb(scene: Scene) -> Tensor:
    """Every pixel up or down by eps (linf), or normal noise of that root mean square (l2)."""
    x, norm = scene.x.float(), scene.threat.norm
    noise = torch.randn(scene.x.shape, generator=scene.generator).to(x.device)
    change = along(noise, scene.eps, norm)
    return as_bytes(within(x + change, x, scene.eps, norm), x, scene.eps, norm)


ATTACK = Attack("noise", "random noise of the same size", perturb, targeted=False)
