"""The same search over pixels drawn at random: what choosing them by influence is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.attack.method import Attack, Scene
from distill.attack.swarm import SIZE, apart, around, search


def perturb(scene: Scene) -> Tensor:
    """Change ``threat.pixels`` pixels, or patches of them, of the newest frame, drawn for each state."""
    chance = -torch.rand(len(scene.x), SIZE * SIZE, generator=scene.generator).to(scene.x.device)
    return search(scene, around(apart(chance, scene.threat.pixels, scene.threat.patch), scene.threat.patch))


ATTACK = Attack("swarm-random", "values of pixels drawn at random, by particle swarm", perturb, sized=False)
