"""A training in rounds is one training, and a run may begin where another one stands."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.config.config import Config
from distill.config.stages import collect, imitate, train
from distill.errors import UserError
from distill.students.folder import load_student
from distill.train.hooks import Hook, Status
from distill.train.schedule import learning_rate

SOBOLEV: dict[str, Any] = {"jacobian_weight": 0.1, "jacobian_schedule": "cosine"}
Quick = Callable[..., Config]


def last(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    return content


def assert_same_training(one: Path, other: Path) -> None:
    a, b = last(one), last(other)
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    states, others = (content["optimizer"]["state"] for content in (a, b))
    assert states.keys() == others.keys()
    assert all(torch.equal(states[key][name], others[key][name]) for key in states for name in states[key])
    assert a["progress"]["step"] == b["progress"]["step"]
    assert a["progress"]["jacobian_scale"] == b["progress"]["jacobian_scale"]


@pytest.fixture(scope="module")
def parent(make_config: Callable[..., Config], pong_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six of twelve steps, as ``quick`` would have them. Read only."""
    from tests.fixtures.quick import QUICK

    out = str(tmp_path_factory.mktemp("parent") / "run")
    settings = {**QUICK["train"], "data": str(pong_data), "out": out, "last_step": 6}
    return train(make_config(student=QUICK["student"], objective=QUICK["objective"], train=settings))


class Steps(Hook):
    """Which steps there were."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.total: int | None = None

    def stepped(self, now: Status) -> None:
        self.seen.append(now.step)
        self.total = now.total


def test_two_rounds_are_one_training_to_the_bit(quick: Quick) -> None:
    whole = train(quick("whole", objective=SOBOLEV))
    steps = Steps()
    first = train(quick("first", objective=SOBOLEV, train={"last_step": 7}), hooks=[steps])
    assert (steps.seen, steps.total) == ([*range(1, 8)], 12)
    assert load_student(first).training.steps == 7
    steps = Steps()
    second = train(quick("second", objective=SOBOLEV, train={"fork_from": str(first)}), hooks=[steps])
    assert steps.seen == [*range(8, 13)]
    assert_same_training(whole, second)
    papers = load_student(second).training
    assert papers.steps == 12
    assert papers.best_step > 7, "what is best is judged anew"


def test_a_fork_has_its_own_settings_and_data(quick: Quick, parent: Path) -> None:
    changes = {"learning_rate": 1e-6, "warmup": 0, "weight_decay": 1e5, "states": 150, "val_every": 6}
    run = train(quick("other", seed=2, train={"fork_from": str(parent), "last_step": 8, **changes}))
    before, after = last(parent), last(run)
    left = math.prod(1 - 1e5 * learning_rate(step, 12, 1e-6, 0) for step in (6, 7))
    assert 0.8 < left < 0.95
    for name, weights in before["model"].items():  # two steps that hardly do anything but decay
        assert torch.allclose(after["model"][name], weights * left, rtol=1e-4, atol=1e-5), name
    assert after["progress"]["train_states"] == 150


def test_a_fork_goes_on_when_what_it_forked_is_gone(quick: Quick, parent: Path, tmp_path: Path) -> None:
    class Stop(Hook):
        def stepped(self, now: Status) -> None:
            if now.step == 9:
                raise KeyboardInterrupt

    whole = train(quick("whole", train={"fork_from": str(parent)}))
    copy = Path(shutil.copytree(parent, tmp_path / "copy"))
    config = quick("fork", train={"fork_from": str(copy)})
    with pytest.raises(KeyboardInterrupt):
        train(config, hooks=[Stop()])
    shutil.rmtree(copy)
    assert_same_training(whole, train(config))
    assert train(config).name == "fork", "nothing to do"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"fork_from": "nowhere"}}, r"fork_from=nowhere has no checkpoint; name the folder of a run"),
        ({"train": {"last_step": 6}}, r"has taken 6 steps, and this run would end after 6; raise --train\.last_step"),
        ({"train": {"steps": 5}}, r"has taken 6 steps, and this run would end after 5; raise --train\.steps"),
        ({"train": {"epochs": 0.1}}, r"has taken 6 steps, and this run would end after 3; raise --train\.epochs"),
        (
            {"train": {"last_step": 8, "epochs": 0.1}},
            r"is beyond the 3 steps in all; lower it, or raise --train\.epochs",
        ),
        ({"train": {"last_step": 13}}, r"--train\.last_step=13 is beyond the 12 steps in all; lower it, or raise"),
        ({"student": {"hidden": [9]}}, r"has student\.hidden \[8\], not \[9\]; choose another"),
        ({"student": {"activation": "tanh"}}, r"has student\.activation relu, not tanh; choose another"),
        ({"student": {"init": "x"}}, r"--student\.init and --train\.fork_from both say where to begin; leave one"),
    ],
)
def test_what_cannot_be_forked_leaves_no_folder(
    quick: Quick, parent: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    trained = {"fork_from": str(parent), **changes.pop("train", {})}
    with pytest.raises(UserError, match=message):
        train(quick("none", train=trained, **changes))
    assert not (tmp_path / "none").exists()


def test_another_game_or_stage_cannot_be_forked(
    quick: Quick, make_config: Callable[..., Config], parent: Path, tmp_path: Path
) -> None:
    data = tmp_path / "boxing"
    collect(make_config(env="breakout", collect={"out": str(data), "states": 300, "num_envs": 4}))
    with pytest.raises(UserError, match=r"is of pong, not breakout; choose another"):
        train(quick("none", env="breakout", train={"data": str(data), "fork_from": str(parent)}))
    fast = tmp_path / "fast"
    collect(make_config(preset="sb3-fast", teacher_preset="sb3-fast",
                        collect={"out": str(fast), "states": 300, "num_envs": 4}))  # fmt: skip
    with pytest.raises(
        UserError, match=r"is of preset sb3 \(.*\), not sb3-fast .*; choose one that fits --train\.data"
    ):
        train(quick("none", train={"data": str(fast), "fork_from": str(parent)}))
    config = quick("none", train={"fork_from": str(tmp_path / "online")})
    imitate(make_config(student={"convs": [(4, 8, 4)], "hidden": [8]},
                        imitate={"states": 60, "num_envs": 2, "learning_starts": 20, "batch_size": 8,
                                 "out": str(tmp_path / "online")}))  # fmt: skip
    with pytest.raises(UserError, match=r"is no run of `distill train`; start from its weights by --student\.init"):
        train(config)
    assert not (tmp_path / "none").exists()
