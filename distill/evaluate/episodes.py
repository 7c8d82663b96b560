"""Playing a fixed number of whole games per lane, so that short games do not win."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from distill.collect.actor import Actor, Policy
from distill.envs.ale_vec import AtariVec, Game
from distill.envs.presets import Preset
from distill.evaluate.protocol import Protocol
from distill.students.nets import AtariCNN


def play(
    net: AtariCNN,
    game: str,
    preset: Preset,
    protocol: Protocol,
    *,
    games: int,
    num_envs: int,
    seed: int,
    device: torch.device,
    on_game: Callable[[Game], None] = lambda game: None,
) -> list[Game]:
    """Play ``games`` whole games.

    Args:
        net: the agent.
        game: canonical game name.
        preset: what it sees.
        protocol: sampled or greedy, sticky or not.
        games: whole games; every lane plays ``games / num_envs`` of them, its first ones.
        num_envs: lanes.
        seed: seeds games and actions; agents given the same seed start the same games.
        device: where the network runs.
        on_game: called after each game that counts.

    Returns:
        The games in a fixed order: lane by lane, first to last.
    """
    num_envs = min(num_envs, games)
    quota = games // num_envs
    actor = Actor(Policy(net, device), "greedy" if protocol.greedy else "sampled")
    rng = np.random.default_rng([seed, 6])
    played: list[list[Game]] = [[] for _ in range(num_envs)]
    busy = np.ones(num_envs, bool)
    with AtariVec(game, num_envs, preset, sticky=protocol.sticky) as env:
        obs = env.reset(seed)
        while busy.any():
            actions = np.zeros(num_envs, np.int64)
            actions[busy] = actor.act(obs[busy], rng)
            step = env.step(actions)
            obs = step.obs
            for ended in step.games:
                if len(played[ended.lane]) < quota:
                    played[ended.lane].append(ended)
                    busy[ended.lane] = len(played[ended.lane]) < quota
                    on_game(ended)
    return [ended for lane in played for ended in lane]
