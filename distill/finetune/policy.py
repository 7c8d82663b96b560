"""A student as a policy of stable-baselines3's: its own layers as features extractor, its own heads as heads."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from distill.networks.nets import NETS, AtariCNN, described
from teachers.policy import FastCnnPolicy

CRITIC = NETS["mnih2013"]
"""Beside a network that a program builds: nobody knows which of its layers a value could be read from."""


class Body(BaseFeaturesExtractor):
    """Layers below a head.

    Args:
        space: of observations.
        layers: float pixels in [0, 1], (B, 4, 84, 84), to features.
        width: of the features.
    """

    def __init__(self, space: gym.Space[Any], layers: nn.Module, width: int) -> None:
        super().__init__(space, width)
        self.layers = layers

    def forward(self, observations: Tensor) -> Tensor:
        """Features, float (B, width)."""
        return self.layers(observations)  # type: ignore[no-any-return]


class StudentPolicy(FastCnnPolicy):
    """``ActorCriticCnnPolicy`` around a student; both share their parameters.

    Args:
        space: of observations.
        actions: of actions.
        schedule: SB3's, of the learning rate.
        net: an ``AtariCNN`` with a value head, whose features actor and critic share; or any network from pixels to
            logits, beside which a critic with layers of its own is made.
    """

    def __init__(
        self, space: gym.Space[Any], actions: gym.Space[Any], schedule: Any, *, net: nn.Module, **others: Any
    ) -> None:
        whole = described(net)
        critic = net if described(net) else AtariCNN(CRITIC, 1, value=True)
        assert critic.value is not None
        bodies = [Body(space, critic.features, critic.value.in_features)]
        if not whole:
            bodies.insert(0, Body(space, net, int(actions.n)))  # type: ignore[attr-defined]
        made = iter(bodies)
        super().__init__(
            space, actions, schedule, net_arch=[], ortho_init=False, share_features_extractor=whole,
            features_extractor_class=lambda space: next(made), **others,
        )  # fmt: skip
        self.action_net = net.policy if described(net) else nn.Identity()
        self.value_net = critic.value
        rate = float(schedule(1))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=rate, eps=1e-5, fused=True)  # SB3's, in one pass

    def layers(self) -> nn.Sequential:
        """See ``FastCnnPolicy``."""
        body = self.features_extractor.layers
        return body if self.share_features_extractor and isinstance(body, nn.Sequential) else nn.Sequential()

    def outputs(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, A) and values (B,) of uint8 (B, 4, 84, 84)."""
        features = self.extract_features(obs)
        actor, critic = (features, features) if self.share_features_extractor else features
        return self.action_net(actor), self.value_net(critic).squeeze(-1)

    def value_features(self, obs: Tensor) -> Tensor:
        """What the value head reads, float (B, width), without a graph."""
        with torch.no_grad():
            features = self.extract_features(obs)
        return features if self.share_features_extractor else features[1]  # type: ignore[no-any-return]
