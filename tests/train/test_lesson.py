"""A loop of one's own on the parts of ``distill train`` ends where ``distill train`` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distill import api
from distill.config.config import Config
from distill.errors import UserError

Quick = Callable[..., Config]


def fitted(config: Config, folder: Path, last: int) -> tuple[torch.nn.Module, api.Lesson]:
    """The same training by hand, saved every 4 steps, up to a step."""
    torch.manual_seed(config.seed)
    net = api.AtariCNN(api.NetSpec(((4, 8, 4),), (8,)), 6)
    taught = api.lesson(config, net)
    kept = api.Kept(net, torch.optim.AdamW(net.parameters(), weight_decay=0.0, fused=True), api.Place(), {})
    went_on = kept.go_on(folder, torch.device("cpu"))
    assert went_on == (folder / "checkpoints").exists()
    model = api.Model(
        net,
        kept.optimizer,
        taught.learning_rate,
        12,
        taught.batch_size,
        config.train.max_grad_norm,
        kept.progress,
    )
    with api.Saver(folder, kept, due=lambda now: now.step % 4 == 0) as saver:
        stream = taught.batches(kept.progress.step, 12, 12)
        now = api.fit(model, stream, taught, api.Hooks([saver]), until=lambda now: now.step >= last)
    assert now.step == kept.progress.step == last
    return net, taught


def test_it_is_that_training_to_the_bit_with_a_stop_in_between(quick: Quick, tmp_path: Path) -> None:
    config = quick(objective={"jacobian_weight": 0.1, "jacobian_schedule": "cosine"})
    run = api.train(config)
    whole = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]
    fitted(config, tmp_path / "mine", 7)
    net, taught = fitted(config, tmp_path / "mine", 12)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in net.state_dict().items())
    papers = taught.papers(taught.score(), steps=12, best_step=12, seconds=1.0)
    api.save_student(tmp_path / "student", net, taught.task, papers)
    mine, theirs = api.load_student(tmp_path / "student"), api.load_student(run)
    assert mine.task == theirs.task
    same = ("teacher", "teacher_name", "teacher_preset", "data", "objective", "jacobian_scale", "seed", "val_fraction")
    assert all(getattr(mine.training, name) == getattr(theirs.training, name) for name in same)
    assert mine.training.metrics == {f"val_{name}": value for name, value in vars(taught.score()).items()}


def test_what_train_refuses_is_refused(quick: Quick) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 84 * 84, 6))
    with pytest.raises(UserError, match=r"is of pong, not breakout; set --env or --train\.data"):
        api.lesson(quick(env="breakout"), net)
    assert api.lesson(quick(), net).config.student.name == "Sequential"
