"""Playing a fixed number of whole games per lane, so that short games do not win."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from distill.agents.actor import Actor, Policy
from distill.envs.ale_vec import AtariVec, Game
from distill.envs.presets import Preset
from distill.envs.protocols import Protocol
from distill.system.crew import Crew, halves
from distill.system.runtime import torch_threads


def play(
    net: nn.Module,
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
    lock = threading.Lock()

    def report(ended: Game) -> None:
        with lock:
            on_game(ended)

    def half(lanes: range) -> list[list[Game]]:
        actor = Actor(Policy(net, device), "greedy" if protocol.greedy else "sampled")
        with AtariVec(game, len(lanes), preset, sticky=protocol.sticky) as env:
            return _play_lanes(env, actor, quota, seed, lanes, report, crew.check)

    net.to(device)
    with torch_threads(0.5), Crew(2) as crew:
        return [ended for played in crew.map(half, halves(num_envs)) for lane in played for ended in lane]


def _play_lanes(
    env: AtariVec,
    actor: Actor,
    quota: int,
    seed: int,
    lanes: range,
    on_game: Callable[[Game], None],
    check: Callable[[], None],
) -> list[list[Game]]:
    """The first ``quota`` games of each of these lanes; ``check`` is called between steps."""
    rng = np.random.default_rng([seed, 6, lanes.start])
    played: list[list[Game]] = [[] for _ in lanes]
    busy = np.ones(len(lanes), bool)
    obs = env.reset(seed + lanes.start)
    while busy.any():
        check()
        actions = np.zeros(len(lanes), np.int64)
        actions[busy] = actor.act(obs[busy], rng)
        step = env.step(actions)
        obs = step.obs
        for ended in step.games:
            if busy[ended.lane]:
                game = replace(ended, lane=lanes[ended.lane])
                played[ended.lane].append(game)
                busy[ended.lane] = len(played[ended.lane]) < quota
                on_game(game)
    return played
