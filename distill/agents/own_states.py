"""States that an agent gets itself into, to calibrate its int8 form on, or to compare the two."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from distill.agents.episodes import Match
from distill.envs.presets import get_preset
from distill.envs.protocols import get_protocol
from distill.students.folder import Student
from distill.system.streams import generator

STATES = 512
LANES, APART = 8, 8
LARGEST_SEED = 2**30


def match_of(student: Student, protocol: str = "zoo") -> Match:
    """A student on its own game and preset, on the CPU."""
    task = student.task
    return Match(student.net, task.game, get_preset(task.preset), get_protocol(protocol), torch.device("cpu"))


def own_states(match: Match, count: int, seed: int) -> npt.NDArray[np.uint8]:
    """States of games that are neither training's nor an evaluation's, uint8 (count, 4, 84, 84).

    Args:
        match: who plays what.
        count: how many; of eight games, eight steps apart.
        seed: of the games.
    """
    rng, actor = generator("own states", seed), match.actor()
    found: list[npt.NDArray[np.uint8]] = []
    with match.env(LANES) as env:
        obs = env.reset(int(rng.integers(LARGEST_SEED)))
        for step in range(APART * -(-count // LANES)):
            if step % APART == APART - 1:
                found.append(obs.copy())
            obs = env.step(actor.act(obs, rng)).obs
    return np.concatenate(found)[:count]
