"""The same search over pixels drawn at random: what choosing them by influence is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.attack.method import Attack, Scene
from distill.attack.swarm import SIZE, search_highest


def perturb(scene: Scene) -> Tensor:
    """Change ``threat.pixels`` pixels, or patches of them, of the newest frame, drawn for each state."""
    chance = -torch.rand(len(scene.x), SIZE * SIZE, generator=scene.generator).to(scene.x.device)
    return search_highest(scene, chance)


ATTACK = Attack("swarm-random", "values of pixels drawn at random, by particle swarm", perturb, sized=False)
