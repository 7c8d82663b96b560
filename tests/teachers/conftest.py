"""Real, tiny stable-baselines3 agents and ways to damage them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from tests.fixtures.students import net, saved, task  # noqa: F401

State = dict[str, torch.Tensor]
MakeAgent = Callable[..., tuple[BaseAlgorithm, Path]]
ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], dict[str, Any]]] = {
    "ppo": (PPO, {"n_steps": 2, "batch_size": 2}),
    "a2c": (A2C, {}),
    "dqn": (DQN, {"buffer_size": 1}),
    "qrdqn": (QRDQN, {"buffer_size": 1}),
}


class Images(gymnasium.Env[np.ndarray, np.int64]):
    """Random stacks of frames; enough for SB3 to build its networks."""

    def __init__(self, shape: tuple[int, ...], actions: int) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(actions)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.fixture(scope="session")
def make_agent(tmp_path_factory: pytest.TempPathFactory) -> MakeAgent:
    """``make_agent("ppo", actions=6, shape=(84, 84, 4), **policy_kwargs)``: the model and its zip."""
    torch.set_num_threads(1)

    def make(
        algorithm: str,
        *,
        actions: int = 6,
        shape: tuple[int, ...] = (84, 84, 4),
        policy: str = "CnnPolicy",
        **kwargs: Any,
    ) -> tuple[BaseAlgorithm, Path]:
        kind, options = ALGORITHMS[algorithm]
        model = kind(policy, Images(shape, actions), device="cpu", seed=0, policy_kwargs=kwargs or None, **options)
        with torch.no_grad():
            # Fresh heads are nearly zero and biases are: every mix-up would pass unseen.
            for name, parameter in model.policy.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(0, 0.1)
                if name.startswith("action_net."):
                    parameter.mul_(100)
        path = tmp_path_factory.mktemp(algorithm) / f"{algorithm}.zip"
        model.save(path)
        return model, path

    return make


@pytest.fixture(scope="session")
def ppo(make_agent: MakeAgent) -> tuple[BaseAlgorithm, Path]:
    return make_agent("ppo")


@pytest.fixture(scope="session")
def qrdqn(make_agent: MakeAgent) -> tuple[BaseAlgorithm, Path]:
    return make_agent("qrdqn", n_quantiles=4)


@pytest.fixture(scope="session")
def obs() -> np.ndarray:
    """uint8 observations (8, 4, 84, 84): noise and flat areas."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 4, 84, 84), dtype=np.uint8)
    pixels[4:, :, 20:] = 87
    return pixels


@pytest.fixture
def rezip(tmp_path: Path) -> Callable[..., Path]:
    """``rezip(path, {"policy.pth": bytes, "data": None})``: a copy with members replaced or left out."""

    def copy(path: Path, changes: dict[str, bytes | None], name: str = "changed.zip") -> Path:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / name, "w") as new:
            for member in dict.fromkeys([*old.namelist(), *changes]):
                content = changes[member] if member in changes else old.read(member)
                if content is not None:
                    new.writestr(member, content)
        return tmp_path / name

    return copy


@pytest.fixture
def edit_weights(rezip: Callable[..., Path]) -> Callable[[Path, Callable[[State], Any]], Path]:
    """A copy of an agent whose weights ``change`` has edited in place."""

    def edit(path: Path, change: Callable[[State], Any]) -> Path:
        with zipfile.ZipFile(path) as archive:
            weights = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
        change(weights)
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        return rezip(path, {"policy.pth": buffer.getvalue()})

    return edit
