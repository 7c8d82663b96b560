"""Very small students that play Pong in two games side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.config.config import Config
from distill.envs.presets import get_preset
from distill.networks.nets import AtariCNN, NetSpec
from distill.students.folder import save_student
from distill.task import Task
from tests.teachers.conftest import make_agent  # noqa: F401

SPEC = NetSpec(((8, 8, 4), (8, 4, 2)), (32,))
TASK = Task("pong", "sb3", get_preset("sb3").hash, 6)
TINY: dict[str, Any] = {
    "states": 256, "critic_warmup": 64, "num_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 2,
    "log_every": 64, "checkpoint_every": 64, "val_states": 32, "learning_rate": 0.001,
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny(make_config: Callable[..., Config]) -> Callable[..., Config]:
    """``tiny(tmp_path / "run", init=..., seed=2)``: TINY with changes of ``finetune.*`` and of the rest."""

    def make(out: Path, **changes: Any) -> Config:
        others = {
            name: changes.pop(name) for name in ("env", "seed", "student", "teacher", "preset") if name in changes
        }
        init = changes.get("init")
        settings = TINY | changes | {"out": str(out), "init": None if init is None else str(init)}
        if init is None and "critic_warmup" not in changes:
            del settings["critic_warmup"]  # which is of an agent that goes on
        return make_config(finetune=settings, **others)

    return make


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's folder without papers: it plays at random, but surely so."""
    torch.manual_seed(5)
    net = AtariCNN(SPEC, 6)
    with torch.no_grad():
        net.policy.weight.mul_(30)
    folder = tmp_path_factory.mktemp("student") / "first"
    save_student(folder / "student", net, TASK)
    return folder
