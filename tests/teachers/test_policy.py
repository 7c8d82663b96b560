from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticCnnPolicy

from distill.envs.presets import get_preset
from teachers.policy import FastCnnPolicy, fuse_optimizer, make_ppo
from teachers.sb3_vec import AtariVecSB3

SETTINGS: dict[str, Any] = {
    "n_steps": 16,
    "batch_size": 16,
    "n_epochs": 2,
    "clip_range": 0.1,
    "ent_coef": 0.01,
    "seed": 2,
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _pair() -> tuple[PPO, PPO]:
    """SB3's PPO and ours, alike in everything that is drawn."""
    theirs = PPO("CnnPolicy", AtariVecSB3("breakout", 2, get_preset("sb3"), seed=0), device="cpu", **SETTINGS)
    env = AtariVecSB3("breakout", 2, get_preset("sb3"), seed=0)
    ours = make_ppo(env, device=torch.device("cpu"), **SETTINGS)
    fuse_optimizer(ours)
    return theirs, ours


def _close(*models: PPO) -> None:
    for model in models:
        assert model.env is not None
        model.env.close()


@pytest.mark.parametrize("batch", [8, 200])  # one piece of the first layer, and several
def test_outputs_and_gradients_are_those_of_cnn_policy(batch: int) -> None:
    theirs, ours = _pair()
    rng = np.random.default_rng(0)
    obs = torch.from_numpy(rng.integers(256, size=(batch, 4, 84, 84), dtype=np.uint8))
    actions, weights = torch.from_numpy(rng.integers(4, size=batch)), torch.randn(3, batch)
    for model in (theirs, ours):
        values, log_prob, entropy = model.policy.evaluate_actions(obs, actions)
        assert entropy is not None
        (torch.stack([values.squeeze(-1), log_prob, entropy]) * weights).sum().backward()
    for (name, a), b in zip(theirs.policy.named_parameters(), ours.policy.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert a.grad.abs().max() > 0, name
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5 * float(a.grad.abs().max()))
    with torch.no_grad():
        torch.testing.assert_close(ours.policy(obs, deterministic=True), theirs.policy(obs, deterministic=True))
    _close(theirs, ours)


def test_learning_is_ppos() -> None:
    theirs, ours = _pair()
    before = {name: weights.clone() for name, weights in theirs.policy.state_dict().items()}
    for model in (theirs, ours):
        model.set_random_seed(5)
        model.learn(2 * 32)
    for name, weights in theirs.policy.state_dict().items():
        step = (weights - before[name]).abs().max()
        torch.testing.assert_close(ours.policy.state_dict()[name], weights, rtol=0, atol=0.01 * float(step), msg=name)
    _close(theirs, ours)


def test_zip_names_the_policy_of_sb3(tmp_path: Path) -> None:
    theirs, ours = _pair()
    assert type(ours.policy) is FastCnnPolicy
    ours.save(tmp_path / "agent.zip")
    with zipfile.ZipFile(tmp_path / "agent.zip") as archive:
        data = json.loads(archive.read("data"))
    assert data["policy_class"]["__module__"] == ActorCriticCnnPolicy.__module__
    assert "FastCnnPolicy" not in json.dumps(data)
    loaded = PPO.load(tmp_path / "agent.zip", device="cpu")
    assert type(loaded.policy) is ActorCriticCnnPolicy
    _close(theirs, ours)
