"""Training with noise in the network: a function of seed and step, and goes on to the bit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from distill.config.config import Config
from distill.config.stages import attack, evaluate, train
from distill.errors import UserError
from distill.figures.influence import influence_share
from distill.networks.build import build_student
from distill.networks.nets import AtariCNN
from distill.networks.parts import DRAWS
from distill.networks.settings import StudentConfig
from distill.students.folder import load_student
from distill.system.settings import part
from distill.train.lesson import Lesson
from distill.train.network import parameter_groups
from distill.train.settings import TrainRun
from distill.train.setup import make_student, open_data
from distill.train.team import Team
from teachers.load import load_teacher

Quick = Callable[..., Config]
SHAPE = {"convs": [(4, 8, 4)], "hidden": [8]}


def weights(run: Path) -> dict[str, Tensor]:
    return dict(load_student(run).net.state_dict())


@pytest.mark.parametrize("student", [
    {"noise": "white"}, {"noise": "coloured", "noise_at_play": False}, {"noise": "white", "noise_on": "activations"},
    {"noise": "white", "band_limit": 0.5},
])  # fmt: skip
def test_noise_depends_on_seed_and_step_alone(quick: Quick, student: dict[str, str]) -> None:
    shape = {**SHAPE, **student}
    whole = weights(train(quick("whole", student=shape)))
    torch.rand(3)  # PyTorch's own stream has no part in it
    train(quick("half", student=shape, train={"last_step": 5, "checkpoint_every": 1}))
    forked = {"fork_from": str(quick("half").train.out)}
    second = weights(train(quick("second", student=shape, train=forked)))
    other = weights(train(quick("other", student=shape, seed=2)))
    for name, weight in whole.items():
        assert torch.equal(weight, second[name]), name
        assert not torch.equal(weight, other[name]), name


def test_the_size_of_noise_does_not_decay_in_a_fork_either(quick: Quick) -> None:
    settings = {"student": {**SHAPE, "noise": "white"}}
    first = train(quick("first", train={"last_step": 5, "weight_decay": 0.1}, **settings))
    run = train(quick("fork", train={"fork_from": str(first), "weight_decay": 0.2}, **settings))
    content = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    assert [group["weight_decay"] for group in content["optimizer"]["param_groups"]] == [0.2, 0.0]


@pytest.mark.parametrize(("noise_on", "same"), [("weights", True), ("activations", False)])
def test_processes_share_noise_on_weights_and_no_other(quick: Quick, noise_on: str, same: bool) -> None:
    config = part(quick(student={**SHAPE, "noise": "white", "noise_on": noise_on}), TrainRun)
    data, losses = open_data(config, torch.device("cpu")), []
    for rank in (0, 1):
        net = make_student(config, data.dataset)
        with torch.no_grad():
            for module in net.modules():
                for weight in module.parameters(recurse=False):
                    weight.copy_(torch.linspace(-0.1, 0.1, weight.numel()).view(weight.shape))
        batch = next(iter(Lesson(config, net, data).batches(0, 1, 12)))
        losses.append(float(Lesson(config, net, data, team=Team(rank, 2)).gradient(batch, {}).total))
    assert (losses[0] == losses[1]) == same


def test_noise_learns_its_size(quick: Quick) -> None:
    student = load_student(train(quick("run", student={**SHAPE, "noise": "white"}))).net
    sizes = [float(part.detach()) for name, part in student.named_parameters() if name.endswith("alpha")]
    assert len(sizes) == 2
    assert all(abs(size - 0.25) > 1e-4 for size in sizes)


def test_the_size_of_noise_does_not_decay() -> None:
    net = build_student(StudentConfig(noise="white"), 6)
    decays, stays = parameter_groups(net, 0.1)
    assert (decays["weight_decay"], stays["weight_decay"]) == (0.1, 0.0)
    assert [part.numel() for part in stays["params"]] == [1, 1, 1]
    assert len(decays["params"]) + len(stays["params"]) == len(list(net.parameters()))
    plain = build_student(StudentConfig(), 6)
    assert [len(group["params"]) for group in parameter_groups(plain, 0.1)] == [len(list(plain.parameters()))]


def test_a_student_with_noise_at_play_plays_the_same_games_again(
    quick: Quick, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    run = train(quick("run", student={**SHAPE, "noise": "white"}))
    net = load_student(run).net
    assert isinstance(net, AtariCNN)
    assert net.spec.draws_at_play
    scores = []
    for name in ("first", "second"):
        torch.rand(3)
        settings = {"agents": [f"student={run}"], "games": 2, "num_envs": 2, "out": str(tmp_path / name)}
        scores.append(evaluate(make_config(evaluate=settings))["agents"]["student"])
    assert scores[0]["returns"] == scores[1]["returns"]
    assert scores[0]["lengths"] == scores[1]["lengths"]


def test_the_same_weights_without_noise_at_play_are_another_agent(
    quick: Quick, make_config: Callable[..., Config], pong_data: Path, tmp_path: Path
) -> None:
    shape = {**SHAPE, "noise": "white"}
    runs = {
        name: train(quick(name, student={**shape, "noise_at_play": name == "on"})) for name in ("on", "off")
    }  # fmt: skip
    assert all(torch.equal(part, weights(runs["off"])[name]) for name, part in weights(runs["on"]).items())
    on, off = (load_student(run) for run in runs.values())
    assert on.fingerprint != off.fingerprint
    assert load_teacher(str(runs["off"])).info.fingerprint == off.fingerprint
    agents = [f"{name}={run}" for name, run in runs.items()]
    settings = {"agents": agents, "methods": ["noise"], "eps": [1.0], "data": str(pong_data), "states": 24}
    rows = attack(make_config(attack={**settings, "out": str(tmp_path / "attack")}))
    found = {(row["agent"], row["method"]): row["kl"] for row in rows}
    assert found["on", None] != found["off", None]


def test_a_student_begins_as_another_whose_noise_stays_or_goes(quick: Quick) -> None:
    shape = {**SHAPE, "noise": "white"}
    first = train(quick("first", student={**shape, "noise_at_play": False}))
    nothing = {"steps": 1, "learning_rate": 1e-9}
    second = weights(train(quick("second", student={**shape, "init": str(first)}, train=nothing)))
    assert all(torch.allclose(part, second[name], atol=1e-6) for name, part in weights(first).items())
    told = r"convs 4x8/4, hidden 8, white noise on weights, not convs 4x8/4, hidden 8; change one of them"
    with pytest.raises(UserError, match=told):
        train(quick("third", student={**SHAPE, "init": str(first)}))


def test_pictures_are_of_the_student_that_plays(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one whose noise is there in training only, the map has none."""
    seen = []

    def watched(net: nn.Module, pixels: Tensor) -> Tensor:
        seen.append((net.training, torch.rand(1, generator=DRAWS[threading.get_ident()]).item()))
        return influence_share(net, pixels)

    monkeypatch.setattr("distill.train.logs.influence_share", watched)
    for name in ("one", "two"):
        train(quick(name, student={**SHAPE, "noise": "white", "noise_at_play": False}))
    assert [training for training, _ in seen] == [False, False]
    assert seen[0] == seen[1]
