from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
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

from distill.envs.presets import PRESETS, get_preset
from distill.errors import UserError
from distill.system.files import read_json, sha256
from teachers import keeper, ppo
from teachers.card import read_card
from teachers.load import PRETRAINED, load_teacher
from teachers.ppo import copy_weights
from teachers.sb3_vec import AtariVecSB3
from teachers.settings import TeacherConfig
from teachers.train import main, train_teacher
from tests.teachers.conftest import MakeAgent

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
        assert b'clip_range"' not in agent.read("data")
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


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 1.0])
def test_a_flipped_bit_of_a_checkpoint_is_noticed(tmp_path: Path, trained: Path, place: float) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (path,) = run.glob("checkpoint-*.zip")
    data = bytearray(path.read_bytes())
    data[round(place * (len(data) - 1))] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"\.zip is not a readable checkpoint \(it does not match its checksum\)"):
        keeper.TrainingState.read(run)


def test_missing_and_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    train_teacher(replace(TINY, out=str(tmp_path / "run"), total_timesteps=32))
    path = tmp_path / "run" / "checkpoint-000000032.zip"
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"checkpoint-000000032.zip is not a readable checkpoint \("):
        train_teacher(replace(TINY, out=str(tmp_path / "run")))
    path.unlink()
    with pytest.raises(UserError, match="names a checkpoint that is missing"):
        train_teacher(replace(TINY, out=str(tmp_path / "run")))


def test_resume_goes_on_with_weights_optimizer_schedule_and_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "run")
    # Cut off after half of 128 steps, without the run being told: its schedule is that of 128.
    monkeypatch.setattr(keeper.Keeper, "_on_step", _interrupt_at(80))
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
    # SB3 logs an update with the rollout after it, so that of the second one went with the first process.
    assert rates == pytest.approx({64: 2.5e-4 * 0.75, 128: 2.5e-4 * 0.25}, rel=1e-5)


def test_a_run_begun_with_sb3s_own_policy_goes_on_and_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(env: Any, **settings: Any) -> PPO:
        return PPO("CnnPolicy", env, **settings)

    config = replace(TINY, total_timesteps=96)
    weights = {}
    for second_half in ("old", "new"):
        out = tmp_path / second_half
        with monkeypatch.context() as patch:
            patch.setattr(ppo, "make_ppo", plain)
            patch.setattr(ppo, "fuse_optimizer", lambda model: None)
            patch.setattr(keeper.Keeper, "_on_step", _interrupt_at(80))
            with pytest.raises(KeyboardInterrupt):
                train_teacher(replace(config, out=str(out)))
        assert read_json(out / "progress.json", "training state")["timesteps"] == 64
        with monkeypatch.context() as patch:
            if second_half == "old":
                patch.setattr(ppo, "make_ppo", plain)
                patch.setattr(ppo, "fuse_optimizer", lambda model: None)
            train_teacher(replace(config, out=str(out)))
        with zipfile.ZipFile(out / keeper_name(out)) as checkpoint:
            weights[second_half] = torch.load(io.BytesIO(checkpoint.read("policy.pth")), weights_only=True)
            adam = torch.load(io.BytesIO(checkpoint.read("policy.optimizer.pth")), weights_only=True)
        assert {state["step"].item() for state in adam["state"].values()} == {6}
        assert bool(adam["param_groups"][0]["fused"]) == (second_half == "new")
    for name, expected in weights["old"].items():
        torch.testing.assert_close(weights["new"][name], expected, rtol=0, atol=1e-5, msg=name)


def _interrupt_at(timesteps: int) -> Any:
    """``Keeper._on_step`` with a real Ctrl-C in it."""
    on_step = keeper.Keeper._on_step

    def press(self: keeper.Keeper) -> bool:
        if self.model.num_timesteps == timesteps:
            os.kill(os.getpid(), signal.SIGINT)
        return on_step(self)

    return press


def _scalars(folder: Path, tag: str) -> list[Any]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return list(events.Scalars(tag))


def test_ctrl_c_saves_and_gives_the_signal_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(keeper.Keeper, "_on_step", _interrupt_at(40))
    words = ["--env-id", "pong", "--num-envs=2", "--n-steps=16", "--batch-size=16", "--n-epochs=1", "--seed=3"]
    words += ["--total-timesteps=100000", "--device=cpu", f"--out={tmp_path / 'run'}"]
    assert main(words) == 130
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert "interrupted at step 32; saved. The same command continues." in capsys.readouterr().out
    assert PPO.load(tmp_path / "run" / "checkpoint-000000032.zip", device="cpu").num_timesteps == 32
    assert not (tmp_path / "run" / "final.zip").exists()


