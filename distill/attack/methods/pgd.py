"""Projected gradient descent from a random start (Madry et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.attack.method import Attack, Scene, along, as_bytes, scaled, within


def perturb(scene: Scene) -> Tensor:
    """``threat.steps`` steps of ``threat.step_size``, each followed by the way back to the allowed perturbations."""
    x, norm, eps = scene.x.float(), scene.threat.norm, scene.eps
    size = scene.threat.step_size or 2.5 * eps / scene.threat.steps
    action, towards = scene.goal()
    start = 2 * torch.rand(scene.x.shape, generator=scene.generator).to(x.device) - 1
    moved = within(x + (eps * start if norm == "linf" else scaled(start, eps)), x, eps, norm)
    for _ in range(scene.threat.steps):
        slope = scene.victim.slope(moved, action, towards)
        moved = within(moved + along(slope, size, norm), x, eps, norm)
    return as_bytes(moved, x, eps, norm)


ATTACK = Attack("pgd", "several steps along the gradient, from a random start", perturb)
