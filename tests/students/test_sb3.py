"""Students in stable-baselines3: loaded by a process in which this toolkit cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from distill.networks import parts
from distill.networks.layers.layer import activations
from distill.networks.nets import NETS, AtariCNN, NetSpec, to_unit
from distill.students import extractor
from distill.students.folder import Student
from distill.students.sb3 import StudentExtractor, save_sb3_zip
from teachers.formats.sb3 import load_sb3_zip

BLOCKED = """
import json, sys
import numpy as np
from stable_baselines3 import PPO

for name in ("distill", "teachers"):
    sys.modules[name] = None
    try:
        __import__(name)
        raise SystemExit(f"{name} can be imported")
    except ImportError:
        pass
"""
SCRIPT = f"""{BLOCKED}
model = PPO.load(sys.argv[1], device="cpu")
obs = np.load(sys.argv[2])
distribution = model.policy.get_distribution(model.policy.obs_to_tensor(obs)[0])
result = {{
    "log_probs": distribution.distribution.logits.tolist(),
    "greedy": model.predict(obs, deterministic=True)[0].tolist(),
    "channels_last": model.predict(obs.transpose(0, 2, 3, 1), deterministic=True)[0].tolist(),
    "one": int(model.predict(obs[0], deterministic=True)[0]),
    "sampled": [int(model.predict(obs[0])[0]) for _ in range(200)],
    "values": model.policy.predict_values(model.policy.obs_to_tensor(obs)[0]).flatten().tolist(),
}}

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


def alone(script: str, folder: Path, *words: str) -> Any:
    """What a script prints as JSON, in a process with stable-baselines3 alone."""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", script, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def elsewhere(saved: Student, obs: npt.NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What another process makes of the zip."""
    folder = tmp_path_factory.mktemp("elsewhere")
    np.save(folder / "obs.npy", obs)
    result: dict[str, Any] = alone(SCRIPT, folder, str(saved.folder / "student.zip"), str(folder / "obs.npy"))
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


OTHERS = {
    "nature": NETS["nature"],
    "nature-half": NETS["nature-half"],
    "rusu-1": NETS["rusu-1"],
    "nature, two dense layers": NetSpec(NETS["nature"].convs, (32, 16), "relu", "tanh"),
    "nature, tanh": NetSpec(NETS["nature"].convs, (32,), "tanh"),
    "no dense layer": NetSpec(((4, 8, 4),), ()),
    **{name: NetSpec(((4, 8, 4), (6, 4, 2)), (12, 7), name) for name in activations()},
    "recu after relu": NetSpec(NETS["nature"].convs, (16, 8), "relu", "recu"),
    "band limit": NetSpec(NETS["nature"].convs, (16,), band_limit=(0.5, 0.0, 0.5)),
}
EVERY = f"""{BLOCKED}
obs, found = np.load("obs.npy"), []
for path in sys.argv[1:]:
    model = PPO.load(path, device="cpu")
    model.save("again.zip")
    again = PPO.load("again.zip", device="cpu")
    policies = [model.policy, again.policy]
    both = [p.get_distribution(p.obs_to_tensor(obs)[0]).distribution.logits.tolist() for p in policies]
    assert both[0] == both[1]
    found.append([both[0], type(model.policy.features_extractor).__name__, model.distilled])
print(json.dumps(found))
"""


