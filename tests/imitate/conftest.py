"""A very small student that learns Pong from two games side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.config.config import Config
from tests.teachers.conftest import make_agent  # noqa: F401

QUICK: dict[str, dict[str, Any]] = {
    "student": {"convs": [(8, 8, 4), (8, 4, 2)], "hidden": [32]},
    "imitate": {
        "states": 480,
        "num_envs": 2,
        "learning_starts": 32,
        "ring": 300,
        "batch_size": 16,
        "learning_rate": 0.003,
        "log_every": 100,
        "checkpoint_every": 160,
    },
    "train": {"val_states": 64},
}


@pytest.fixture(scope="session")
def quick(make_config: Callable[..., Config]) -> Callable[..., Config]:
    """``quick(tmp_path / "run", imitate={...}, seed=1)``: QUICK with changes."""

    def make(out: Path, **changes: Any) -> Config:
        sections = {name: {**section, **changes.pop(name, {})} for name, section in QUICK.items()}
        sections["imitate"]["out"] = str(out)
        return make_config(**sections, **changes)

    return make
