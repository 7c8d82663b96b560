"""The warm-up: a value head that knows what the student earns, before the policy moves.

An imitated student has no critic, and PPO's first updates with a random one push its policy in random directions. So
the student first plays as it is. Its returns are then regressed on the features that its value head reads: least
squares, solved exactly, with the ridge that does best on lanes that were held out; nothing but the head changes.
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
from distill.imitate.value import HORIZON, lane_returns

PIECE = 256
"""States of a forward pass."""
RIDGES = (1e-6, 1e-4, 1e-2, 0.1, 1.0, 10.0)
"""Of the features' mean square; games are few, so that the best is known only on lanes that were held out."""
FOLDS = 4


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
        """Set the value head, unless the one that is there explains more; judged on lanes that it was not fitted on.

        Args:
            last_starts: of every lane, whether a life or game ended with the last step.

        Returns:
            (R² of the head before, R² of the fitted one, states whose returns were known); NaN where all are alike.
        """
        lanes = [*self._lanes(last_starts)]
        features, returns = _joined(lanes)
        now = self._policy.value_net
        with torch.no_grad():
            guess = now(features.to(now.weight.device)).squeeze(-1).cpu()
            before = float((guess - returns).square().mean())
            errors = _held_out_errors(lanes)
            fitted, best = float(errors.min()), int(errors.argmin())
            if not before <= fitted:
                weights, biases = _heads(features, returns)
                now.weight.copy_(weights[best : best + 1])
                now.bias.copy_(biases[best : best + 1])
        spread = float(returns.var(correction=0)) or math.nan
        return 1 - before / spread, 1 - fitted / spread, len(returns)

    def _lanes(self, last_starts: npt.NDArray[np.bool_]) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and returns of every lane's states whose returns are known."""
        features, rewards = torch.cat(self._features), np.concatenate(self._rewards)
        ends = np.concatenate([*self._starts, last_starts[None].astype(np.float32)])[1:]
        horizon = min(HORIZON, -(-len(rewards) // 2))  # of a very short warm-up its first half is known
        for lane in range(rewards.shape[1]):
            known, returns = lane_returns(rewards[:, lane], ends[:, lane], self._gamma, horizon)
            yield features[known, lane], torch.from_numpy(returns[known])


def _held_out_errors(lanes: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Of every ridge, the mean square over all states of heads fitted on other lanes; (R,).

    Where there is one lane, they are fitted on that.
    """
    squares = []
    for fold in range(min(FOLDS, len(lanes))):
        held, others = lanes[fold::FOLDS], [lane for number, lane in enumerate(lanes) if number % FOLDS != fold]
        weights, biases = _heads(*_joined(others or held))
        features, returns = _joined(held)
        squares.append((features.double() @ weights.T + biases - returns[:, None]).square())
    return torch.cat(squares).mean(0)


def _heads(features: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
    """Weights, double (R, width), and biases, (R,), of every ridge: around the means, to which a strong one falls."""
    centre, mean = features.double().mean(0), returns.double().mean()
    x = features.double() - centre
    gram, target = x.T @ x, x.T @ (returns.double() - mean)
    damping = gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    weights = torch.stack([torch.linalg.solve(gram + ridge * damping, target) for ridge in RIDGES])
    return weights, mean - weights @ centre


def _joined(lanes: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    features, returns = zip(*lanes, strict=True)
    return torch.cat(features), torch.cat(returns)
