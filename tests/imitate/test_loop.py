"""Whole runs of seconds: what they learn, what they leave, how they stop and go on."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from distill.agents.actor import Policy
from distill.cli.command import main
from distill.config.config import Config
from distill.config.stages import imitate, rounds
from distill.dataset.reader import Dataset
from distill.envs.presets import get_preset
from distill.errors import DivergedError, UserError
from distill.imitate import loop
from distill.imitate.curve import Point, read_curve
from distill.imitate.learner import Learner
from distill.imitate.player import Played, Player
from distill.losses.divergence import kl
from distill.losses.entropy import Entropy
from distill.losses.term import Seen
from distill.networks.nets import AtariCNN, NetSpec
from distill.records.data import OwnGames
from distill.students.folder import load_student, save_student
from distill.system.signals import Terminated
from distill.task import Task
from distill.train.hooks import Hook, Status
from teachers.card import read_card
from teachers.load import load_teacher
from tests.fixtures.files import wait_for

Quick = Callable[..., Config]
PRESET = get_preset("sb3")
NATURE: dict[str, Any] = {"student": {"name": "nature", "convs": None, "hidden": None}}


def load(folder: Path, name: str = "last") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)
    return content


@pytest.fixture(scope="module")
def finished(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imitate(quick(tmp_path_factory.mktemp("imitate") / "run"))


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, type[BaseException]], None]:
    """``stop_at(turn, error)``: that turn (0, 1, ...) of the next run raises while it plays."""
    play = Player.play

    def stop(turn: int, error: type[BaseException]) -> None:
        turns = iter(range(10**6))

        def stopping(self: Player, student: Policy, steps: int, share: float) -> Played:
            if next(turns) == turn:
                raise error
            return play(self, student, steps, share)

        monkeypatch.setattr(Player, "play", stopping)

    return stop


def test_it_learns(finished: Path, pong_data: Path) -> None:
    """On states that the teacher recorded elsewhere."""
    dataset, student = Dataset(pong_data), load_student(finished)
    torch.manual_seed(1)
    fresh = AtariCNN(student.net.spec, 6)
    with torch.no_grad():
        x, teacher = torch.from_numpy(dataset.stacks(np.arange(len(dataset)))) / 255, torch.from_numpy(dataset.logits)
        before, after = (float(kl(net(x), teacher).mean()) for net in (fresh, student.net))
    assert after < 0.9 * before


def test_the_curve_is_a_table_and_tensorboard_points(finished: Path) -> None:
    rows = read_curve(finished / "curve.csv")
    states = [int(row["states"]) for row in rows]
    assert states[-1] == load(finished)["progress"]["states"] >= 480
    assert all(100 <= after - before <= 116 for before, after in zip([0, *states], states[:-1], strict=False))
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == sorted(rates, reverse=True)
    assert float(rows[-1]["teacher_share"]) == 0.05
    events = EventAccumulator(str(finished)).Reload()
    points = {tag: events.Scalars(tag) for tag in ("play/kl", "train/loss", "play/teacher_share")}
    assert [point.step for point in points["play/kl"]] == states
    assert [point.value for point in points["play/kl"]] == pytest.approx([float(row["kl"]) for row in rows])


def test_a_strangers_hook_gets_every_point(quick: Quick, tmp_path: Path) -> None:
    class Watch(Hook):
        """Writes down what it is told."""

        def __init__(self) -> None:
            self.told: list[str] = []
            self.points: list[tuple[int, float]] = []

        def started(self, now: Status) -> None:
            self.told.append("started")

        def stepped(self, now: Status) -> None:
            self.told.append(f"{now.states} states")

        def measured(self, now: Status, figures: Mapping[str, float]) -> None:
            self.points.append((now.states, figures["play/kl"]))

        def ended(self, now: Status) -> None:
            self.told.append("ended")

    watch = Watch()
    folder = imitate(quick(tmp_path / "run", imitate={"states": 200}), [watch])
    assert watch.points == [(int(row["states"]), float(row["kl"])) for row in read_curve(folder / "curve.csv")]
    assert watch.told == ["started", *(f"{states} states" for states in range(16, 209, 16)), "ended"]


def test_papers_are_read_by_every_stage(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = load_student(finished).training
    assert isinstance(told.data, OwnGames)
    assert told.data.states == load(finished)["progress"]["states"]
    assert told.teacher == load_teacher("pong").info.fingerprint
    assert told.metrics["val_jacobian_cosine"] is None
    assert main(["info", str(finished)]) == 0
    assert "its own games" in capsys.readouterr().out
    words = [f"--evaluate.agents=[teacher,{finished}]", "--evaluate.games=2", "--evaluate.num_envs=2"]
    assert main(["evaluate", *words, f"--evaluate.out={tmp_path}", "--device=cpu"]) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["agents"]["run"]["val_kl"] == told.metrics["val_kl"]
    assert main(["report", f"--report.scores={tmp_path}/scores.json", f"--report.out={tmp_path}/page"]) == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert "its own games" in page
    assert "<td>0.003</td>" in page  # imitate.learning_rate, not train.learning_rate
    assert main(["export", str(finished), "--format=sb3", f"--out={tmp_path}/student.zip"]) == 0


def test_a_student_of_its_own_games_may_teach_and_record(finished: Path, tmp_path: Path, quick: Quick) -> None:
    assert load_teacher(str(finished)).info.game == "pong"
    out = tmp_path / "data"
    words = [f"--collect.actor={finished}", f"--collect.out={out}", "--collect.states=40", "--collect.num_envs=2"]
    assert main(["collect", *words, "--collect.shard_states=40", "--device=cpu"]) == 0
    assert len(Dataset(out)) == 40


def test_it_goes_on_with_equal_weights_and_new_games(
    quick: Quick, tmp_path: Path, stop_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    stop_at(20, Terminated)
    with pytest.raises(Terminated):
        imitate(quick(folder))
    before = load(folder)
    assert before["progress"]["states"] == 20 * 8 * 2
    assert before["progress"]["step"] == 2 * 18  # learning starts with 32 states: two turns
    began: dict[str, Any] = {}
    update = Learner.update

    def first_update(self: Learner, ring: Any, step: int, *rest: Any) -> Any:
        if not began:
            began.update(step=step, ring=len(ring), model=self.net.state_dict(), optimizer=self.optimizer.state_dict())
            began.update({key: torch_copy(began[key]) for key in ("model", "optimizer")})
        return update(self, ring, step, *rest)

    games: list[int] = []
    begin = Player._begin

    def begun(self: Player, lane: int) -> int:
        seed = begin(self, lane)
        games.append(int(self.games.number[lane]))
        return seed

    monkeypatch.setattr(Learner, "update", first_update)
    monkeypatch.setattr(Player, "_begin", begun)
    stop_at(10**6, Terminated)
    imitate(quick(folder))
    assert began["step"] == before["progress"]["step"]
    assert began["ring"] == 32
    for name, tensor in before["model"].items():
        assert torch.equal(began["model"][name], tensor), name
    for number, state in before["optimizer"]["state"].items():
        for name, tensor in state.items():
            assert torch.equal(began["optimizer"]["state"][number][name], tensor), (number, name)
    assert games[:2] == [2, 3]
    assert min(games) >= before["progress"]["next_game"]
    states = [int(row["states"]) for row in read_curve(folder / "curve.csv")]
    assert states == sorted(set(states))
    assert states[-1] >= 480


def torch_copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: torch_copy(item) for key, item in value.items()}
    return value.clone() if isinstance(value, torch.Tensor) else value


def test_a_kill_loses_what_came_after_the_last_checkpoint(
    quick: Quick, tmp_path: Path, stop_at: Callable[..., None]
) -> None:
    folder = tmp_path / "run"
    stop_at(25, RuntimeError)  # nobody saves because of that
    with pytest.raises(RuntimeError):
        imitate(quick(folder))
    assert load(folder)["progress"]["states"] == 320
    stop_at(10**6, RuntimeError)
    imitate(quick(folder))
    states = [int(row["states"]) for row in read_curve(folder / "curve.csv")]
    assert states == sorted(set(states))
    shutil.rmtree(folder / "student")  # killed right before it was written
    imitate(quick(folder))
    assert load_student(folder).training.data.states == states[-1]


NAMES = ",".join(column.name for column in dataclasses.fields(Point)).encode()
ROW = b"16," + b"0.5," * 10 + b"0.5"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"states\n1\n",
        b"x,y\n1,2\n",
        b"\xff\xfe\x00",
        NAMES + b"\n" + ROW + b",1,2\n",
        NAMES + b"\n" + ROW.rpartition(b",")[0] + b"\n",
        NAMES + b"\n" + ROW.replace(b"16", "²".encode()) + b"\n",
        NAMES + b"\n" + ROW + b"x" * csv.field_size_limit() + b"\n",
    ],
    ids=["empty", "a column", "other columns", "no text", "long row", "short row", "no number", "long field"],
)
def test_another_table_is_no_curve(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "curve.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"curve\.csv is not a curve of this toolkit; remove it, or choose another"):
        read_curve(tmp_path / "curve.csv")


def test_a_finished_run_is_left_alone(finished: Path, quick: Quick, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "student" / "student.json").read_bytes()
    assert imitate(quick(finished)) == finished
    assert "already trained; nothing to do" in capsys.readouterr().out
    assert (finished / "student" / "student.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"imitate": {"ring": 301, "batch_size": 17}},
            r"is a different run: imitate\.batch_size was 16",
        ),
        (
            {"seed": 2},
            r"is a different run: seed was 1, now 2; choose another --imitate\.out",
        ),
        ({"teacher": "breakout"}, r"is a different run: env was pong, now breakout"),
    ],
)
def test_another_run_in_the_folder(finished: Path, quick: Quick, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        imitate(quick(finished, **changes))


def test_another_teacher_of_the_same_name(finished: Path, quick: Quick, tmp_path: Path, other_pong_zip: Path) -> None:
    folder, zipped = tmp_path / "run", tmp_path / "pong.zip"
    shutil.copy(load_source("pong"), zipped)
    imitate(quick(folder, teacher=str(zipped), imitate={"states": 64}))
    shutil.copy(other_pong_zip, zipped)
    with pytest.raises(UserError, match=r"learned from another teacher than the one that is there now"):
        imitate(quick(folder, teacher=str(zipped), imitate={"states": 64}))
    shutil.rmtree(folder / "student")  # the same before it was finished
    with pytest.raises(UserError, match=r"learned from another teacher than the one that is there now"):
        imitate(quick(folder, teacher=str(zipped), imitate={"states": 64}))


def load_source(name: str) -> Path:
    from teachers.layouts import bundled_teachers

    return bundled_teachers()[f"{name}-ppo"]


def test_sigterm_saves(start: Callable[..., Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["imitate", "--device=cpu", "--student.convs=[[4,8,4]]", "--student.hidden=[16]", f"--imitate.out={run}"]
    words += ["--imitate.num_envs=2", "--imitate.learning_starts=16", "--imitate.log_every=32"]
    process = start(*words)
    wait_for(run / "curve.csv")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 143
    assert process.stderr.read_text() == "terminated; the same command continues\n"
    assert "saved. The same command continues." in process.stderr.with_name("stdout").read_text()
    assert load(run)["progress"]["states"] >= 32


class Strangers(nn.Module):
    """A network that no copy can be made of once it was used in training: it keeps, or makes, what has a gradient."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 8, 8), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.utils.weight_norm(nn.Linear(400, num_actions))
        self.last: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last = self.body(x)
        return self.head(self.last)  # type: ignore[no-any-return]


