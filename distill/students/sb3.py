"""Students as stable-baselines3 citizens: ``PPO.load("student.zip")`` gives the same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from distill.files import replacing
from distill.students.nets import OBS_SHAPE, AtariCNN, NetSpec


class StudentExtractor(BaseFeaturesExtractor):
    """The student's layers below the policy head, as SB3's features extractor.

    Args:
        observation_space: uint8 images, channels first.
        spec: ``NetSpec.to_dict()`` of the student.
    """

    def __init__(self, observation_space: gym.spaces.Box, spec: dict[str, Any]) -> None:
        net = AtariCNN(NetSpec.from_dict(spec), num_actions=1)
        super().__init__(observation_space, features_dim=net.policy.in_features)
        self.body = net.features

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Features of observations that SB3 has already divided by 255."""
        return self.body(observations)  # type: ignore[no-any-return]


def save_sb3_zip(net: AtariCNN, path: Path) -> None:
    """Write ``net`` as an SB3 PPO zip; its value head is zero, since a student learns no value."""
    model = PPO("CnnPolicy", None, device="cpu", n_steps=2, batch_size=2, _init_setup_model=False)  # type: ignore[arg-type]
    model.observation_space = gym.spaces.Box(0, 255, OBS_SHAPE, np.uint8)
    model.action_space = gym.spaces.Discrete(net.num_actions)
    model.n_envs = 1
    model.policy_kwargs = {
        "features_extractor_class": StudentExtractor,
        "features_extractor_kwargs": {"spec": net.spec.to_dict()},
        "net_arch": [],
    }
    model._setup_model()
    source = {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}
    state = model.policy.state_dict()
    for name in state:
        if ".body." in name:
            state[name] = source["features." + name.split(".body.")[1]]
        elif name.startswith("action_net."):
            state[name] = source["policy." + name.removeprefix("action_net.")]
        else:
            state[name] = torch.zeros_like(state[name])
    model.policy.load_state_dict(state)
    with replacing(path) as temporary, temporary.open("wb") as file:
        model.save(file)
