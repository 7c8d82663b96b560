from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3 import PPO
from torch import Tensor, nn

from distill.errors import UserError
from distill.networks.build import build_student
from distill.networks.layers.layer import LAYERS, Activation, register_layer
from distill.networks.nets import AtariCNN
from distill.networks.settings import StudentConfig
from distill.students.sb3 import save_sb3_zip


class Leans(nn.Module):
    """Uses what this file imports."""

    def forward(self, x: Tensor) -> Tensor:
        return math.pi * x


class Stands(nn.Module):
    """Imports what it needs, and PyTorch is there."""

    def forward(self, x: Tensor) -> Tensor:
        import math

        return torch.mul(x, math.pi)


@pytest.fixture
def register() -> Iterator[Any]:
    yield lambda module: register_layer(Activation("mine", module, lambda h, g: math.pi * g))
    LAYERS._things.pop("mine", None)  # type: ignore[attr-defined]


MINE = StudentConfig(convs=[(4, 8, 4)], hidden=[8], activation="mine")


def test_an_activation_that_student_zip_cannot_carry_is_refused_before_training(register: Any) -> None:
    register(Leans)
    with pytest.raises(UserError, match=r"'mine': .* Leans, .* stand alone \(NameError: name 'math' is not defined\)"):
        build_student(MINE, 6)
    LAYERS._things.pop("mine")  # type: ignore[attr-defined]
    space: dict[str, Any] = {"nn": nn}
    exec("class Typed(nn.Module):\n    pass\n", space)  # as at a prompt: nobody knows its text
    register(space["Typed"])
    with pytest.raises(UserError, match=r"text of Typed, which does not stand alone \((OSError|TypeError): "):
        build_student(MINE, 6)


def test_one_that_it_carries(register: Any, tmp_path: Path) -> None:
    register(Stands)
    net = build_student(MINE, 6)
    assert isinstance(net, AtariCNN)
    save_sb3_zip(net, tmp_path / "x.zip")
    obs = torch.randint(256, (2, 4, 84, 84), dtype=torch.uint8)
    theirs = PPO.load(tmp_path / "x.zip", device="cpu").policy.get_distribution(obs).distribution  # type: ignore[arg-type]
    torch.testing.assert_close(theirs.logits, net(obs / 255).log_softmax(-1))
