"""The pixels of largest influence, each as far as it goes: cheap enough to train on."""

from __future__ import annotations

from torch import Tensor

from distill.attack.method import Attack, Scene
from distill.attack.swarm import put


def perturb(scene: Scene) -> Tensor:
    """Set the ``threat.pixels`` pixels of the newest frame that matter most to 0 or 255, as the slope says."""
    pixels = scene.victim.influence(scene.x, 1).flatten(1).topk(scene.threat.pixels, dim=1).indices
    slope = scene.victim.slope(scene.x, *scene.goal())[:, -1].flatten(1).gather(1, pixels)
    return put(scene.x, pixels, 255.0 * (slope > 0))


ATTACK = Attack("influence", "the pixels of largest influence go to 0 or 255, along the slope", perturb, sized=False)
