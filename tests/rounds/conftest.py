"""A very small student that learns Pong from two games side by side, on its own states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.config.config import Config
from tests.imitate.conftest import QUICK

ROUNDS: dict[str, Any] = {"form": "rounds", "count": 3, "states": 160, "steps": 12, "shard_states": 96}
DERIVATIVES: dict[str, Any] = {"jacobian_share": 0.25, "jacobian_until": 0.5}


@pytest.fixture(scope="session")
def quick(make_config: Callable[..., Config]) -> Callable[..., Config]:
    """``quick(tmp_path / "run", imitate={...}, rounds={...})``: tests.imitate's QUICK with changes."""

    def make(out: Path, **changes: Any) -> Config:
        sections = {name: {**section, **changes.pop(name, {})} for name, section in QUICK.items()}
        sections["imitate"]["out"] = str(out)
        return make_config(**sections, **changes)

    return make
