"""A way to perturb pixels is one entry: its name, what it does, and the function that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distill.attack.settings import ThreatConfig
from distill.attack.victim import Victim
from distill.errors import UserError
from distill.system.registry import Registry


@dataclass(frozen=True)
class Scene:
    """What an attacker is given."""

    x: Tensor
    """What the agent would see, uint8 (B, 4, 84, 84)."""
    victim: Victim
    """Whose derivatives it may ask for."""
    eps: float
    """How large the perturbation may be, in gray levels."""
    threat: ThreatConfig
    """What else it may do."""
    generator: torch.Generator
    """Where draws come from; on the host."""

    def goal(self) -> tuple[Tensor, bool]:
        """An action a state, int64 (B,), and whether it is to become likelier (the target) or less likely (its own)."""
        if self.threat.target is not None:
            return torch.full((len(self.x),), self.threat.target, device=self.x.device), True
        return self.victim.log_policy(self.x).argmax(-1), False


@dataclass(frozen=True)
class Attack:
    """One way to perturb pixels."""

    name: str
    """As in ``attack.methods`` and ``evaluate.attack``."""
    meaning: str
    """In a line."""
    perturb: Callable[[Scene], Tensor]
    """What the agent sees in place of ``scene.x``, of its shape, uint8."""
    sized: bool = True
    """``eps`` matters; else the method changes few pixels as much as it likes."""
    targeted: bool = True
    """``threat.target`` matters."""

    def seen(self, scene: Scene) -> Tensor:
        """What the agent sees in place of ``scene.x``, which stays as it is: a method may write on its own copy.

        Raises:
            UserError: the method gives no stacks of that shape.
        """
        found: object = self.perturb(replace(scene, x=scene.x.clone()))
        if not isinstance(found, Tensor):
            raise UserError(f"attack {self.name} gives a {type(found).__name__}, not a tensor; mend its function")
        if (found.dtype, found.shape) != (scene.x.dtype, scene.x.shape):
            raise UserError(
                f"attack {self.name} gives {found.dtype} {tuple(found.shape)}, not {scene.x.dtype} "
                f"{tuple(scene.x.shape)} as it was given; mend its function"
            )
        return found


ATTACKS: Registry[Attack] = Registry(
    "attack", "a distill.api.Attack", lambda thing: isinstance(thing, Attack), own=("distill.attack.methods", "ATTACK")
)
"""All ways by name."""


def register_attack(attack: Attack) -> Attack:
    """Let ``attack.methods`` and ``evaluate.attack`` name it.

    Raises:
        UserError: its name is taken.
    """
    return ATTACKS.register(attack.name, attack)


def within(moved: Tensor, x: Tensor, eps: float, norm: str) -> Tensor:
    """The nearest floats of 0 to 255 that are no further than ``eps`` from bytes ``x``; both (B, ...)."""
    if norm == "linf":
        return (moved - x).clamp(-eps, eps).add(x).clamp(0, 255)
    return (x + scaled(moved - x, eps, at_most=True)).clamp(0, 255)


def scaled(change: Tensor, size: float, *, at_most: bool = False) -> Tensor:
    """A change, (B, ...), whose root mean square over a state is ``size``; with ``at_most`` a smaller one stays."""
    rms = change.flatten(1).square().mean(1).sqrt().clamp_min(1e-12)
    factor = size / rms
    factor = factor.clamp_max(1) if at_most else factor
    return change * factor.view(-1, *[1] * (change.dim() - 1))


def along(direction: Tensor, size: float, norm: str) -> Tensor:
    """The largest change of this size along a direction, (B, ...): of every pixel, or of their root mean square."""
    return size * direction.sign() if norm == "linf" else scaled(direction, size)


def as_bytes(moved: Tensor, x: Tensor, eps: float, norm: str) -> Tensor:
    """Whole gray levels, uint8; under ``linf`` none is further than ``eps`` from ``x``."""
    rounded = moved.round()
    if norm == "linf":
        whole = int(eps)
        rounded = torch.minimum(torch.maximum(rounded, x - whole), x + whole)
    return rounded.clamp(0, 255).to(torch.uint8)
