"""Particle swarm search over the pixels of largest influence (arXiv 2006.03243)."""

from __future__ import annotations

from torch import Tensor

from distill.attack.method import Attack, Scene
from distill.attack.swarm import search_highest


def perturb(scene: Scene) -> Tensor:
    """Change the ``threat.pixels`` pixels, or patches of them, of the newest frame that matter most."""
    return search_highest(scene, scene.victim.influence(scene.x, scene.threat.patch).flatten(1))


ATTACK = Attack("swarm", "values of the pixels of largest influence, by particle swarm", perturb, sized=False)
