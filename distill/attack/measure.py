"""How far an attack on recorded states gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.attack.victim import Victim
from distill.losses.divergence import action_error, kl

BATCH = 64
"""States that are attacked together."""


@dataclass(frozen=True)
class States:
    """Recorded states with the teacher's labels."""

    pixels: Tensor
    """uint8 (N, 4, 84, 84)."""
    logits: Tensor
    """The teacher's at clean pixels, float (N, A)."""


@dataclass(frozen=True)
class Harm:
    """Means over states."""

    action_error: float
    """Share where the attacked agent's best action is not the teacher's at clean pixels."""
    kl: float
    """KL(teacher at clean pixels || attacked agent), nats."""
    flips: float
    """Share where the attacked agent's best action is not its own at clean pixels."""
    hits: float | None
    """Share where it is the target; None without one."""
    changed: float
    """Root mean square of the change, gray levels."""


def harm(agent: Victim, states: States, attacked: Callable[[Tensor], Tensor], target: int | None) -> Harm:
    """Let an agent see all states as an attacker makes them.

    Args:
        agent: who is attacked.
        states: where.
        attacked: what it sees in place of these stacks, both uint8 (B, 4, 84, 84).
        target: the action that it is to be brought to.
    """
    sums = torch.zeros(5, dtype=torch.float64)
    for pixels, teacher in zip(*(torch.split(part, BATCH) for part in (states.pixels, states.logits)), strict=True):
        seen = attacked(pixels)
        own, logits = agent.logits(pixels).argmax(-1), agent.logits(seen)
        best, moved = logits.argmax(-1), (seen.float() - pixels.float()).square().flatten(1).mean(1).sqrt()
        parts = (action_error(logits, teacher), kl(logits, teacher), best != own, best == target, moved)
        sums += torch.stack([torch.as_tensor(part).double().sum().cpu() for part in parts])
    error, distance, flips, hits, changed = (sums / len(states.pixels)).tolist()
    return Harm(error, distance, flips, None if target is None else hits, changed)
