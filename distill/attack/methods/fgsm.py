"""The fast gradient sign method (Goodfellow et al. 2015; on agents: Huang et al. 2017)."""

from __future__ import annotations

from torch import Tensor

from distill.attack.method import Attack, Scene, along, as_bytes, within


def perturb(scene: Scene) -> Tensor:
    """One step of eps along the sign of the slope (linf), or along the slope (l2)."""
    x, norm = scene.x.float(), scene.threat.norm
    change = along(scene.victim.slope(scene.x, *scene.goal()), scene.eps, norm)
    return as_bytes(within(x + change, x, scene.eps, norm), x, scene.eps, norm)


ATTACK = Attack("fgsm", "one step along the gradient's sign", perturb)
