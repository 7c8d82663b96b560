from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.files import read_json, sha256
from teachers import keeper
from teachers.card import read_card
from teachers.load import load_teacher
from teachers.sb3_vec import AtariVecSB3
from teachers.train import TeacherConfig, copy_weights, main, train_teacher

TINY = TeacherConfig(
    env="Pong", num_envs=2, n_steps=16, batch_size=16, n_epochs=1, total_timesteps=64, seed=3, device="cpu"
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    assert train_teacher(replace(TINY, out=str(folder))) == folder / "final.zip"
    return folder


def test_folder_says_what_was_asked_and_where_training_stands(trained: Path) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert (config["env"], config["seed"], config["n_steps"]) == ("pong", 3, 16)
    assert (trained / "command.txt").read_text().strip()
    assert read_json(trained / "versions.json", "versions")["stable-baselines3"]
    state = read_json(trained / "progress.json", "training state")
    assert (state["timesteps"], state["checkpoint"]) == (64, "checkpoint-000000064.zip")
    assert [path.name for path in trained.glob("checkpoint-*")] == ["checkpoint-000000064.zip"]
    assert not list(trained.glob(".*.tmp"))


def test_agent_loads_as_a_teacher_and_in_sb3_with_the_same_logits(trained: Path) -> None:
    teacher = load_teacher(str(trained / "final.zip"))
    assert (teacher.info.game, teacher.info.preset, teacher.info.algorithm) == ("pong", "sb3", "PPO")
    model = PPO.load(trained / "final.zip", device="cpu")
    obs = np.random.default_rng(0).integers(256, size=(3, 4, 84, 84), dtype=np.uint8)
    with torch.no_grad():
        theirs = model.policy.get_distribution(torch.from_numpy(obs)).distribution.logits
        ours, value = teacher.logits_and_value(torch.from_numpy(obs) / 255)
        assert value is not None
        torch.testing.assert_close(value, model.policy.predict_values(torch.from_numpy(obs)).squeeze(-1))
    torch.testing.assert_close(ours.log_softmax(-1), theirs)
    assert model.num_timesteps == 64


def test_card_belongs_to_its_agent(trained: Path) -> None:
    card = read_card(trained / "final.md")
    assert card["sha256"] == sha256(trained / "final.zip")
    assert (card["game"], card["algorithm"], card["preset"], card["timesteps"]) == ("pong", "PPO", "sb3", 64)
    assert "scores" not in card  # no game ends in 32 steps
    assert "score is unknown" in (trained / "final.md").read_text()


def test_agent_holds_no_closures_and_no_optimizer_memory(trained: Path) -> None:
    with zipfile.ZipFile(trained / "final.zip") as agent, zipfile.ZipFile(trained / keeper_name(trained)) as checkpoint:
        assert b"learning_rate" not in agent.read("data")
        assert b"clip_range\"" not in agent.read("data")
        assert agent.getinfo("policy.optimizer.pth").file_size < 10_000
        assert checkpoint.getinfo("policy.optimizer.pth").file_size > 1_000_000


def keeper_name(folder: Path) -> str:
    return str(read_json(folder / "progress.json", "training state")["checkpoint"])


def test_same_command_has_nothing_left_to_do(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sha256(trained / "final.zip")
    train_teacher(replace(TINY, out=str(trained)))
    assert sha256(trained / "final.zip") == before
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.1}, "is a different run: learning_rate was 0.00025, now 0.1; choose another --out"),
        ({"seed": 4}, "seed was 3, now 4"),
        ({"init": "pong"}, "init was None, now pong"),
    ],
)
def test_another_run_is_refused_in_the_same_folder(trained: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_teacher(replace(TINY, out=str(trained), **change))


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is not a teacher's training run"):
        train_teacher(replace(TINY, out=str(tmp_path)))


def test_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    train_teacher(replace(TINY, out=str(tmp_path / "run"), total_timesteps=32))
    (tmp_path / "run" / "checkpoint-000000032.zip").unlink()
    with pytest.raises(UserError, match="names a checkpoint that is missing"):
        train_teacher(replace(TINY, out=str(tmp_path / "run")))


def test_resume_goes_on_with_weights_optimizer_schedule_and_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "run")
    # Cut off after half of 128 steps, without the run being told: its schedule is that of 128.
    monkeypatch.setattr(keeper.Keeper, "_on_step", lambda self: self._watch_half())
    monkeypatch.setattr(keeper.Keeper, "_watch_half", _interrupt_at(96), raising=False)
    with pytest.raises(KeyboardInterrupt):
        train_teacher(replace(TINY, out=out, total_timesteps=128))
    monkeypatch.undo()
    state = read_json(tmp_path / "run" / "progress.json", "training state")
    assert state["timesteps"] == 64  # the rollout that was cut off taught nothing
    half = PPO.load(tmp_path / "run" / state["checkpoint"], device="cpu")

    started: dict[str, Any] = {}

    def remember(self: keeper.Keeper) -> None:
        started.setdefault("steps", self.model.num_timesteps)
        started.setdefault("weights", self.model.policy.action_net.weight.detach().clone())  # type: ignore[union-attr]
        started.setdefault("adam", self.model.policy.optimizer.state_dict()["state"][0]["step"].item())

    monkeypatch.setattr(keeper.Keeper, "_on_training_start", remember)
    train_teacher(replace(TINY, out=out, total_timesteps=128))
    assert started["steps"] == 64
    torch.testing.assert_close(started["weights"], half.policy.action_net.weight)
    assert started["adam"] == 4  # two updates of two minibatches each
    assert read_json(tmp_path / "run" / "progress.json", "training state")["timesteps"] == 128
    rates = {event.step: event.value for event in _scalars(tmp_path / "run", "train/learning_rate")}
    assert rates == pytest.approx({64: 2.5e-4 * 0.75, 96: 2.5e-4 * 0.5, 128: 2.5e-4 * 0.25}, rel=1e-5)


def _interrupt_at(timesteps: int) -> Any:
    def watch(self: keeper.Keeper) -> bool:
        self.interrupted = self.model.num_timesteps >= timesteps
        return not self.interrupted

    return watch


def _scalars(folder: Path, tag: str) -> list[Any]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return list(events.Scalars(tag))
