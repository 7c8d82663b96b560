"""Particle swarm search over the pixels of largest influence (arXiv 2006.03243)."""

from __future__ import annotations

from torch import Tensor

from distill.attack.method import Attack, Scene
from distill.attack.swarm import apart, around, search


def perturb(scene: Scene) -> Tensor:
    """Change the ``threat.pixels`` pixels, or patches of them, of the newest frame that matter most."""
    maps = scene.victim.influence(scene.x, scene.threat.patch).flatten(1)
    return search(scene, around(apart(maps, scene.threat.pixels, scene.threat.patch), scene.threat.patch))


ATTACK = Attack("swarm", "values of the pixels of largest influence, by particle swarm", perturb, sized=False)
