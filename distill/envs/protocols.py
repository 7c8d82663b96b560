"""Evaluation protocols: a score means nothing without one."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import lookup


@dataclass(frozen=True)
class Protocol:
    """How games are played. Always whole games (all lives), raw rewards, 1-30 no-ops at the start."""

    name: str
    """Name on the command line and in scores.json."""
    greedy: bool
    """Best action, or sampled from the policy."""
    sticky: float
    """Probability that the emulator repeats the last action."""
    meaning: str
    """One line for people."""


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        Protocol("zoo", False, 0.0, "sampled actions, no sticky actions, 30 no-ops (RL Baselines3 Zoo)"),
        Protocol("zoo-greedy", True, 0.0, "best action, no sticky actions, 30 no-ops"),
        Protocol("machado", False, 0.25, "sampled actions, sticky 0.25 (Machado et al. 2018)"),
    )
}


def get_protocol(name: str) -> Protocol:
    """Look a protocol up by name.

    Raises:
        UserError: unknown name.
    """
    return lookup("protocol", PROTOCOLS, name)
