"""Whole runs of seconds: what moves and what does not, how they stop and go on, what they leave."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from distill.cli.command import main
from distill.config.config import Config
from distill.config.stages import finetune
from distill.config.validate import validated
from distill.dataset.reader import Dataset
from distill.errors import DivergedError, UserError
from distill.finetune.settings import FinetuneRun
from distill.finetune.setup import set_up
from distill.finetune.watch import Watch
from distill.losses.divergence import kl
from distill.networks.nets import AtariCNN, NetSpec
from distill.records.data import OwnGames
from distill.students.folder import load_student, save_student
from distill.system.settings import part
from distill.system.streams import seed_weights
from distill.train.hooks import Hook, Status
from teachers.load import load_teacher
from teachers.protocol import Teacher
from tests.finetune.conftest import SPEC, TASK, TINY

Tiny = Callable[..., Config]
HIDDEN = NetSpec(((4, 8, 8),), (), "tanh")
"""Another width, another activation, and no dense layer."""


class Other(nn.Module):
    """A network that is no sequence of layers."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(4, 2, 21, 21), nn.Conv2d(4, 2, 42, 14)
        self.head = nn.Linear(64, num_actions)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(torch.cat([self.left(x).flatten(1), self.right(x).flatten(1)], 1)[:, :64])  # type: ignore[no-any-return]


class Frozen(Other):
    """Its first part stays as it is."""

    def __init__(self, num_actions: int) -> None:
        super().__init__(num_actions)
        self.left.requires_grad_(False)


OTHER = Other(6)


def load(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    return content


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of a student, without its value head."""
    state = load_student(folder).net.state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith("value")}


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def finished(tiny: Tiny, student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetune(tiny(tmp_path_factory.mktemp("finetune") / "run", init=student))


class States(Hook):
    """Writes down where it was told of, and stops it after so many states, if asked to."""

    def __init__(self, last: int | None = None, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.told: list[int] = []
        self.points: list[Mapping[str, float]] = []
        self._last, self._error = last, error

    def stepped(self, now: Status) -> None:
        self.told.append(now.states)
        if now.states == self._last:
            raise self._error

    def measured(self, now: Status, figures: Mapping[str, float]) -> None:
        self.points.append(figures)


def test_the_warm_up_moves_the_value_head_alone(tiny: Tiny, student: Path, tmp_path: Path) -> None:
    """Until its states are played, every weight of the policy is what it was, to the bit; then it moves."""
    for states, moved in ((256, False), (288, True)):
        with pytest.raises(KeyboardInterrupt):
            finetune(tiny(tmp_path / f"run-{states}", init=student, states=512, critic_warmup=256), [States(states)])
        content = load(tmp_path / f"run-{states}")
        progress, after = content["progress"], content["model"]
        assert (progress["states"], progress["warmed"], progress["step"] > 0) == (states, True, moved)
        now = {
            name.replace("features_extractor.layers", "features").replace("action_net", "policy"): tensor
            for name, tensor in after.items()
            if name.startswith(("features_extractor", "action_net"))
        }
        assert same(now, weights(student)) != moved
        assert after["value_net.weight"].any()


def test_without_a_warm_up_it_learns_at_once(tiny: Tiny, student: Path, tmp_path: Path) -> None:
    for name, changes in (("none", {"init": student, "critic_warmup": 0}), ("fresh", {"student": {"name": "nature"}})):
        with pytest.raises(KeyboardInterrupt):
            finetune(tiny(tmp_path / name, **changes), [States(32)])
        assert load(tmp_path / name)["progress"]["step"] == 4


@pytest.mark.parametrize("changes", [{"critic_warmup": 64}, {"critic_warmup": 40}, {"critic_warmup": 0}])
def test_the_fewest_states_move_the_policy(tiny: Tiny, student: Path, tmp_path: Path, changes: dict[str, int]) -> None:
    """A rollout counts before its update, so the last one's rate is 0."""
    states = 32 + (64 if changes["critic_warmup"] else 0)
    with pytest.raises(UserError, match=f"must be above {states}, or the policy never moves"):
        finetune(tiny(tmp_path / "run", init=student, states=states, **changes))
    run = finetune(tiny(tmp_path / "run", init=student, states=states + 1, **changes))
    assert not same(weights(run), weights(student))


def test_it_learns_from_reward_and_teacher(finished: Path, student: Path) -> None:
    assert not same(weights(finished), weights(student))
    progress = load(finished)["progress"]
    assert (progress["states"], progress["step"]) == (256, 6 * 2 * 2)  # two rollouts of eight were the warm-up
    told = load_student(finished).training
    assert told.teacher == load_teacher("pong").info.fingerprint
    assert (told.data, told.steps) == (OwnGames(256, 2), 24)
    assert told.metrics["val_kl"] is not None
    assert (told.objective["teacher_weight"], told.objective["schedule"]) == (1.0, "linear")


def test_states_that_are_no_whole_rollouts_do_not_unlearn(tiny: Tiny, student: Path, tmp_path: Path) -> None:
    """The last rollout goes past them; a rate that went on falling would be below zero, and climb the loss."""
    hook = States()
    run = finetune(tiny(tmp_path / "run", init=student, states=129, log_every=32), [hook])
    rates = [point["train/learning_rate"] for point in hook.points]
    assert load(run)["progress"]["states"] == 160
    assert rates[-1] == 0
    assert sorted(rates, reverse=True) == rates


def test_a_teacher_keeps_the_student_near(tiny: Tiny, student: Path, tmp_path: Path, pong_data: Path) -> None:
    """On states that were recorded elsewhere. Its weight is far above that of the reward."""
    dataset, found = Dataset(pong_data), {"before": student}
    x, teacher = torch.from_numpy(dataset.stacks(np.arange(len(dataset)))) / 255, torch.from_numpy(dataset.logits)
    for weight in (0.0, 20.0):
        more = {"states": 1024, "n_epochs": 4, "learning_rate": 0.003, "teacher_weight": weight}
        more |= {"schedule": "constant"} if weight else {}
        found[f"{weight}"] = finetune(tiny(tmp_path / f"run-{weight}", init=student, **more))
    with torch.no_grad():
        far = {name: float(kl(load_student(run).net(x), teacher).mean()) for name, run in found.items()}
    assert far["20.0"] < 0.5 * far["0.0"], far


def test_the_curve_is_in_tensorboard(finished: Path) -> None:
    events = EventAccumulator(str(finished)).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"play/kl", "play/action_error", "play/fps", "train/value_loss", "train/policy_loss"} <= tags
    points = events.Scalars("train/teacher_weight")
    assert [point.step for point in points] == [64, 128, 192, 256]
    assert [point.value for point in points] == [0.75, 0.5, 0.25, 0.0]
    assert "train/value_loss" in tags
    assert [point.step for point in events.Scalars("train/value_loss")] == [128, 192, 256]