@pytest.mark.parametrize("form", ["online", "rounds"])
def test_a_network_that_cannot_be_copied_later(
    form: str, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It plays with the weights and buffers that it has learned by then."""
    play, seen = Player.play, []

    def noted(self: Player, student: Policy, steps: int, share: float) -> Played:
        seen.append({name: tensor.clone() for name, tensor in student.net.state_dict().items()})
        return play(self, student, steps, share)

    monkeypatch.setattr(Player, "play", noted)
    in_rounds = {"form": form, "count": 2, "states": 48, "steps": 3} if form == "rounds" else {}
    student = {"name": f"{__name__}:Strangers", "convs": None, "hidden": None}
    config = quick(tmp_path / "run", student=student, imitate={"states": 96, "val_states": 16}, rounds=in_rounds)
    folder = (rounds if form == "rounds" else imitate)(config)
    last = load_student(folder).net.state_dict()
    assert all(tensor.equal(seen[-1][name]) for name, tensor in last.items())
    for one, other in ((seen[0], seen[-2]), (seen[-2], last)):
        assert not one["head.weight_v"].equal(other["head.weight_v"])
        assert not one["body.1.running_mean"].equal(other["body.1.running_mean"])


class Fading(Entropy):
    """Its whole weight at the first step, nothing after half of them."""

    name = "fading"

    def weight_at(self, step: int, total: int) -> float:
        return self.weight * max(0.0, 1 - 2 * step / total)


@pytest.mark.parametrize("budget", [{}, {"states": None, "minutes": 0.05}])
def test_a_term_has_its_schedule_here_too(quick: Quick, tmp_path: Path, budget: dict[str, Any]) -> None:
    weights: list[tuple[float, float]] = []

    class Watch(Hook):
        def stepped(self, now: Status) -> None:
            if now.losses is not None:
                weights.append((now.states / 480, now.weights["fading"]))
                assert ("fading" in now.losses) == (now.weights["fading"] > 0)

    imitate(
        quick(tmp_path / "run", objective={"terms": {f"{__name__}:Fading": 0.5}}, imitate={"ring": 9999, **budget}),
        hooks=[Watch()],
    )
    assert 0 == weights[-1][1] < weights[0][1] <= 0.5
    assert [weight for _, weight in weights] == sorted((weight for _, weight in weights), reverse=True)
    if not budget:  # a turn's weight is that of its beginning, 16 states earlier
        turn = 16 / 480
        assert [weight for _, weight in weights] == pytest.approx(
            [0.5 * max(0.0, 1 - 2 * (used - turn)) for used, _ in weights], abs=0.002
        )


class Averaged(Entropy):
    """Gives the mean where each state's loss is asked for."""

    name = "averaged"

    def loss(self, seen: Seen) -> torch.Tensor:
        return super().loss(seen).mean()


def test_a_term_that_fails_is_refused_before_the_first_game(quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--objective\.terms: loss of averaged gives shape \(\), not \(2,\)"):
        imitate(quick(tmp_path / "run", objective={"terms": {f"{__name__}:Averaged": 1.0}}))
    assert not (tmp_path / "run").exists()


def test_a_run_that_blows_up_says_so(quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"imitation stopped: .*; try a lower --imitate\.learning_rate"):
        imitate(quick(tmp_path / "run", imitate={"learning_rate": 1e30, "max_grad_norm": 0.0}))


def test_the_last_update_is_looked_at(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ruined(net: AtariCNN, device: torch.device, lane: int) -> Policy:
        policy = Policy(net, device, lane=lane)
        if sum(parameter.requires_grad for parameter in net.parameters()) and ruined.calls > 3:  # type: ignore[attr-defined]
            net.policy.bias.data[0] = float("nan")
        ruined.calls += 1  # type: ignore[attr-defined]
        return policy

    ruined.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(loop, "Policy", ruined)
    with pytest.raises(DivergedError):
        imitate(quick(tmp_path / "run", imitate={"states": 60}))
    assert not (tmp_path / "run" / "student").exists()


def test_the_final_student_is_scored_on_what_it_plays_itself(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The papers' figures are of its own states, however many the teacher played before."""
    play, taught = Player.play, []

    def noted(self: Player, student: Policy, steps: int, share: float) -> Played:
        played = play(self, student, steps, share)
        taught.append(bool((self._lot < share).any()))
        return played

    monkeypatch.setattr(Player, "play", noted)
    imitate(quick(tmp_path / "run", imitate={"states": 64, "teacher_share": 1.0, "val_states": 64}))
    assert taught == [True] * 4 + [False] * 4


@pytest.mark.parametrize("value", ["none", "teacher"])
def test_the_zip_is_stable_baselines3s_own(quick: Quick, tmp_path: Path, value: str) -> None:
    path = tmp_path / "agents" / "pong-imitated.zip"
    fields = {"states": 64, "teacher_zip": str(path), "value": value}
    imitate(quick(tmp_path / "run", **NATURE, imitate=fields, objective={"temperature": 0.5}))
    student, model = load_student(tmp_path / "run"), PPO.load(path, device="cpu")
    obs = np.random.default_rng(0).integers(0, 256, (5, 4, 84, 84)).astype(np.uint8)
    with torch.no_grad():
        x = torch.from_numpy(obs)
        theirs = model.policy.get_distribution(x).distribution.logits
        ours = student.net(x / 255)
        torch.testing.assert_close(theirs, ours.log_softmax(-1), atol=1e-5, rtol=0)
        values = model.policy.predict_values(x)
    teacher = load_teacher(str(path))
    assert bool(values.any()) == (teacher.net.value is not None) == (value == "teacher")
    assert (teacher.info.game, teacher.info.preset, teacher.info.algorithm) == ("pong", "sb3", "imitation")
    card = read_card(path.with_suffix(".md"))
    assert card["timesteps"] == student.training.data.states
    text = path.with_suffix(".md").read_text()
    assert "by online imitation of `pong`" in text
    settings = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert (settings["objective"]["temperature"], settings["imitate"]["value"]) == (0.5, value)
    assert {"seed", "student", "tau", "preset", "teacher_preset"} < set(settings)
    path.with_suffix(".md").unlink()  # it is a teacher, not some student's export, without its card, too
    assert load_teacher(str(path)).info.algorithm == "imitation"


def test_a_zip_that_could_not_be_written_can_still_be(quick: Quick, tmp_path: Path) -> None:
    """The student comes last: with it, the run would have nothing left to do."""
    path = tmp_path / "own.zip"
    fields = {"states": 64, "teacher_zip": str(path), "value": "returns"}
    with pytest.raises(UserError, match="no life ended in the ring"):
        imitate(quick(tmp_path / "run", **NATURE, imitate=fields))
    imitate(quick(tmp_path / "run", **NATURE, imitate=fields | {"ring": 3000}))
    assert "value head fitted to returns" in path.with_suffix(".md").read_text()
    assert load_student(tmp_path / "run").training.steps > 0


def test_it_starts_from_a_student_or_a_zip(quick: Quick, tmp_path: Path, finished: Path) -> None:
    tiny = {"states": 40, "learning_rate": 1e-12, "final_learning_rate": 1e-12}
    folder = imitate(quick(tmp_path / "student", imitate={**tiny, "init": str(finished)}))
    assert same_weights(load_student(folder).net, load_student(finished).net)
    folder = imitate(quick(tmp_path / "zip", **NATURE, imitate={**tiny, "init": "pong"}))
    assert same_weights(load_student(folder).net, load_teacher("pong").net)
    with pytest.raises(
        UserError, match=r"--imitate\.init=pong is another network than --student\.name=mnih2013 asks for"
    ):
        imitate(quick(tmp_path / "other", imitate={"init": "pong"}))


def same_weights(a: AtariCNN, b: AtariCNN) -> bool:
    theirs = b.state_dict()
    return all(torch.allclose(tensor, theirs[name], atol=1e-6) for name, tensor in a.state_dict().items())


def test_it_does_not_start_from_q_values(
    quick: Quick, make_agent: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dqn = tmp_path / "pong-dqn.zip"
    shutil.copyfile(make_agent("dqn")[1], dqn)
    with pytest.raises(UserError, match=r"--imitate\.init=.*pong-dqn\.zip gives Q-values, not a policy"):
        imitate(quick(tmp_path / "run", **NATURE, imitate={"init": str(dqn)}))
    imitate(quick(tmp_path / "run", imitate={"states": 40}, objective={"match": "cosine", "jacobian_share": 0.5}))
    told = " ".join(capsys.readouterr().out.split())
    names = told.partition("derivatives have no part in it, so passed over: ")[2].partition(";")[0]
    assert set(names.split(", ")) == {"objective.match", "objective.jacobian_share"}


def test_the_student_sees_another_preset_than_its_teacher(quick: Quick, tmp_path: Path) -> None:
    config = quick(tmp_path / "run", env="breakout", preset="sb3", teacher_preset="async-rl", imitate={"states": 64})
    student = load_student(imitate(config))
    assert (student.task.preset, student.training.teacher_preset) == ("sb3", "async-rl")
    teacher = load_teacher("breakout", preset="async-rl")
    with Player(config, PRESET, teacher, torch.device("cpu")) as player:
        student = Policy(AtariCNN(NetSpec(((2, 8, 4),), ()), 4), torch.device("cpu"))
        (row,) = player.play(student, 5, 0.0).rows[-1:]
        assert player.env.second_obs is not None
        assert not np.array_equal(player.teacher_obs()[:, -1], row.frame)
        with torch.no_grad():
            seen = torch.from_numpy(player.teacher_obs().copy())
            expected = teacher.net(seen / 255).numpy()
        np.testing.assert_allclose(player.play(student, 1, 0.0).rows[0].logits, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": {"init": "pong"}}, r"--student\.init=pong is of `distill train`; use --imitate\.init"),
        ({"imitate": {"states": 32}}, r"--imitate\.learning_starts must be below imitate\.states, 32, or nothing"),
        ({"imitate": {"teacher_zip": "x.zip"}}, r"writes CnnPolicy's own network only; add --student\.name=nature"),
        ({"imitate": {"num_envs": 64}}, r"steps are 512 states a turn, and nothing is learned in the first; let imit"),
        ({**NATURE, "imitate": {"teacher_zip": f"{__file__}/x.zip"}}, r"x\.zip would lie in .*\.py, which is a file"),
        ({**NATURE, "imitate": {"teacher_zip": "x"}}, r"--imitate\.teacher_zip must end in \.zip, got x"),
        ({"imitate": {"value": "teacher"}}, r"--imitate\.value is of --imitate\.teacher_zip; add that, or leave it"),
        ({"imitate": {"steps_per_turn": 10**12}}, r"--imitate\.steps_per_turn must be between 1 and 1000, since"),
        ({"imitate": {"states": None}}, r"--imitate\.states must be given where imitate\.minutes is not, got null"),
        ({"imitate": {"learning_starts": 301}}, r"--imitate\.learning_starts must be at most imitate\.ring, got 301"),
        (
            {"objective": {"input_noise": 3.0, "jacobian_weight": 0.0}},
            r"--objective\.input_noise is of `distill train`; leave it out",
        ),
        ({"preset": "sb3-fast", "teacher_preset": "sb3"}, r"a teacher of preset sb3 sees colour screens"),
    ],
)
def test_settings_that_cannot_work(quick: Quick, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        imitate(quick(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_teacher_without_values(quick: Quick, tmp_path: Path, finished: Path) -> None:
    fields = {"teacher_zip": str(tmp_path / "x.zip"), "value": "teacher"}
    with pytest.raises(UserError, match=r"--imitate\.value=teacher, but .*run has no value head; use returns or none"):
        imitate(quick(tmp_path / "run", **NATURE, teacher=str(finished), imitate=fields))


def test_a_zip_is_not_written_over(quick: Quick, tmp_path: Path) -> None:
    (tmp_path / "x.md").write_text("a card")
    with pytest.raises(UserError, match=r"x\.md exists; choose another --imitate\.teacher_zip"):
        imitate(quick(tmp_path / "run", **NATURE, imitate={"teacher_zip": str(tmp_path / "x.zip")}))
    assert (tmp_path / "x.md").read_text() == "a card"


def test_the_same_command_finds_its_own_zip(quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = tmp_path / "own.zip", tmp_path / "run"
    config = quick(folder, **NATURE, imitate={"states": 64, "teacher_zip": str(path)})
    imitate(config)
    imitate(config)
    assert "already trained; nothing to do" in capsys.readouterr().out
    shutil.rmtree(folder / "student")  # killed after the zip
    imitate(config)
    assert load_teacher(str(path)).info.fingerprint == load_teacher(str(folder)).info.fingerprint
    later = quick(folder, **NATURE, imitate={"states": 64, "teacher_zip": str(tmp_path / "later.zip")})
    with pytest.raises(UserError, match=r"is over, and --imitate.teacher_zip is written at the end of a run; let its"):
        imitate(later)
    again = {"states": 64, "teacher_zip": str(path), "init": str(path)}
    with pytest.raises(UserError, match=r"own\.zip exists; choose another"):
        imitate(quick(tmp_path / "again", **NATURE, imitate=again))


def test_a_finished_run_has_the_zip_that_it_wrote(quick: Quick, tmp_path: Path) -> None:
    path, folder, junk = tmp_path / "own.zip", tmp_path / "run", tmp_path / "junk.zip"

    def asked(zipped: Path, value: str) -> Config:
        return quick(folder, **NATURE, imitate={"states": 64, "teacher_zip": str(zipped), "value": value})

    imitate(asked(path, "none"))
    junk.write_text("junk")
    theirs = tmp_path / "theirs.zip"
    shutil.copy(load_source("pong"), theirs)
    for other in (junk, theirs):
        with pytest.raises(UserError, match=r"is over, and .*\.zip is not a zip of its student; leave --imitate\.teac"):
            imitate(asked(other, "none"))
    for value in ("teacher", "returns"):
        with pytest.raises(UserError, match=rf"was written with --imitate\.value=none, not {value}; give that one"):
            imitate(asked(path, value))
    shutil.rmtree(folder / "student")
    imitate(asked(path, "teacher"))
    imitate(asked(path, "teacher"))
    with pytest.raises(UserError, match=r"was written with --imitate\.value=teacher, not returns; give that one"):
        imitate(asked(path, "returns"))


def test_a_student_of_another_game_is_no_beginning(quick: Quick, tmp_path: Path) -> None:
    task = Task("breakout", "sb3", "739e34ec987e", 4)
    save_student(tmp_path / "other" / "student", AtariCNN(NetSpec(((2, 8, 4),), ()), 4), task)
    with pytest.raises(UserError, match=r"teacher pong plays pong, .*breakout|breakout.*pong"):
        imitate(quick(tmp_path / "run", teacher="pong", env="pong", imitate={"init": str(tmp_path / "other")}))


def test_no_turn_repeats_the_noise_of_another(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A student that draws noise at play plays each turn with noise of its own."""
    seeds = []

    class Watched(Policy):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            seeds.append(self._noise.initial_seed())

    monkeypatch.setattr(loop, "Policy", Watched)
    imitate(quick(tmp_path / "run", student={"noise": "white"}))
    assert len(seeds) > 4
    assert len(set(seeds)) == len(seeds)
