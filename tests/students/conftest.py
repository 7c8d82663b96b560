"""A student whose policy is far from uniform, saved; and observations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from distill.envs.presets import get_preset
from distill.networks.nets import NETS, AtariCNN
from distill.students.folder import Student, load_student, save_student


@pytest.fixture(scope="session")
def facts() -> dict[str, Any]:
    """What training writes into student.json, as far as loading looks at it."""
    return {"game": "breakout", "preset": "sb3", "preset_hash": get_preset("sb3").hash, "teacher": "0" * 64}


@pytest.fixture(scope="session")
def net() -> AtariCNN:
    """A Breakout student with a random but decided policy: fresh heads are nearly zero, and biases are."""
    torch.manual_seed(0)
    net = AtariCNN(NETS["mnih2013"], 4)
    with torch.no_grad():
        net.policy.weight.mul_(200)
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return net


@pytest.fixture(scope="session")
def saved(net: AtariCNN, facts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Student:
    """``net`` saved and loaded. Read only: damage a copy."""
    folder = tmp_path_factory.mktemp("run") / "student"
    save_student(folder, net, facts)
    return load_student(folder)


@pytest.fixture(scope="session")
def obs() -> npt.NDArray[np.uint8]:
    """uint8 observations (16, 4, 84, 84): noise, and flat areas as in real frames."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 4, 84, 84), dtype=np.uint8)
    pixels[8:, :, 20:] = 87
    return pixels
