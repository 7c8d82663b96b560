"""States of an agent's own games."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from distill.agents.episodes import Match
from distill.agents.own_states import own_states
from distill.envs.presets import get_preset
from distill.envs.protocols import get_protocol


class Uniform(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(x), 6)


def match() -> Match:
    return Match(Uniform(), "pong", get_preset("sb3"), get_protocol("zoo"), torch.device("cpu"))


def test_they_are_many_different_ones_and_the_same_again() -> None:
    states = own_states(match(), 30, seed=1)
    assert (states.shape, states.dtype) == ((30, 4, 84, 84), np.uint8)
    assert len({state.tobytes() for state in states}) == 30
    assert np.array_equal(states, own_states(match(), 30, seed=1))
    assert not np.array_equal(states, own_states(match(), 30, seed=2))
    assert np.array_equal(states, own_states(match(), 40, seed=1)[:30])
