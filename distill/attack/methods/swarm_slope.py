"""The same search over pixels of the steepest slope: influence does not say how far a pixel goes, a slope does."""

from __future__ import annotations

from torch import Tensor

from distill.attack.method import Attack, Scene
from distill.attack.swarm import SIZE, search_highest
from distill.figures.influence import box_sum


def perturb(scene: Scene) -> Tensor:
    """Change the ``threat.pixels`` pixels, or patches of them, of the newest frame along which log p changes most."""
    slope = scene.victim.slope(scene.x, *scene.goal())[:, -1:].abs()
    return search_highest(scene, box_sum(slope, scene.threat.patch).view(-1, SIZE * SIZE))


ATTACK = Attack("swarm-slope", "values of the pixels of steepest slope, by particle swarm", perturb, sized=False)
