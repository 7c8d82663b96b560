"""Teachers that say the same whatever they see, or that say NaN, end in one sentence."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.cli.command import main

PRETRAINED = Path(__file__).parents[2] / "teachers" / "pretrained" / "pong-ppo.zip"
Weights = dict[str, Tensor]


@pytest.fixture
def teacher(tmp_path: Path) -> Callable[[Callable[[Weights], Any]], str]:
    """``teacher(change)``: a zip of the bundled Pong teacher with changed weights."""

    def make(change: Callable[[Weights], Any]) -> str:
        path = tmp_path / "odd-pong.zip"
        with zipfile.ZipFile(PRETRAINED) as archive, zipfile.ZipFile(path, "w") as copy:
            weights = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
            change(weights)
            buffer = io.BytesIO()
            torch.save(weights, buffer)
            copy.writestr("data", archive.read("data"))
            copy.writestr("policy.pth", buffer.getvalue())
        return str(path)

    return make


def collect(path: str, out: Path, *more: str) -> int:
    small = ["--collect.states=24", "--collect.num_envs=2", "--collect.shard_states=12", "--device=cpu"]
    return main(["collect", "--teacher", path, "--collect.out", str(out), *small, *more])


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("error: ")
    return line


def constant(weights: Weights) -> None:
    weights["action_net.weight"].zero_()


def dead(weights: Weights) -> None:
    weights["features_extractor.linear.0.bias"].fill_(-1e6)


def blind(weights: Weights) -> None:
    weights["features_extractor.cnn.0.weight"].zero_()


@pytest.mark.parametrize("change", [constant, dead, blind])
def test_nothing_to_match(
    teacher: Callable[..., str], tmp_path: Path, change: Callable[[Weights], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    data, run, path = tmp_path / "data", tmp_path / "run", teacher(change)
    assert collect(path, data) == 0
    fit = ["train", f"--train.data={data}", "--train.steps=2", "--train.batch_size=4", "--device=cpu"]
    fit += ["--student.convs=[[2,8,8]]", "--student.hidden=[4]", f"--teacher={path}"]
    capsys.readouterr()
    for match in ("l2", "cosine"):
        assert main([*fit, f"--train.out={run}", f"--objective.match={match}"]) == 1
        assert f"the derivatives in {data} are all zero, or nearly" in sentence(capsys)
        assert not run.exists()
    online = "--objective.jacobian_targets=online"
    assert main([*fit, f"--train.out={tmp_path / 'online'}", online]) == 1
    assert "--objective.jacobian_weight=0" in sentence(capsys)
    assert main([*fit, f"--train.out={run}", "--objective.jacobian_weight=0"]) == 0


@pytest.mark.parametrize("jacobian", ["projected", "full", "none"])
@pytest.mark.parametrize(
    ("layer", "value", "what"),
    [
        ("action_net.weight", 1e38, "gives NaN or infinite logits"),
        ("value_net.weight", 1e38, "gives NaN or infinite values"),
        ("action_net.bias", float("nan"), "its weights hold NaN"),
    ],
    ids=["logits", "value", "weights"],
)
def test_not_finite(
    teacher: Callable[..., str], tmp_path: Path, jacobian: str, layer: str, value: float, what: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = teacher(lambda weights: weights[layer].fill_(value))
    assert collect(path, tmp_path / "data", f"--collect.jacobian={jacobian}") == 1
    line = sentence(capsys)
    assert path in line
    assert what in line
    assert not list(tmp_path.glob("data/shards/*/shard.json"))


def test_derivatives_whose_squares_overflow(
    teacher: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = teacher(lambda weights: weights["action_net.weight"].mul_(1e30))
    assert collect(path, tmp_path / "data") == 1
    assert f"teacher {path} gives NaN or infinite derivatives" in sentence(capsys)
    assert not list(tmp_path.glob("data/shards/*/shard.json"))
