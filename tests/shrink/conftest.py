"""A ladder of one network of 1 % of the weights that learns Pong from two games, for seconds; and made-up rungs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.config.config import Config
from distill.config.stages import shrink
from distill.shrink.ladder import Rung

TINY: dict[str, dict[str, Any]] = {
    "imitate": {"states": 160, "num_envs": 2, "learning_starts": 32, "ring": 300, "batch_size": 16, "val_states": 32},
    "evaluate": {"num_envs": 2},
    "shrink": {"networks": ["rusu-1"], "seeds": [1], "games": 2, "calibration_states": 16},
}
Tiny = Callable[..., Config]


@pytest.fixture(scope="session")
def tiny(make_config: Callable[..., Config]) -> Tiny:
    """``tiny(tmp_path, shrink={"networks": [...]}, seed=1)``: TINY with changes."""

    def make(out: Path, **changes: Any) -> Config:
        sections = {name: {**section, **changes.pop(name, {})} for name, section in TINY.items()}
        sections["shrink"] = {"out": str(out), **sections["shrink"]}
        return make_config(**sections, **changes)

    return make


@pytest.fixture(scope="session")
def finished(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole ladder of one network and seed, in both precisions. Read only: change a copy."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("shrink") / "ladder"
    shrink(tiny(folder))
    return folder


@pytest.fixture
def rung() -> Callable[..., Rung]:
    """``rung("rusu-4", score=(18, 17, 19), onnxruntime_us=(50, 49, 52))``."""

    def make(network: str, precision: str = "float32", weights: int = 61_174, **changes: Any) -> Rung:
        figures: dict[str, Any] = {"score": (18.0, 17.0, 19.0), "share": (0.95, 0.93, 0.97)}
        figures |= {"int8_cost": (None,) * 3, "pytorch_us": (None,) * 3, "onnxruntime_us": (50.0, 49.0, 52.0)}
        fields: dict[str, Any] = {"int8_kl": None, "int8_action_error": None, "bytes": 4 * weights, "seeds": 3}
        fields |= {name: value for name, value in changes.items() if name not in figures}
        for name, usual in figures.items():
            fields |= dict(zip((name, f"{name}_low", f"{name}_high"), changes.get(name, usual), strict=True))
        return Rung(network, precision, weights, weights / 1_687_206, **fields)

    return make