def test_papers_are_read_by_every_stage(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(finished)]) == 0
    assert "its own games, 256 states" in capsys.readouterr().out
    words = [f"--evaluate.agents=[teacher,{finished}]", "--evaluate.games=2", "--evaluate.num_envs=2"]
    assert main(["evaluate", *words, f"--evaluate.out={tmp_path}", "--device=cpu"]) == 0
    agent = json.loads((tmp_path / "scores.json").read_text())["agents"]["run"]
    assert (agent["kind"], agent["val_kl"]) == ("student", load_student(finished).training.metrics["val_kl"])
    assert agent["share_of_teacher"] is not None
    assert agent["own_games"]
    told = " ".join(capsys.readouterr().out.split())
    assert "run: its figures are on states of its own games; none were held out." in told
    assert "fidelity on states of the students' own games" in told
    assert main(["report", f"--report.scores={tmp_path}/scores.json", f"--report.out={tmp_path}/page"]) == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert "run: its figures are on states of its own games; none were held out." in page
    assert "Against the teacher’s labels, on states that each played itself" in page
    out = tmp_path / "student.onnx"
    assert main(["export", str(finished), f"--out={out}"]) == 0
    assert out.stat().st_size > 1000
    model = PPO.load(finished / "student" / "student.zip", device="cpu")
    obs = torch.from_numpy(np.random.default_rng(0).integers(256, size=(3, 4, 84, 84), dtype=np.uint8))
    net = load_student(finished).net
    with torch.no_grad():
        theirs = model.policy.get_distribution(obs).distribution.logits
        torch.testing.assert_close(net(obs / 255).log_softmax(-1), theirs)
        assert isinstance(net, AtariCNN)
        value = net.logits_and_value(obs / 255)[1]
        torch.testing.assert_close(value, model.policy.predict_values(obs).squeeze(-1))


