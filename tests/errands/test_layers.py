"""A user's layers: the fast engine trains with them as autograd does, and an activation goes into the zip."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.fixtures.errands import PLAY, TINY, Distill, papers

SOBOLEV = ("--objective.jacobian_weight=0.1", "--objective.jacobian_schedule=constant")


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "student" / "model.safetensors")


def train(distill: Distill, home: Path, name: str, *words: str) -> Path:
    distill("train", "--train.data=pong", *TINY, "--seed=3", *SOBOLEV, *words, f"--train.out={name}")
    return home / name


@pytest.mark.parametrize(
    "network", [("--student.name=my_package.layers:Contrasts",), ("--student.activation=bent", "--student.hidden=[8]")]
)
def test_the_engine_trains_as_autograd_does(distill: Distill, home: Path, pong: str, network: tuple[str, ...]) -> None:
    name = network[0].rpartition("=")[2].rpartition(":")[2]
    fast = weights(train(distill, home, f"fast-{name}", *network))
    slow = weights(train(distill, home, f"slow-{name}", *network, "--train.engine=autograd"))
    start = weights(train(distill, home, f"start-{name}", *network, "--train.learning_rate=1e-12"))
    for part, weight in slow.items():  # Adam makes a full step of a gradient that is nearly nothing
        assert torch.dist(fast[part], weight) < 0.02 * torch.dist(start[part], weight), part


def test_the_engine_knows_them(distill: Distill, home: Path) -> None:
    code = "import my_package; from my_package.layers import Contrasts; from distill.engine.step import make_engine; "
    told = subprocess.run(
        [sys.executable, "-c", code + "print(make_engine(Contrasts(6)) is not None)"],
        cwd=home, env={"PYTHONPATH": f"{Path(__file__).parents[2]}:{home}"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.strip() == "True"


def test_a_student_with_ones_own_activation(distill: Distill, home: Path) -> None:
    assert papers(home / "fast-bent")["net"]["activation"] == "bent"
    distill("evaluate", "--env=pong", "--evaluate.agents=[fast-bent]", *PLAY, "--evaluate.out=bent-scores")
    assert json.loads((home / "bent-scores" / "scores.json").read_text())["agents"]["fast-bent"]["kind"] == "student"
    code = """
import sys
import torch
from stable_baselines3 import PPO
policy = PPO.load("fast-bent/student/student.zip", device="cpu").policy
x = torch.full((1, 4, 84, 84), 100, dtype=torch.uint8)
print(policy.get_distribution(x).distribution.logits.argmax().item(), "distill" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=home, env={}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split()[1] == "False", "the zip needs nothing of anybody's"


def test_without_the_package_it_is_said_what_is_missing(distill: Distill, home: Path) -> None:
    told = distill("info", "fast-bent", plugins=False, fails=True)
    assert "unknown activation 'bent'; where a package registers it, import that" in told
    told = distill("train", *TINY, "--train.data=pong", "--student.activation=bend", fails=True)
    assert "--student.activation must be one of ['recu', 'relu', 'softplus', 'tanh', 'bent'], got bend" in told