@pytest.fixture
def short_games(monkeypatch: pytest.MonkeyPatch) -> TeacherConfig:
    """Asterix cut off after ten steps: 64 steps in two lanes end twelve games."""
    monkeypatch.setitem(PRESETS._things, "short", replace(get_preset("sb3"), name="short", max_frames=40))
    return replace(TINY, env="asterix", preset="short", total_timesteps=128, checkpoint_every=32)


def test_best_agent_is_kept_by_the_mean_return_of_at_least_ten_games(
    tmp_path: Path, short_games: TeacherConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[tuple[int, float, int]] = []
    save_agent = keeper.Keeper.save_agent

    def watch(self: keeper.Keeper, name: str) -> Path:
        judged.append((self.model.num_timesteps, *self._score()))
        return save_agent(self, name)

    monkeypatch.setattr(keeper.Keeper, "save_agent", watch)
    train_teacher(replace(short_games, out=str(tmp_path / "run")))
    *bests, final = judged
    assert bests
    assert bests[0][0] == 128  # earlier checkpoints had seen fewer than ten games
    assert bests[0][2] == final[2] == 12
    state = read_json(tmp_path / "run" / "progress.json", "training state")
    assert state["best_score"] == bests[0][1]
    assert len(state["games"]) == 12
    card = read_card(tmp_path / "run" / "best.md")
    assert card["scores"] == [{"protocol": "training", "preset": "short", "mean": round(bests[0][1], 2), "games": 12}]
    assert load_teacher(str(tmp_path / "run" / "best.zip")).info.preset == "short"


def test_resume_remembers_the_last_games_and_the_best(tmp_path: Path, short_games: TeacherConfig) -> None:
    config, path = replace(short_games, out=str(tmp_path / "run")), tmp_path / "run" / "progress.json"
    train_teacher(config)
    state = read_json(path, "training state")
    best = sha256(tmp_path / "run" / "best.zip")
    path.write_text(json.dumps(state | {"best_score": 1e9}))
    train_teacher(replace(config, total_timesteps=192))
    assert sha256(tmp_path / "run" / "best.zip") == best
    games = read_json(path, "training state")["games"]
    assert games[:12] == state["games"]
    assert len(games) > 12
    returns = _scalars(tmp_path / "run", "rollout/ep_rew_mean")
    assert returns[-1].step == 192
    assert returns[-1].value == pytest.approx(np.mean([score for score, _ in games]))


def test_init_copies_every_weight() -> None:
    teacher = load_teacher("breakout")
    env = AtariVecSB3("breakout", 1, get_preset("sb3"), seed=0)
    model = PPO("CnnPolicy", env, n_steps=2, batch_size=2, device="cpu")
    copy_weights(teacher.net, model)
    obs = torch.from_numpy(np.random.default_rng(0).integers(256, size=(4, 4, 84, 84), dtype=np.uint8))
    with torch.no_grad():
        logits, value = teacher.logits_and_value(obs / 255)
        assert value is not None
        torch.testing.assert_close(model.policy.predict_values(obs).squeeze(-1), value)
        torch.testing.assert_close(model.policy.get_distribution(obs).distribution.logits, logits.log_softmax(-1))
    env.close()


def test_training_from_init_starts_there(tmp_path: Path) -> None:
    config = replace(TINY, init="pong", learning_rate=1e-12, total_timesteps=32, out=str(tmp_path / "run"))
    agent = load_teacher(str(train_teacher(config)))
    start = load_teacher("pong")
    for name, weights in agent.net.state_dict().items():
        torch.testing.assert_close(weights, start.net.state_dict()[name], atol=1e-6, rtol=0)
    assert "the weights of `pong`" in (tmp_path / "run" / "final.md").read_text()


def test_init_of_another_game_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="plays breakout, not pong"):
        train_teacher(replace(TINY, init="breakout", out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists(), "the same command with another agent would be refused"


def test_init_by_q_values_is_refused(make_agent: MakeAgent, tmp_path: Path) -> None:
    shutil.copyfile(make_agent("dqn")[1], tmp_path / "pong.zip")
    with pytest.raises(UserError, match=r"--init=.*pong\.zip gives Q-values, not a policy; distill it first"):
        train_teacher(replace(TINY, init=str(tmp_path / "pong.zip"), out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_init_of_another_environment_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copyfile(PRETRAINED / "pong-ppo.zip", tmp_path / "pong.zip")
    (tmp_path / "args.yml").write_text("env_kwargs: {repeat_action_probability: 0.25}\n")
    train_teacher(replace(TINY, init=str(tmp_path / "pong.zip"), total_timesteps=32, out=str(tmp_path / "run")))
    said = " ".join(capsys.readouterr().out.split())
    assert "pong.zip learned in another environment: env_kwargs with repeat_action_probability 0.25" in said
    assert "it goes on in sb3" in said


def test_divergence_stops_with_the_last_good_checkpoint(tmp_path: Path) -> None:
    config = replace(TINY, out=str(tmp_path / "run"))
    train_teacher(replace(config, total_timesteps=32))
    good = sha256(tmp_path / "run" / "checkpoint-000000032.zip")
    text = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(text.replace("0.00025", "1.0e+38"))
    with pytest.raises(
        UserError, match=r"training diverged after step \d+, the network gives NaN or Inf; the last good ch"
    ):
        train_teacher(replace(config, learning_rate=1e38, total_timesteps=256))
    assert sha256(tmp_path / "run" / "checkpoint-000000032.zip") == good


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch_size=48"], "--batch_size must be a divisor of num_envs * n_steps = 2048 above 1, got 48"),
        (["--num-envs=0"], "--num_envs must be positive, got 0"),
        (["--gamma=1.5"], "--gamma must be between 0 and 1, got 1.5"),
        (["--ent-coef=-1"], "--ent_coef must be zero or more, got -1.0"),
        (["--seed=-1"], "--seed must be between 0 and 2^30 - 1, got -1"),
        (["--preset=sb4"], "unknown preset 'sb4' (did you mean 'sb3'?)"),
        (["--env=ponk"], "unknown game 'ponk' (did you mean 'pong'?)"),
        (["--device=tpu9"], "unknown --device 'tpu9'"),
        (["--total_timestep=5"], "unknown setting 'total_timestep' (did you mean 'total_timesteps'?)"),
        (["--n_steps=many"], "n_steps"),
        (["--num-envs=2048"], "num_envs must be between 1 and 1024, got 2048"),
        (["--env=video_checkers"], "video_checkers has no NOOP action"),
        (["--init=nothing", "--env=pong"], "unknown teacher 'nothing'"),
    ],
)
def test_bad_settings_are_one_sentence_and_leave_nothing(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--out={tmp_path / 'run'}", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit on file sizes gives the same error at the same calls."""
    out = tmp_path / "run"
    train_teacher(replace(TINY, total_timesteps=32, out=str(out)))
    before, (_, hard) = read_json(out / "progress.json", "training state"), resource.getrlimit(resource.RLIMIT_FSIZE)
    settings = {"env": "pong", "num_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 3}
    words = [f"--{name}={value}" for name, value in settings.items()]
    words += [f"--out={out}", "--device=cpu", "--total_timesteps=64"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        assert main(words) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    error = capsys.readouterr().err
    assert (
        f"error: cannot write {out / 'checkpoint-000000064.zip'}: file too large; what was committed is safe" in error
    )
    assert read_json(out / "progress.json", "training state") == before
    assert main(words) == 0


def test_a_missing_seed_is_drawn_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(TINY, seed=None, total_timesteps=32, out=str(tmp_path / "run"))
    train_teacher(config)
    seed = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["seed"]
    assert f"seed: {seed} (drawn)" in capsys.readouterr().out
    train_teacher(replace(config, total_timesteps=64))
    assert "(drawn)" not in capsys.readouterr().out


def test_the_game_is_that_of_the_agent_to_start_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    final = train_teacher(replace(TINY, env="", init="breakout", total_timesteps=32, out=str(tmp_path / "{env}")))
    assert final == tmp_path / "breakout" / "final.zip"
    assert read_card(final.with_suffix(".md"))["game"] == "breakout"
    assert capsys.readouterr().out.startswith("game: breakout (from --init breakout: its data)")


def test_an_agent_to_start_from_that_tells_no_game(tmp_path: Path, trained: Path) -> None:
    (tmp_path / "x.zip").write_bytes((trained / "final.zip").read_bytes())
    with pytest.raises(UserError, match=r"cannot tell which game .*x\.zip plays; name it with --env"):
        train_teacher(replace(TINY, env="", init=str(tmp_path / "x.zip"), out=str(tmp_path / "run")))
