"""Students in stable-baselines3: loaded by a process that knows nothing of this toolkit but that it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from distill.students.folder import Student
from distill.students.nets import AtariCNN, NetSpec, to_unit
from distill.students.sb3 import save_sb3_zip

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
import numpy as np
from stable_baselines3 import PPO

assert not any(name.split(".")[0] in ("distill", "teachers") for name in sys.modules)
model = PPO.load(sys.argv[1], device="cpu")
obs = np.load(sys.argv[2])
distribution = model.policy.get_distribution(model.policy.obs_to_tensor(obs)[0])
result = {
    "log_probs": distribution.distribution.logits.tolist(),
    "greedy": model.predict(obs, deterministic=True)[0].tolist(),
    "channels_last": model.predict(obs.transpose(0, 2, 3, 1), deterministic=True)[0].tolist(),
    "one": int(model.predict(obs[0], deterministic=True)[0]),
    "sampled": [int(model.predict(obs[0])[0]) for _ in range(200)],
    "values": model.policy.predict_values(model.policy.obs_to_tensor(obs)[0]).flatten().tolist(),
}

import ale_py
import gymnasium
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack

gymnasium.register_envs(ale_py)
env = VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", n_envs=1, seed=0), 4)
result["returns"], result["lengths"] = evaluate_policy(
    model, env, n_eval_episodes=1, deterministic=False, return_episode_rewards=True
)
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def elsewhere(saved: Student, obs: npt.NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What another process makes of the zip."""
    folder = tmp_path_factory.mktemp("elsewhere")
    np.save(folder / "obs.npy", obs)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(saved.folder / "student.zip"), str(folder / "obs.npy")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def log_probs(net: AtariCNN, obs: npt.NDArray[np.uint8]) -> torch.Tensor:
    with torch.no_grad():
        return net(to_unit(torch.from_numpy(obs))).log_softmax(-1)


def test_log_probs_are_the_students(elsewhere: dict[str, Any], log_probs: torch.Tensor) -> None:
    assert log_probs.std() > 0.3  # not a uniform policy, where anything would agree
    torch.testing.assert_close(torch.tensor(elsewhere["log_probs"]), log_probs, atol=1e-5, rtol=0)


def test_predict(elsewhere: dict[str, Any], log_probs: torch.Tensor) -> None:
    best = log_probs.argmax(-1).tolist()
    assert len(set(best)) > 1
    assert elsewhere["greedy"] == elsewhere["channels_last"] == best
    assert elsewhere["one"] == best[0]
    shares = np.bincount(elsewhere["sampled"], minlength=4) / 200
    np.testing.assert_allclose(shares, log_probs[0].exp().numpy(), atol=0.15)


def test_a_student_has_no_opinion_on_values(elsewhere: dict[str, Any]) -> None:
    assert elsewhere["values"] == [0.0] * 16


def test_evaluate_policy(elsewhere: dict[str, Any]) -> None:
    """A whole game of Breakout in SB3's own environment."""
    assert len(elsewhere["returns"]) == len(elsewhere["lengths"]) == 1
    assert elsewhere["returns"][0] >= 0
    assert elsewhere["lengths"][0] > 100


def test_training_on_goes_on_from_the_student(saved: Student) -> None:
    """The zip holds an optimizer and hyperparameters, so that SB3 can fine-tune a student."""
    import ale_py
    import gymnasium
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack, VecTransposeImage

    gymnasium.register_envs(ale_py)
    env = VecTransposeImage(VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", n_envs=1, seed=0), 4))
    # Eight steps bring no reward, so it is the entropy bonus that moves the weights.
    options = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "ent_coef": 0.1}
    model = PPO.load(saved.folder / "student.zip", env=env, device="cpu", **options)
    before = model.policy.action_net.weight.detach().clone()
    assert torch.equal(before, saved.net.policy.weight)
    model.learn(8)
    assert not torch.equal(model.policy.action_net.weight, before)


@pytest.mark.parametrize("activation", ["tanh", "softplus", "recu"])
def test_other_networks(activation: str, tmp_path: Path, obs: npt.NDArray[np.uint8]) -> None:
    from stable_baselines3 import PPO

    torch.manual_seed(0)
    net = AtariCNN(NetSpec(((4, 8, 4), (6, 4, 2)), (12, 7), activation), 18)
    with torch.no_grad():
        net.policy.weight.mul_(100)
    save_sb3_zip(net, tmp_path / "student.zip")
    policy = PPO.load(tmp_path / "student.zip", device="cpu").policy
    distribution = policy.get_distribution(policy.obs_to_tensor(obs)[0]).distribution
    with torch.no_grad():
        want = net(to_unit(torch.from_numpy(obs))).log_softmax(-1)
    torch.testing.assert_close(distribution.logits.detach(), want, atol=1e-5, rtol=0)
