"""The warm-up: a value head that knows what the student earns, before the policy moves.

An imitated student has no critic, and PPO's first updates with a random one push its policy in random directions. So
the student first plays as it is. Its returns are then regressed on the features that its value head reads: one linear
least-squares problem, solved exactly; nothing but the head changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distill.finetune.policy import StudentPolicy
from distill.finetune.ppo import TaughtRollouts
from distill.imitate.value import HORIZON, lane_returns, least_squares

PIECE = 256
"""States of a forward pass."""


class CriticWarmup:
    """Collects rollouts, then fits the value head.

    Args:
        policy: whose value head it is.
        states: play at least so many.
        gamma: discount factor.
    """

    def __init__(self, policy: StudentPolicy, states: int, gamma: float) -> None:
        self._policy, self._states, self._gamma = policy, states, gamma
        self._features: list[Tensor] = []
        self._rewards: list[npt.NDArray[np.float32]] = []
        self._starts: list[npt.NDArray[np.float32]] = []

    def add(self, rollout: TaughtRollouts) -> bool:
        """Take a rollout, not flattened yet, in; True when it was the last one that is needed."""
        steps, lanes = rollout.rewards.shape
        obs = rollout.observations.reshape(steps * lanes, *rollout.obs_shape)
        pieces = torch.split(torch.from_numpy(obs), PIECE)
        found = torch.cat([self._policy.value_features(piece.to(self._policy.device)).cpu() for piece in pieces])
        self._features.append(found.reshape(steps, lanes, -1))
        self._rewards.append(rollout.rewards.copy())
        self._starts.append(rollout.episode_starts.copy())
        return sum(part.size for part in self._rewards) >= self._states

    def fit(self, last_starts: npt.NDArray[np.bool_]) -> tuple[float, float, int]:
        """Set the value head, unless the one that is there explains more; judged on a quarter of the lanes.

        Args:
            last_starts: of every lane, whether a life or game ended with the last step.

        Returns:
            (R² of the head before, R² of the fitted one, states whose returns were known); NaN where all are alike.
        """
        lanes = [*self._lanes(last_starts)]
        held = -(-len(lanes) // 4) if len(lanes) > 1 else 0
        features, returns = _joined(lanes[:held] or lanes)
        now = self._policy.value_net
        with torch.no_grad():
            fitted = least_squares(*_joined(lanes[held:]))[0](features).squeeze(-1)
            before = now(features.to(now.weight.device)).squeeze(-1).cpu()
            errors = [float((guess - returns).square().mean()) for guess in (before, fitted)]
        if not errors[0] <= errors[1]:
            now.load_state_dict(least_squares(*_joined(lanes))[0].state_dict())
        spread = float(_joined(lanes)[1].var(correction=0)) or math.nan
        return 1 - errors[0] / spread, 1 - errors[1] / spread, sum(len(part) for _, part in lanes)

    def _lanes(self, last_starts: npt.NDArray[np.bool_]) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and returns of every lane's states whose returns are known."""
        features, rewards = torch.cat(self._features), np.concatenate(self._rewards)
        ends = np.concatenate([*self._starts, last_starts[None].astype(np.float32)])[1:]
        horizon = min(HORIZON, -(-len(rewards) // 2))  # of a very short warm-up its first half is known
        for lane in range(rewards.shape[1]):
            known, returns = lane_returns(rewards[:, lane], ends[:, lane], self._gamma, horizon)
            yield features[known, lane], torch.from_numpy(returns[known])


def _joined(lanes: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    features, returns = zip(*lanes, strict=True)
    return torch.cat(features), torch.cat(returns)
