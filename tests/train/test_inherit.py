"""Students on their teacher's first layers, through every stage that trains one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.config.config import Config
from distill.config.stages import finetune, imitate, multitask
from distill.errors import UserError
from distill.networks.inherit import inherit
from distill.networks.nets import AtariCNN, NetSpec
from distill.students.folder import load_student
from distill.train.hooks import Hook, Status
from distill.train.loop import train
from teachers.load import load_teacher

SPEC = NetSpec(((4, 8, 4),), (8,))
ONE: dict[str, Any] = {"convs": [(4, 8, 4)], "hidden": [8], "teacher_layers": 1}
PPO = {"states": 64, "num_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1, "val_states": 32}
ONLINE = {"states": 128, "num_envs": 2, "learning_starts": 32, "ring": 100, "batch_size": 16}


class CutOff(Hook):
    def stepped(self, now: Status) -> None:
        if now.step == 7:
            raise KeyboardInterrupt


def inherited() -> Tensor:
    net = AtariCNN(SPEC, 6)
    inherit(net, load_teacher("pong").net, 1)
    weight = net.features[0].weight
    assert isinstance(weight, Tensor)
    return weight


def is_inherited(run: Path) -> bool:
    net = load_student(run).net
    assert isinstance(net, AtariCNN)
    return torch.equal(net.features[0].weight, inherited())  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["fast", "autograd"])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_layer_stays_and_the_rest_learns(quick: Callable[..., Config], engine: str, weight: float) -> None:
    settings = {"student": ONE, "objective": {"jacobian_weight": weight}}
    one = train(quick("one", train={"engine": engine, "steps": 1}, **settings))
    run = train(quick(train={"engine": engine}, **settings))
    assert is_inherited(run)
    before, after = (load_student(folder).net.state_dict() for folder in (one, run))
    assert [name for name in before if torch.equal(before[name], after[name])] == [
        "features.0.weight",
        "features.0.bias",
    ]


def test_a_training_that_was_cut_off_goes_on_to_the_bit(quick: Callable[..., Config]) -> None:
    whole = train(quick("whole", student=ONE))
    with pytest.raises(KeyboardInterrupt):
        train(quick("parts", student=ONE), hooks=[CutOff()])
    parts = train(quick("parts", student=ONE))
    one, other = (load_student(run).net.state_dict() for run in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_fork_is_on_the_layers_too(quick: Callable[..., Config], tmp_path: Path) -> None:
    def begun(name: str, layers: int) -> dict[str, str]:
        run = train(quick(name, student={**ONE, "teacher_layers": layers}, train={"last_step": 6}))
        return {"fork_from": str(run)}

    fresh, on_it = begun("fresh", 0), begun("on it", 1)
    with pytest.raises(UserError, match=r"fork_from=\S*fresh is not on this teacher's first layers; fork"):
        train(quick("none", student=ONE, train=fresh))
    assert not (tmp_path / "none").exists()
    assert is_inherited(train(quick("more", student=ONE, train=on_it)))
    free = train(quick("free", student={**ONE, "teacher_layers": 0}, train=on_it))
    assert not is_inherited(free), "what was left alone may learn later"


def test_imitation_and_reward_leave_it_alone_too(make_config: Callable[..., Config], tmp_path: Path) -> None:
    online = {**ONLINE, "out": str(tmp_path / "online")}
    assert is_inherited(imitate(make_config(student=ONE, imitate=online, train={"val_states": 32})))
    reward = {**PPO, "out": str(tmp_path / "reward")}
    assert is_inherited(finetune(make_config(student=ONE, finetune=reward)))


def test_the_wrong_teacher_is_refused(quick: Callable[..., Config], other_pong_zip: Path) -> None:
    with pytest.raises(UserError, match="did not label"):
        train(quick(student=ONE, teacher=str(other_pong_zip)))


def test_what_cannot_inherit_is_refused(make_config: Callable[..., Config], pong_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--student\.teacher_layers is of a fresh student, and --student\.init names"):
        make_config(student={**ONE, "init": "runs/first"})
    with pytest.raises(UserError, match=r"--student\.teacher_layers must be zero or more"):
        make_config(student={**ONE, "teacher_layers": -1})
    with pytest.raises(UserError, match=r"is of a fresh student, and --imitate\.init names one"):
        imitate(make_config(student=ONE, imitate={**ONLINE, "init": "pong", "out": str(tmp_path / "a")}))
    tuned = {**PPO, "critic_warmup": 16, "states": 96, "init": "pong", "out": str(tmp_path / "b")}
    with pytest.raises(UserError, match=r"is of a fresh student, and --finetune\.init names one"):
        finetune(make_config(student=ONE, finetune=tuned))
    with pytest.raises(UserError, match="the teacher sees preset async-rl and the student sb3"):
        imitate(
            make_config(
                student=ONE, env="pong", preset="sb3", teacher_preset="async-rl", imitate={**ONLINE, "out": "c"}
            )
        )
    with pytest.raises(UserError, match="is of students of one game"):
        multitask(make_config(student=ONE, multitask={"data": [str(pong_data)], "out": str(tmp_path / "d")}))
