"""Playing a fixed number of whole games per lane, so that short games do not win."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from distill.collect.actor import Actor, Policy
from distill.envs.ale_vec import AtariVec, Game
from distill.envs.presets import Preset
from distill.evaluate.protocol import Protocol
from distill.runtime import torch_threads
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
    # Two halves in turn: while the agent looks at one, the emulators of the other run.
    sizes = [size for size in (num_envs - num_envs // 2, num_envs // 2) if size]
    with torch_threads(0.5), contextlib.ExitStack() as stack:
        halves = []
        for number, size in enumerate(sizes):
            env = stack.enter_context(AtariVec(game, size, preset, sticky=protocol.sticky))
            rng = np.random.default_rng([seed, 6, number])
            halves.append(_Half(env, actor, quota, seed, number * sizes[0], rng))
        while any(half.busy.any() for half in halves):
            for half in halves:
                half.turn(on_game)
    return [ended for half in halves for lane in half.played for ended in lane]


class _Half:
    """The lanes from ``first`` on, with a random stream of their own."""

    def __init__(
        self, env: AtariVec, actor: Actor, quota: int, seed: int, first: int, rng: np.random.Generator
    ) -> None:
        self.env, self.actor, self.quota, self.first, self.rng = env, actor, quota, first, rng
        self.played: list[list[Game]] = [[] for _ in range(env.num_envs)]
        self.busy = np.ones(env.num_envs, bool)
        self._act(env.reset(seed + first))

    def turn(self, on_game: Callable[[Game], None]) -> None:
        """Take what the emulators give and send them the next actions."""
        if not self.busy.any():
            return
        step = self.env.recv()
        for ended in step.games:
            if self.busy[ended.lane]:
                game = replace(ended, lane=self.first + ended.lane)
                self.played[ended.lane].append(game)
                self.busy[ended.lane] = len(self.played[ended.lane]) < self.quota
                on_game(game)
        if self.busy.any():
            self._act(step.obs)

    def _act(self, obs: npt.NDArray[np.uint8]) -> None:
        actions = np.zeros(len(obs), np.int64)
        actions[self.busy] = self.actor.act(obs[self.busy], self.rng)
        self.env.send(actions)
