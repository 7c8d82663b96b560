"""Training in windows of shards: the same student whatever is held, resumed to the bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.config.config import Config
from distill.config.stages import train
from distill.dataset.windowed import WindowedDataset
from distill.errors import UserError
from distill.train import loop
from distill.train.setup import open_data

WINDOWS: dict[str, Any] = {"window_shards": 2, "steps": 60, "val_every": 20, "checkpoint_every": 20}
"""Two passes over 600 states in 5 shards."""


@pytest.fixture(params=["pong_data", "pong_quarter"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    source: Path = request.getfixturevalue(request.param)
    return Path(shutil.copytree(source, tmp_path / "data", ignore=shutil.ignore_patterns("cache")))


def weights(run: Path) -> dict[str, torch.Tensor]:
    content: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]
    return content


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(other[name], value) for name, value in one.items())


def test_what_is_held_changes_nothing(quick: Callable[..., Config], data: Path) -> None:
    objective = {"jacobian_weight": 0.1, "jacobian_share": 0.25}
    runs = [
        train(quick(where, objective=objective, train={**WINDOWS, "hold_data": where, "data": str(data)}))
        for where in ("memory", "auto", "disk")
    ]
    first, *others = map(weights, runs)
    assert all(same(first, other) for other in others)
    full = train(quick("full", objective=objective, train={**WINDOWS, "window_shards": 0, "data": str(data)}))
    assert not same(first, weights(full))


def test_it_is_held_in_windows(quick: Callable[..., Config], data: Path) -> None:
    config = quick(train={**WINDOWS, "data": str(data)})
    assert isinstance(open_data(config, torch.device("cpu")).dataset, WindowedDataset)


def test_a_run_goes_on_to_the_bit(quick: Callable[..., Config], data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"objective": {"jacobian_weight": 0.1, "jacobian_share": 0.25}, "train": {**WINDOWS, "data": str(data)}}
    whole = weights(train(quick("whole", **changes)))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "is_over", lambda now, *_: now.step >= 40)
        patch.setattr(loop, "finish", lambda *_: None)
        train(quick("cut", **changes))
    assert torch.load(quick("cut").train.out + "/checkpoints/last.pt", weights_only=True)["progress"]["step"] == 40
    assert same(whole, weights(train(quick("cut", **changes))))
    with pytest.raises(UserError, match=r"is a different run: train\.window_shards was 2, now 3"):
        train(quick("cut", **{**changes, "train": {**changes["train"], "window_shards": 3}}))


def test_damage_ends_the_training(quick: Callable[..., Config], data: Path) -> None:
    train(quick("whole", train={**WINDOWS, "data": str(data)}))
    path = data / "shards" / "teacher-00002" / "jacobian.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"teacher-00002/jacobian\.npy does not match its checksum"):
        train(quick("damaged", train={**WINDOWS, "data": str(data)}))