def test_the_same_command_has_nothing_left_to_do(
    finished: Path, tiny: Tiny, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "student" / "student.json").read_bytes()
    assert finetune(tiny(finished, init=student)) == finished
    assert "nothing to do" in capsys.readouterr().out
    assert (finished / "student" / "student.json").read_bytes() == before
    with pytest.raises(UserError, match=r"is a different run: finetune\.gamma was 0\.99, now 0\.9; choose another"):
        finetune(tiny(finished, init=student, gamma=0.9))


def test_a_finished_run_of_another_teacher_or_start_is_refused(
    tiny: Tiny, student: Path, tmp_path: Path, other_pong_zip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The paths are the same, and what lies there is not."""
    teacher, start, net = tmp_path / "teacher.zip", tmp_path / "start", load_student(student).net
    teacher.write_bytes(other_pong_zip.read_bytes())
    save_student(start / "student", net, TASK)
    config = tiny(tmp_path / "run", init=start, teacher=str(teacher), states=128)
    run = finetune(config)
    finetune(config)
    assert "nothing to do" in capsys.readouterr().out
    teacher.write_bytes((student / "student" / "student.zip").read_bytes())
    with pytest.raises(UserError, match=r"run learned from another teacher than the one that is there now; choose"):
        finetune(config)
    teacher.write_bytes(other_pong_zip.read_bytes())
    with torch.no_grad():
        next(net.parameters()).add_(1)
    save_student(start / "student", net, TASK)
    with pytest.raises(UserError, match="run began with another agent than the one that is there now"):
        finetune(config)
    (run / "checkpoints" / "last.pt").write_bytes(b"damaged")
    finetune(config)  # nothing is left that could tell


def test_it_goes_on_after_an_interrupt(
    tiny: Tiny, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(tmp_path / "run", init=student)
    with pytest.raises(KeyboardInterrupt) as stopped:
        finetune(config, [States(160)])
    assert stopped.value.__notes__ == ["the same command continues"]
    before = load(tmp_path / "run")
    assert before["progress"]["states"] == 160
    seen: dict[str, Any] = {}

    class First(Watch):
        def _on_training_start(self) -> None:
            super()._on_training_start()
            policy = self.model.policy
            seen.update(weights=policy.action_net.weight.detach().clone(), states=self.model.num_timesteps)  # type: ignore[operator,union-attr]
            seen.update(adam=policy.optimizer.state_dict()["state"][0]["exp_avg"].clone())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.finetune.loop.Watch", First)
        hook = States()
        finetune(config, [hook])
    assert torch.equal(seen["weights"], before["model"]["action_net.weight"])
    assert torch.equal(seen["adam"], before["optimizer"]["state"][0]["exp_avg"])
    assert (seen["states"], hook.told) == (160, [192, 224, 256])
    assert (
        "continuing at 160 states, step 12; emulators are not saved, so it begins new games" in capsys.readouterr().out
    )
    assert load(tmp_path / "run")["progress"]["step"] == 24
    rates = [point["train/learning_rate"] for point in hook.points]
    assert rates[-1] == 0.0  # SB3 counts the rollout before the update


def test_a_warm_up_that_was_cut_off_takes_nothing_from_the_policy(
    tiny: Tiny, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else one that is cut off late, or often, leaves no states to learn from."""
    config, whole = tiny(tmp_path / "run", init=student, critic_warmup=192), tiny(tmp_path / "whole", init=student)
    with pytest.raises(KeyboardInterrupt):
        finetune(config, [States(160)])
    assert (load(tmp_path / "run")["progress"]["states"], load(tmp_path / "run")["progress"]["warmed"]) == (160, False)
    hook = States()
    finetune(config, [hook])
    assert "its warm-up was cut off, and begins again" in capsys.readouterr().out
    progress = load(tmp_path / "run")["progress"]
    assert (hook.told[0], progress["states"], progress["step"]) == (32, 256, 2 * 2 * 2)
    finetune(whole)
    assert progress["begun"] == load(tmp_path / "whole")["progress"]["begun"]


def test_another_commands_run_is_named(tiny: Tiny, finished: Path, student: Path, tmp_path: Path) -> None:
    settings = (finished / "config.yaml").read_text()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(settings.partition("finetune:")[0])
    with pytest.raises(UserError, match="is a different run: it is of another command, without settings of finetune;"):
        finetune(tiny(tmp_path / "run", init=student))


def test_a_rollout_that_is_cut_off_teaches_nothing(
    tiny: Tiny, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(10**6))

    class Cut(Watch):
        def _on_step(self) -> bool:
            if next(steps) == 70:
                os.kill(os.getpid(), signal.SIGINT)
            return super()._on_step()

    monkeypatch.setattr("distill.finetune.loop.Watch", Cut)
    with pytest.raises(KeyboardInterrupt):
        finetune(tiny(tmp_path / "run", init=student, checkpoint_every=10_000))
    progress = load(tmp_path / "run")["progress"]
    assert (progress["states"], progress["step"]) == (128, 8)  # 70 steps of two games are 140 states


def test_it_goes_on_after_a_kill(start: Callable[..., Any], student: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = {**TINY, "states": 640, "init": student, "out": run}
    words = ["finetune", *(f"--finetune.{name}={value}" for name, value in settings.items()), "--device=cpu"]
    process = start(*words)
    deadline = time.monotonic() + 60
    while not (run / "checkpoints" / "previous.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 128 <= load(run)["progress"]["states"] < 640
    assert start(*words).wait() == 0
    assert load_student(run).training.data.states == 640


def test_the_best_student_is_kept(tiny: Tiny, student: Path, tmp_path: Path) -> None:
    """Games of 21 points take a while; every game that ends is a better or a worse score than those before."""
    ended = iter([-21.0, -5.0, -15.0])

    class Lucky(Watch):
        """One more game ends at every 40th step of the games; the environment's own take too long for a test."""

        def _on_step(self) -> bool:
            if self.n_calls in (36, 68, 100):
                self.locals["infos"][0]["episode"] = {"r": next(ended)}
            return super()._on_step()

    hook = States()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.finetune.loop.Watch", Lucky)
        run = finetune(tiny(tmp_path / "run", init=student, score_games=1), [hook])
    best, last = load_student(run / "best-student").training, load_student(run).training
    progress = load(run)["progress"]
    assert (progress["best_score"], progress["games"], progress["scores"]) == (-5.0, 3, [-15.0])
    assert best.steps == progress["best_step"] < last.steps
    assert [point.get("play/score") for point in hook.points] == [None, -21.0, -5.0, -15.0]


def test_the_best_student_keeps_its_figures_where_a_run_goes_on(tiny: Tiny, student: Path, tmp_path: Path) -> None:
    """Before a rollout of this process ends, the figures are those of the last one before."""
    config = tiny(tmp_path / "run", init=student, score_games=1, critic_warmup=0)
    for score, at, figures in ((-7.0, 2, False), (-6.0, 18, True), (-5.0, 2, True)):

        class Cut(Watch):
            """A game ends, and it is cut off in the same rollout."""

            def _on_step(self, score: float = score, at: int = at) -> bool:
                if self.n_calls == at:
                    self.locals["infos"][0]["episode"] = {"r": score}
                elif self.n_calls > at:
                    raise KeyboardInterrupt
                return super()._on_step()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("distill.finetune.loop.Watch", Cut)
            with pytest.raises(KeyboardInterrupt):
                finetune(config)
        best = tmp_path / "run" / "best-student"
        assert (best.exists(), load(tmp_path / "run")["progress"]["best_score"]) == (
            figures,
            score if figures else None,
        )
        if figures:
            assert load_student(best).training.metrics["val_kl"] is not None


def test_the_teacher_fades_as_scores_come_near(tiny: Tiny, student: Path, tmp_path: Path) -> None:
    """Pong's random play scores -20.7; the card says 19.56 of the teacher."""
    ended = {36: -20.7, 68: 19.56 - 40.26 / 4, 100: 21.0}

    class Better(Watch):
        """A game ends now and then."""

        def _on_step(self) -> bool:
            if self.n_calls in ended:
                self.locals["infos"][0]["episode"] = {"r": ended[self.n_calls]}
            return super()._on_step()

    hook = States()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.finetune.loop.Watch", Better)
        finetune(tiny(tmp_path / "run", init=student, schedule="score", score_games=1, teacher_weight=2.0), [hook])
    assert [point["train/teacher_weight"] for point in hook.points] == pytest.approx([2.0, 2.0, 0.5, 0.0])


@pytest.mark.parametrize("spec", [HIDDEN, NetSpec(((4, 8, 8),), (24, 16), "softplus")], ids=["no dense", "two dense"])
def test_foreign_widths(tiny: Tiny, tmp_path: Path, spec: NetSpec) -> None:
    torch.manual_seed(3)
    save_student(tmp_path / "first" / "student", AtariCNN(spec, 6), TASK)
    run = finetune(tiny(tmp_path / "run", init=tmp_path / "first", states=128))
    net = load_student(run).net
    assert isinstance(net, AtariCNN)
    assert net.spec == spec
    assert not same(weights(run), weights(tmp_path / "first"))


def test_a_network_that_a_program_builds(tiny: Tiny, tmp_path: Path) -> None:
    """Nobody knows where a value could be read from, so its critic has layers of its own, and is not kept."""
    name = "tests.finetune.test_loop:Other"
    seed_weights(4)
    net = Other(6)
    save_student(tmp_path / "first" / "student", net, TASK, network=name)
    with pytest.raises(KeyboardInterrupt):
        finetune(tiny(tmp_path / "warm", init=tmp_path / "first"), [States(64)])
    state = load(tmp_path / "warm")["model"]
    assert torch.equal(state["pi_features_extractor.layers.head.weight"], net.head.weight)
    run = finetune(tiny(tmp_path / "run", init=tmp_path / "first"))
    assert load_student(run).record.network == name
    assert not same(weights(run), weights(tmp_path / "first"))


def test_what_a_program_freezes_stays_as_it_is(tiny: Tiny, tmp_path: Path) -> None:
    """In a fresh network, and in one that goes on."""
    config = tiny(tmp_path / "fresh", student={"name": "tests.finetune.test_loop:Frozen"}, states=64)
    states = [set_up(part(validated(config), FinetuneRun))[0].net.state_dict()]
    states.append(weights(finetune(config)))
    states.append(weights(finetune(tiny(tmp_path / "on", init=tmp_path / "fresh", states=128))))
    for before, after in itertools.pairwise(states):
        assert {name for name in before if before[name].equal(after[name])} == {"left.weight", "left.bias"}


def other_agent() -> Teacher:
    return Teacher.of(OTHER, game="pong")


def nameless_agent() -> Teacher:
    return Teacher.of(nn.Sequential(nn.AvgPool2d(42), nn.Flatten(), nn.Linear(16, 6)), game="pong")


def test_an_agent_of_a_program_goes_on_and_teaches_itself(tiny: Tiny, tmp_path: Path) -> None:
    """A copy of it moves."""
    name, before = f"{__name__}:other_agent", OTHER.head.weight.clone()
    run = finetune(tiny(tmp_path / "run", init=name, teacher=name, states=128))
    assert load_student(run).record.network == f"{__name__}:Other"
    assert torch.equal(OTHER.head.weight, before)
    assert not torch.equal(weights(run)["head.weight"], before)
    with pytest.raises(UserError, match="is a network that no name builds again"):
        finetune(tiny(tmp_path / "nameless", init=f"{__name__}:nameless_agent"))


def test_a_zip_goes_on(tiny: Tiny, finished: Path, tmp_path: Path) -> None:
    """Its value head is there already, and stays where it explains more than a new one."""
    run = finetune(tiny(tmp_path / "run", init=finished / "student" / "student.zip", states=128))
    assert load_student(run).net.spec == SPEC
    again = finetune(tiny(tmp_path / "again", init="pong", states=96, critic_warmup=32))
    assert load_student(again).training.student == "nature"


def test_nobody_teaches(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Enduro has no bundled agent."""
    changes = {"env": "enduro", "student": {"convs": [(4, 8, 8)], "hidden": [8]}, "states": 64}
    with pytest.raises(UserError, match="enduro"):
        finetune(tiny(tmp_path / "taught", **changes))
    run = finetune(tiny(tmp_path / "run", teacher_weight=0, **changes))
    told = load_student(run).training
    assert (told.teacher, told.teacher_name, told.metrics["val_kl"]) == ("", None, None)
    assert main(["info", str(run)]) == 0
    assert "learns from reward alone" in capsys.readouterr().out


def test_weight_zero_compares_and_does_not_teach(tiny: Tiny, student: Path, tmp_path: Path) -> None:
    hook = States()
    run = finetune(tiny(tmp_path / "run", init=student, teacher_weight=0), [hook])
    assert all(point["play/kl"] > 0 and point["train/teacher_weight"] == 0 for point in hook.points)
    assert not any("train/teacher_loss" in point for point in hook.points)
    assert load_student(run).training.metrics["val_kl"] is not None


def test_a_teacher_with_other_eyes(tiny: Tiny, student: Path, tmp_path: Path) -> None:
    config = tiny(tmp_path / "run", init=student, states=128)
    hook = States()
    finetune(config.__class__(**{**vars(config), "teacher_preset": "async-rl"}), [hook])
    usual = States()
    finetune(tiny(tmp_path / "same", init=student, states=128), [usual])
    first, second = hook.points[0]["play/kl"], usual.points[0]["play/kl"]
    assert 0 < abs(first - second) < 0.5 * second  # the same states through slightly other eyes


def test_who_taught_it_so_far_teaches_on(
    tiny: Tiny, student: Path, tmp_path: Path, other_pong_zip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = finetune(tiny(tmp_path / "first", init=student, teacher=str(other_pong_zip), states=128))
    second = finetune(tiny(tmp_path / "second", init=first, states=128))
    told = load_student(second).training
    assert told.teacher == load_teacher(str(other_pong_zip), game="pong").info.fingerprint
    assert told.teacher_name == str(other_pong_zip)
    assert "not there any more" not in capsys.readouterr().out


def test_the_bundled_agent_is_named_by_its_file(
    tiny: Tiny, student: Path, tmp_path: Path, other_pong_zip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The game's name stands for nobody in particular."""
    first = finetune(tiny(tmp_path / "first", init=student, teacher=str(other_pong_zip), states=128))
    finetune(tiny(tmp_path / "second", init=first, teacher="pong", states=128))
    told = " ".join(capsys.readouterr().out.split())
    assert f"teacher: {other_pong_zip}, who taught the student so far; --teacher=pong-ppo is the bundled agent" in told
    third = finetune(tiny(tmp_path / "third", init=first, teacher="pong-ppo", states=128))
    assert load_student(third).training.teacher == load_teacher("pong").info.fingerprint


def test_layers_after_the_teachers_learn(tiny: Tiny, tmp_path: Path) -> None:
    """The first one is the teacher's and stays as it is."""
    config = tiny(tmp_path / "run", student={"name": "nature-half", "teacher_layers": 1}, states=128)
    before = set_up(part(validated(config), FinetuneRun))[0].net.state_dict()
    after = load_student(finetune(config)).net.state_dict()
    same = {name for name, tensor in after.items() if tensor.equal(before[name])}
    assert same == {"features.0.weight", "features.0.bias"}


def test_a_teacher_that_cannot_see_is_left_out_where_nothing_hangs_on_it(tiny: Tiny, tmp_path: Path) -> None:
    run = finetune(tiny(tmp_path / "run", preset="sb3-fast", teacher_weight=0, states=96))
    assert load_student(run).training.teacher == ""
    with pytest.raises(UserError, match="a teacher of preset sb3 sees colour screens"):
        finetune(tiny(tmp_path / "other", preset="sb3-fast", states=96))


def test_the_temperature_of_who_taught_it_is_not_passed_over(tiny: Tiny, make_agent: Any, tmp_path: Path) -> None:
    dqn = tmp_path / "pong-dqn.zip"
    dqn.write_bytes(make_agent("dqn")[1].read_bytes())
    first = finetune(replace(tiny(tmp_path / "first", teacher=str(dqn), states=96), tau=0.5))
    assert load_student(first).training.teacher_tau == 0.5
    with pytest.raises(UserError, match=r"--tau=0\.3, but .*pong-dqn\.zip taught the student so far at 0\.5"):
        finetune(replace(tiny(tmp_path / "third", init=first, states=128), tau=0.3))
    finetune(tiny(tmp_path / "second", init=first, states=128))
    assert load_student(tmp_path / "second").training.teacher_tau == 0.5


def test_a_teacher_that_is_gone_is_missed(
    tiny: Tiny, student: Path, tmp_path: Path, other_pong_zip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone-pong.zip"
    gone.write_bytes(other_pong_zip.read_bytes())
    first = finetune(tiny(tmp_path / "first", init=student, teacher=str(gone), states=128))
    gone.unlink()
    finetune(tiny(tmp_path / "second", init=first, states=128))
    out = " ".join(capsys.readouterr().out.split())
    assert "who taught the student so far, is not there any more, or another agent now" in out
    assert "learns from reward and pong " in out


def test_divergence_is_said(tiny: Tiny, student: Path, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"finetuning stopped: loss .*last good checkpoint.*lower --finetune.learn"):
        finetune(tiny(tmp_path / "run", init=student, learning_rate=1e30, max_grad_norm=1e30, states=1024))
    once = {"n_epochs": 1, "batch_size": 32, "critic_warmup": 0, "states": 64}
    with pytest.raises(DivergedError, match=r"the last update left weights that are NaN or infinite"):
        finetune(tiny(tmp_path / "once", init=student, learning_rate=1e39, max_grad_norm=1e30, **once))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{student}", "--student.name=nature"], "another network than --student.name=nature asks for"),
        (["{student}", "--student.init=x"], "is of `distill train`; use --finetune.init"),
        (["{student}", "--env=breakout"], "plays pong, not breakout"),
        (
            ["--finetune.critic_warmup=5", "--finetune.init=pong", "--finetune.states=5"],
            r"--finetune.states must be above 4096, or the policy never moves: the warm-up takes 2048 of them \(whole "
            "rollouts\\), and at the update of the last rollout, 2048, the rate is 0; got 5",
        ),
        (["{student}", "--finetune.states=22528"], "must be above 22528, or the policy never moves: the warm-up takes"),
        (
            ["--finetune.num_envs=2", "--finetune.n_steps=16", "--finetune.batch_size=16", "--finetune.states=32"],
            "must be above 32, or the policy never moves: at the update of the last rollout, 32, the rate is 0; got 32",
        ),
        (["--finetune.critic_warmup=5"], "--finetune.critic_warmup is of --finetune.init; add that, or leave it out"),
        (["--finetune.teacher_score=3"], "--finetune.teacher_score is of --finetune.schedule=score; add that"),
        (
            ["--finetune.schedule=constant", "--finetune.schedule_until=0.5"],
            "schedule_until is of --finetune.schedule=linear",
        ),
        (["--finetune.teacher_weight=0", "--finetune.clipped_kl=true"], "but --finetune.teacher_weight is 0"),
        (
            ["--finetune.teacher_weight=0", "--finetune.schedule=score"],
            "--finetune.schedule is for the teacher's weight",
        ),
        (["--finetune.teacher_weight=0", "--finetune.schedule_until=0.5"], "--finetune.schedule_until is for the tea"),
        (["--student.init=x"], "--student.init=x is of `distill train`; use --finetune.init"),
        (["--finetune.batch_size=7"], "--finetune.batch_size must be a divisor of num_envs . n_steps = 2048 above 1"),
        (["nowhere"], "nowhere"),
        (["{student}", "--finetune.init=pong"], "and --finetune.init both say whom to go on with; leave one of them"),
        (
            ["--finetune.teacher_weight=0", "--finetune.schedule=score", "--finetune.teacher_score=3"],
            "--finetune.teacher_score is for the teacher's weight, but --finetune.teacher_weight is 0",
        ),
        (
            ["{student}", "--teacher={student}", "--finetune.schedule=score"],
            "give its mean score as --finetune.teacher_score",
        ),
        (["{student}", "--preset=sb3-fast"], "preset"),
    ],
)
def test_bad_input(
    words: list[str], message: str, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.format(student=student) for word in words]
    assert main(["finetune", *given, f"--finetune.out={tmp_path / 'run'}", "--device=cpu"]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "run").exists()
