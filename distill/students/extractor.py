"""A student's layers below the policy head, for stable-baselines3 alone.

``student.zip`` carries the text of this file, so it may import nothing but PyTorch, Gymnasium and stable-baselines3,
and must run on every Python that these run on.
"""

import gymnasium as gym
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

ACTIVATIONS: dict = {}  # type: ignore[type-arg]
"""By name; whoever carries or imports this text puts those in that it needs."""
MAKERS: dict = {  # type: ignore[type-arg]
    "convolution": lambda spec, index, sizes, size: torch.nn.Conv2d(*sizes),
    "dense": lambda spec, sizes: torch.nn.Linear(*sizes),
}
"""Of layers; likewise."""


class StudentExtractor(BaseFeaturesExtractor):
    """Convolutions, a flatten, and dense layers, each with its activation.

    Args:
        observation_space: uint8 images, channels first.
        spec: ``NetSpec.to_dict()`` of the student.
    """

    def __init__(self, observation_space: gym.spaces.Box, spec: dict) -> None:  # type: ignore[type-arg]
        activation = ACTIVATIONS[spec["activation"]]
        extra = ACTIVATIONS[spec.get("extra_activation") or spec["activation"]]
        channels, size, _ = observation_space.shape
        layers: list = []  # type: ignore[type-arg]
        for index, (out, kernel, stride) in enumerate(spec["convs"]):
            layers += [MAKERS["convolution"](spec, index, (channels, out, kernel, stride), size), activation()]
            channels, size = out, (size - kernel) // stride + 1
        layers.append(torch.nn.Flatten())
        width = channels * size * size
        for index, out in enumerate(spec["hidden"]):
            layers += [MAKERS["dense"](spec, (width, out)), extra() if index else activation()]
            width = out
        super().__init__(observation_space, features_dim=width)
        self.body = torch.nn.Sequential(*layers)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Features of observations that stable-baselines3 has already divided by 255."""
        return self.body(observations)  # type: ignore[no-any-return]