def test_every_kind_of_network_stands_alone(tmp_path: Path, obs: npt.NDArray[np.uint8]) -> None:
    """Also when SB3 has saved it again; and what stands in such a zip in plain text is enough to teach with."""
    torch.manual_seed(0)
    np.save(tmp_path / "obs.npy", obs)
    nets = {name: AtariCNN(spec, 18) for name, spec in OTHERS.items()}
    for name, net in nets.items():
        with torch.no_grad():
            net.policy.weight.mul_(100)
        save_sb3_zip(net, tmp_path / f"{name}.zip", {"game": "pong"})
    found = alone(EVERY, tmp_path, *(f"{name}.zip" for name in nets))
    x = to_unit(torch.from_numpy(obs))
    for (name, net), (log_probs, kind, papers) in zip(nets.items(), found, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(torch.tensor(log_probs), net(x).log_softmax(-1), atol=2e-5, rtol=1e-4)
        own = net.spec.convs == NETS["nature"].convs and net.spec.activation == "relu"
        own = own and name not in ("recu after relu", "band limit")
        assert kind == ("NatureCNN" if own else "StudentExtractor")
        assert papers == {"game": "pong"}
        for path in (tmp_path / f"{name}.zip", *([tmp_path / "again.zip"] if name == [*nets][-1] else [])):
            policy = load_sb3_zip(path)
            assert policy.net.spec == net.spec
            assert torch.equal(policy.net(x), net(x))


def test_the_text_that_zips_carry_needs_nothing_of_ours() -> None:
    imports = {line.split()[1].partition(".")[0] for line in (
        *Path(extractor.__file__).read_text().splitlines(), *Path(parts.__file__).read_text().splitlines()
    ) if "import" in line.split()[:3]}  # fmt: skip
    assert imports == {"gymnasium", "torch", "stable_baselines3", "contextlib", "math", "threading"}


DRAWN = f"""{BLOCKED}
import torch
obs, found = np.load("obs.npy"), []
for path in sys.argv[1:]:
    policy = PPO.load(path, device="cpu").policy
    policy.set_training_mode(False)
    torch.manual_seed(0)
    found.append([policy.get_distribution(policy.obs_to_tensor(obs)[0]).distribution.logits.tolist() for _ in range(2)])
print(json.dumps(found))
"""


def test_noise_at_play_is_carried_and_other_noise_left_out(tmp_path: Path, obs: npt.NDArray[np.uint8]) -> None:
    np.save(tmp_path / "obs.npy", obs)
    kinds = [(noise, where, at_play) for noise in ("white", "coloured") for where in ("weights", "activations")
             for at_play in (True, False)]  # fmt: skip
    x, nets = to_unit(torch.from_numpy(obs)), []
    for number, (noise, where, at_play) in enumerate(kinds):
        torch.manual_seed(number)
        spec = NetSpec(((4, 8, 4),), (12,), noise=noise, noise_on=where, noise_at_play=at_play)
        nets.append(AtariCNN(spec, 6).eval())
        with torch.no_grad():
            nets[-1].policy.weight.mul_(100)
        save_sb3_zip(nets[-1], tmp_path / f"{number}.zip")
    found = alone(DRAWN, tmp_path, *(f"{number}.zip" for number in range(len(nets))))
    for number, (net, (_, _, at_play), drawn) in enumerate(zip(nets, kinds, found, strict=True)):
        assert (drawn[0] == drawn[1]) is not at_play
        torch.manual_seed(0)
        with torch.no_grad():
            torch.testing.assert_close(torch.tensor(drawn[0]), net(x).log_softmax(-1), atol=2e-5, rtol=1e-4)
        spec = load_sb3_zip(tmp_path / f"{number}.zip").net.spec
        assert spec == (net.spec if at_play else NetSpec(((4, 8, 4),), (12,)))


def test_zips_of_earlier_versions_teach(tmp_path: Path, obs: npt.NDArray[np.uint8]) -> None:
    """They name the class where it was, and their spec has one activation."""
    net = AtariCNN(NETS["mnih2013"], 6)
    save_sb3_zip(net, tmp_path / "new.zip")
    with zipfile.ZipFile(tmp_path / "new.zip") as new, zipfile.ZipFile(tmp_path / "old.zip", "w") as old:
        for name in set(new.namelist()) - {"data"}:
            old.writestr(name, new.read(name))
        data = json.loads(new.read("data"))
        del data["distilled"], data["policy_kwargs"]["features_extractor_kwargs"]["spec"]["extra_activation"]
        data["policy_kwargs"]["features_extractor_class"] = "<class 'distill.students.sb3.StudentExtractor'>"
        old.writestr("data", json.dumps(data))
    x = to_unit(torch.from_numpy(obs))
    assert torch.equal(load_sb3_zip(tmp_path / "old.zip").net(x), net(x))
    assert StudentExtractor.__module__ == "distill.students.extractor"
