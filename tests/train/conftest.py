"""Twelve steps of a very small student on the real collection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.config import Config

QUICK: dict[str, dict[str, Any]] = {
    "student": {"convs": [(4, 8, 4)], "hidden": [8]},
    "train": {
        "steps": 12,
        "batch_size": 16,
        "warmup": 3,
        "learning_rate": 0.01,
        "val_every": 5,
        "val_states": 30,
        "checkpoint_every": 4,
        "log_every": 2,
    },
    "objective": {"jacobian_weight": 0.0, "jacobian_schedule": "constant"},
}


@pytest.fixture
def quick(make_config: Callable[..., Config], pong_data: Path, tmp_path: Path) -> Callable[..., Config]:
    """``quick(out="run", objective={...}, train={...}, seed=1)``: QUICK with changes."""

    def make(out: str = "run", **changes: Any) -> Config:
        sections = {name: {**section, **changes.pop(name, {})} for name, section in QUICK.items()}
        sections["train"] = {"data": str(pong_data), "out": str(tmp_path / out), **sections["train"]}
        return make_config(**sections, **changes)

    return make
