"""What is seen to before the first game or state: whose slopes are used, and that the attack can be made at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from distill.agents.agents import Agent, find_agents
from distill.attack.method import ATTACKS, Scene
from distill.attack.settings import ThreatConfig
from distill.attack.victim import Victim
from distill.envs.games import game_info
from distill.envs.presets import OBS_SHAPE
from distill.envs.settings import CommonConfig
from distill.errors import UserError
from distill.networks.parts import draws_from
from distill.system.streams import torch_generator
from distill.system.trouble import blaming


def find_source(config: CommonConfig, threat: ThreatConfig, agents: Sequence[Agent]) -> Agent | None:
    """The agent of ``threat.source``; None without one.

    Args:
        config: game, teacher, presets and temperature.
        threat: names it; ``teacher`` is as in ``evaluate.agents``, whoever taught the students.
        agents: who is attacked.

    Raises:
        UserError: it is not there, stands for several, or sees something else than one of ``agents``.
    """
    if threat.source is None:
        return None
    found = find_agents(config, [threat.source], beside=agents)
    if len(found) > 1:
        names = ", ".join(one.what for one in found)
        raise UserError(f"--threat.source={threat.source}: these students learned from {names}; name one of them")
    for agent in agents:
        if agent.preset != found[0].preset:
            raise UserError(
                f"--threat.source={threat.source} sees preset {found[0].preset} and {agent.name} sees {agent.preset}; "
                "name a source that sees the same"
            )
    return found[0]


def try_out(
    methods: Sequence[str], agents: Sequence[Agent], source: Agent | None, threat: ThreatConfig, game: str
) -> None:
    """Perturb two stacks for each method and agent: what cannot work shows now, and not after hours of others.

    Raises:
        UserError: an agent without derivatives, a target that the game does not have, or a method of the user's own
            that fails or does not give stacks.
    """
    actions = len(game_info(game).actions)
    if threat.target is not None and threat.target >= actions:
        raise UserError(f"--threat.target={threat.target}: {game} has actions 0 to {actions - 1}")
    for agent in agents:
        victim = Victim((source or agent).net, torch.device("cpu"))
        for name in methods:
            try_one(name, agent.name, victim, threat)


def try_one(name: str, agent: str, victim: Victim, threat: ThreatConfig) -> None:
    """Perturb two stacks that differ by one method, as briefly as it can be.

    Args:
        name: the method's.
        agent: who is attacked, for messages.
        victim: whose slopes are used.
        threat: what else the attacker may do.

    Raises:
        UserError: the method fails.
    """
    draws = torch_generator("trial of an attack")
    stacks = torch.randint(0, 256, (2, *OBS_SHAPE), generator=draws, dtype=torch.uint8).to(victim.device)
    few = replace(threat, steps=1, iterations=1, draws=1)
    try:
        with blaming("the attack fails", "mend its function"), draws_from(draws):
            ATTACKS.find(name).seen(Scene(stacks, victim, 2.0, few, draws))
    except UserError as error:
        raise UserError(f"{agent} under {name}: {error}") from error
