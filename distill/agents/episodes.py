"""Playing a fixed number of whole games per lane, so that short games do not win."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from distill.agents.actor import Actor, Policy, Uniform
from distill.envs.ale_vec import AtariVec
from distill.envs.presets import Preset
from distill.envs.protocols import Protocol
from distill.envs.step import Game
from distill.errors import UserError
from distill.system.crew import Crew, halves
from distill.system.runtime import torch_threads
from distill.system.streams import Stream, numbered


@dataclass(frozen=True)
class Match:
    """Who plays what, and how."""

    net: nn.Module
    """The agent."""
    game: str
    """Canonical game name."""
    preset: Preset
    """What the agent sees."""
    protocol: Protocol
    """Sampled or greedy, sticky or not."""
    device: torch.device
    """Where the network runs."""
    policy: Callable[[nn.Module, torch.device, int], Policy] = lambda net, device, lane: Policy(net, device, lane=lane)
    """What makes it act, in a group of games whose first lane is given; an attacker comes between here."""

    def actor(self, lane: int = 0) -> Actor:
        """Who acts, for one thread, which plays the games from this lane on; chance has no best action to take."""
        greedy = self.protocol.greedy and not isinstance(self.net, Uniform)
        return Actor(self.policy(self.net, self.device, lane), "greedy" if greedy else "sampled", strict=True)

    def env(self, num_envs: int) -> AtariVec:
        """The games, not begun yet."""
        return AtariVec(self.game, num_envs, self.preset, sticky=self.protocol.sticky)


def play(
    match: Match, *, games: int, num_envs: int, seed: int, on_game: Callable[[Game], None] = lambda game: None
) -> list[Game]:
    """Play ``games`` whole games.

    Args:
        match: who plays what.
        games: whole games; every lane plays ``games / num_envs`` of them, its first ones.
        num_envs: lanes.
        seed: seeds games and actions; agents given the same seed start the same games.
        on_game: called after each game that counts.

    Returns:
        The games in a fixed order: lane by lane, first to last.

    Raises:
        UserError: lanes would play different numbers of games, or the agent gives NaN or infinite logits.
    """
    num_envs = min(num_envs, games)
    if games % num_envs:
        raise UserError(f"{games} games cannot be played by {num_envs} lanes, as many by each; ask for a multiple")
    quota = games // num_envs
    lock = threading.Lock()

    def half(lanes: range) -> list[list[Game]]:
        played: list[list[Game]] = [[] for _ in lanes]
        with match.env(len(lanes)) as env:
            for ended in _first_games(env, match.actor(lanes.start), quota, seed, lanes.start):
                crew.check()
                for game in ended:
                    played[game.lane - lanes.start].append(game)
                    with lock:
                        on_game(game)
        return played

    match.net.to(match.device)
    with torch_threads(0.5), Crew(2) as crew:
        return [ended for played in crew.map(half, halves(num_envs)) for lane in played for ended in lane]


def _first_games(env: AtariVec, actor: Actor, quota: int, seed: int, first: int) -> Iterator[list[Game]]:
    """Step by step, which of the first ``quota`` games of each lane ended; lanes are numbered from ``first`` on."""
    rng = numbered(Stream.EVALUATION, seed, first)
    left = np.full(env.num_envs, quota)
    obs = env.reset(seed + first)
    while left.any():
        busy = left > 0
        actions = np.zeros(env.num_envs, np.int64)
        actions[busy] = actor.act(obs[busy], rng)
        step = env.step(actions)
        obs = step.obs
        ended = [game for game in step.games if busy[game.lane]]
        left[[game.lane for game in ended]] -= 1
        yield [replace(game, lane=first + game.lane) for game in ended]
