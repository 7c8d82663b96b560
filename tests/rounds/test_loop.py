"""Whole runs of seconds, in both forms: what they keep, what they leave, how they go on after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.cli.command import main
from distill.config.config import Config
from distill.config.stages import imitate, rounds, train
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.imitate.curve import read_curve
from distill.imitate.player import Player
from distill.imitate.ring import Ring
from distill.records.data import OwnGames
from distill.rounds.lesson import Lesson
from distill.students.folder import load_student
from distill.system.files import sha256
from distill.train.hooks import Hook, Status
from tests.fixtures.files import wait_for
from tests.rounds.conftest import DERIVATIVES, ROUNDS

Quick = Callable[..., Config]


def load(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    return content


def same_weights(one: Path, other: Path) -> bool:
    a, b = (load_student(folder).net.state_dict() for folder in (one, other))
    return all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def in_rounds(quick: Quick, out: Path, **changes: Any) -> Config:
    changes["rounds"] = {**ROUNDS, "derivatives": True, **changes.get("rounds", {})}
    changes["objective"] = {**DERIVATIVES, **changes.get("objective", {})}
    return quick(out, **changes)


@pytest.fixture(scope="module")
def finished(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in rounds, with derivatives."""
    return rounds(in_rounds(quick, tmp_path_factory.mktemp("rounds") / "run"))


@pytest.fixture(scope="module")
def kept(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(an online run with derivatives, the data set of its states)."""
    home = tmp_path_factory.mktemp("online")
    keep = {"keep": str(home / "data"), "derivatives": True, "shard_states": 128}
    return rounds(quick(home / "run", rounds=keep, objective=DERIVATIVES)), home / "data"


def test_rounds_are_rows_and_points(finished: Path) -> None:
    rows = read_curve(finished / "curve.csv")
    states = [int(row["states"]) for row in rows]
    assert [int(row["step"]) for row in rows] == [0, 12, 24]
    assert all(160 * n <= count < 160 * n + 16 for n, count in enumerate(states, 1))
    assert [float(row["teacher_share"]) for row in rows] == [1.0, 0.05, 0.05]
    assert rows[0]["loss"] == ""
    assert float(rows[2]["loss"]) < float(rows[1]["loss"])
    events = EventAccumulator(str(finished)).Reload()
    points = {tag: events.Scalars(tag) for tag in ("play/kl", "train/loss", "train/jacobian_loss")}
    assert [point.step for point in points["play/kl"]] == states
    assert [point.step for point in points["train/jacobian_loss"]] == states[1:]
    assert load(finished)["progress"]["step"] == 36


def test_the_states_are_a_data_set(finished: Path) -> None:
    data = Dataset(finished / "data", verify=True)
    identity = data.identity
    assert (identity.game, identity.jacobian, identity.jacobian_share) == ("pong", "projected", 0.25)
    assert len(data) == load(finished)["progress"]["states"]
    assert data.carries.mean() == pytest.approx(0.25, abs=0.03)
    assert main(["verify", str(finished / "data")]) == 0


def test_the_student_has_papers(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = load_student(finished).training
    assert isinstance(told.data, OwnGames)
    assert told.data.states == load(finished)["progress"]["states"]
    assert (told.jacobian_weight, told.objective["jacobian_until"], told.steps) == (1.0, 0.5, 36)
    assert told.jacobian_scale == load(finished)["progress"]["jacobian_scale"] > 0
    assert main(["info", str(finished)]) == 0
    assert "its own games" in capsys.readouterr().out


def test_a_finished_run_is_left_alone(finished: Path, quick: Quick, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "student" / "student.json").read_bytes()
    assert rounds(in_rounds(quick, finished, rounds={"until_share": 0.9})) == finished
    assert "already trained; nothing to do" in capsys.readouterr().out
    assert (finished / "student" / "student.json").read_bytes() == before
    with pytest.raises(UserError, match=r"is a different run: rounds\.steps was 12, now 13"):
        rounds(in_rounds(quick, finished, rounds={"steps": 13}))


def test_online_states_are_a_data_set_that_trains(kept: tuple[Path, Path], quick: Quick, tmp_path: Path) -> None:
    run, folder = kept
    assert main(["verify", str(folder)]) == 0
    data = Dataset(folder)
    assert len(data) == load(run)["progress"]["states"] == 480
    assert data.carries.mean() == pytest.approx(0.25, abs=0.03)
    fields = {
        "data": str(folder),
        "steps": 6,
        "batch_size": 16,
        "warmup": 2,
        "val_every": 6,
        "out": str(tmp_path / "t"),
    }
    train(quick(tmp_path, train=fields, objective=DERIVATIVES))
    assert load_student(tmp_path / "t").training.data.states == 480


def test_who_keeps_changes_nothing(
    kept: tuple[Path, Path], quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same weights to the bit as without; plain online is `distill imitate`."""
    folder = rounds(quick(tmp_path / "run", rounds={"derivatives": True}, objective=DERIVATIVES))
    assert "derivatives on 0.25 of each batch until 50% of the budget" in capsys.readouterr().out
    assert same_weights(folder, kept[0])
    plain = rounds(quick(tmp_path / "plain", rounds={"keep": str(tmp_path / "data")}))
    assert "without derivatives; --rounds.derivatives=true matches them, too" in capsys.readouterr().out
    assert same_weights(plain, imitate(quick(tmp_path / "imitate")))
    assert Dataset(tmp_path / "data").identity.jacobian == "none"
    assert not same_weights(plain, folder)


def test_kept_is_what_the_ring_had(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stack by stack and in their order, through lost lives and shards that end anywhere."""
    rings: list[Ring] = []
    extend = Ring.extend

    def remember(self: Ring, rows: Any) -> None:
        if self not in rings:
            rings.append(self)
        extend(self, rows)

    monkeypatch.setattr(Ring, "extend", remember)
    keep = {"keep": str(tmp_path / "data"), "shard_states": 100}
    changes = {"imitate": {"states": 1600, "num_envs": 2, "ring": 9000, "val_states": 1}, "rounds": keep}
    rounds(quick(tmp_path / "run", env="breakout", **changes))
    data, (ring,) = Dataset(tmp_path / "data"), rings
    assert 1600 <= len(data) < 1616
    assert data.ends_game.sum() >= 2
    # The lane of each state is not kept, but its game is, and games are numbered as they begin.
    lanes = [ring.rows(lane) for lane in range(2)]
    theirs = {stack.tobytes(): logits.tobytes() for rows in lanes for stack, logits in
              zip(ring.stacks(rows), ring.column("logits", rows), strict=True)}  # fmt: skip
    stacks = data.stacks(np.arange(len(data)))
    found = [theirs.get(stack.tobytes()) for stack in stacks]
    assert None not in found
    off = [np.abs(np.frombuffer(a, np.float32) - b).max() for a, b in zip(found, data.logits, strict=True) if a]
    assert max(off) < 1e-4
    for game in np.unique(data.episode):
        steps = data.t[data.episode == game]
        assert (np.diff(steps) > 0).all()


class StopAt(Hook):
    """Raises after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def stepped(self, now: Status) -> None:
        if now.step >= self._step and now.losses is not None:
            raise RuntimeError("killed")


def test_it_goes_on_in_a_round_as_if_it_had_never_stopped(
    finished: Path, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off in the last round's steps: from the checkpoint on, every batch is the one it would have been."""
    monkeypatch.setattr("distill.rounds.loop.CHECKPOINT_STEPS", 5)
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError, match="killed"):
        rounds(in_rounds(quick, folder), [StopAt(32)])
    assert load(folder)["progress"]["step"] == 30
    shards = {path: sha256(path) for path in (folder / "data" / "shards").rglob("*.*")}
    rounds(in_rounds(quick, folder))
    assert same_weights(folder, finished)
    assert {path: sha256(path) for path in (folder / "data" / "shards").rglob("*.*")} == shards
    assert [int(row["step"]) for row in read_curve(folder / "curve.csv")] == [0, 12, 24]


def test_what_the_play_took_is_known_after_a_kill(quick: Quick, tmp_path: Path) -> None:
    """Killed in the first round's steps, before they have a checkpoint."""
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError, match="killed"):
        rounds(in_rounds(quick, folder), [StopAt(5)])
    progress, (row,) = load(folder)["progress"], read_curve(folder / "curve.csv")
    assert (progress["step"], progress["states"]) == (0, int(row["states"]))
    assert progress["seconds"] >= float(row["seconds"]) > 0
    assert progress["next_game"] >= 2


def test_it_goes_on_with_the_states_that_are_there(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the second round is played: shards stay, what is missing is played, and no game twice."""
    folder = tmp_path / "run"
    sizes: list[int] = []
    init = Lesson.__init__

    def counting(self: Lesson, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        sizes.append(len(Dataset(folder / "data")))

    class StopPlaying(Hook):
        def stepped(self, now: Status) -> None:
            if now.states > 160 + 110:
                raise RuntimeError("killed")

    monkeypatch.setattr(Lesson, "__init__", counting)
    with pytest.raises(RuntimeError, match="killed"):
        rounds(in_rounds(quick, folder), [StopPlaying()])
    before = Dataset(folder / "data")
    assert 160 + 96 <= len(before) < 320
    checks = {path: sha256(path) for path in (folder / "data" / "shards").rglob("*.*")}
    rounds(in_rounds(quick, folder))
    after = Dataset(folder / "data", verify=True)
    assert {path: sha256(path) for path in checks} == checks
    assert sizes == [160, 320, 480]
    new = set(after.episode.tolist()) - set(before.episode.tolist())
    assert min(new) > max(before.episode)
    assert set(after.episode[len(before) :].tolist()) == new
    assert main(["verify", str(folder / "data")]) == 0


@pytest.mark.parametrize("form", ["online", "rounds"])
def test_killed_at_any_moment(form: str, start: Callable[..., Any], tmp_path: Path) -> None:
    """SIGKILL, again and again: nothing that was on the disk is lost, and the same command comes to its end."""
    run, data = tmp_path / "run", tmp_path / "data"
    words = [
        "rounds", "--device=cpu", "--student.convs=[[4,8,4]]", "--student.hidden=[16]", f"--imitate.out={run}",
        "--imitate.num_envs=2", "--imitate.learning_starts=16", "--imitate.states=1200", "--imitate.batch_size=16",
        "--imitate.checkpoint_every=64", "--imitate.val_states=16", f"--rounds.form={form}", f"--rounds.keep={data}",
        "--rounds.shard_states=64", "--rounds.derivatives=true", "--objective.jacobian_share=0.25",
    ]  # fmt: skip
    words += ["--rounds.count=6", "--rounds.states=200", "--rounds.steps=20"] if form == "rounds" else []
    there: dict[Path, str] = {}
    shards = data / "shards"
    for _ in range(2):
        process, goal = start(*words), len(there) + 8
        for _ in range(600):
            if sum(1 for _ in shards.glob("*/shard.json")) * 3 >= goal:
                break
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert {path: sha256(path) for path in there} == there
        there = {path: sha256(path) for done in shards.glob("*/shard.json") for path in done.parent.iterdir()}
    process = start(*words)
    assert process.wait() == 0, process.stderr.read_text()
    assert {path: sha256(path) for path in there} == there
    assert len(Dataset(data, verify=True)) >= 1200
    assert main(["verify", str(data)]) == 0
    assert load_student(run).training.steps == load(run)["progress"]["step"] > 0


def test_sigterm_writes_what_was_played(start: Callable[..., Any], tmp_path: Path) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    words = ["rounds", "--device=cpu", "--student.convs=[[4,8,4]]", "--student.hidden=[16]", f"--imitate.out={run}"]
    words += ["--imitate.num_envs=2", "--imitate.learning_starts=16", "--imitate.log_every=32", f"--rounds.keep={data}"]
    process = start(*words)
    wait_for(run / "curve.csv")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 143
    assert len(Dataset(data, verify=True)) == load(run)["progress"]["states"] >= 32


def test_another_runs_states_are_not_its_own(kept: tuple[Path, Path], quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data holds the states of another run; choose another --rounds\.keep"):
        rounds(quick(tmp_path / "run", rounds={"keep": str(kept[1]), "derivatives": True}, objective=DERIVATIVES))
    with pytest.raises(UserError, match=r"data holds the states of another run; choose another --rounds\.keep"):
        rounds(quick(tmp_path / "other", rounds={"keep": str(kept[1])}))


@pytest.mark.parametrize("form", ["online", "rounds"])
def test_states_that_came_while_it_was_dead_are_not_its_own(
    form: str, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its first state; another run of the same settings then fills the folder."""
    keep = {**(ROUNDS if form == "rounds" else {}), "form": form, "keep": str(tmp_path / "data")}

    def asked(name: str) -> Config:
        return quick(tmp_path / name, rounds=keep, imitate={"states": 64, "val_states": 16})

    def killed(*_: Any) -> None:
        raise RuntimeError("killed")

    for _ in range(2):  # it goes on with what it has begun, though nothing was kept
        with monkeypatch.context() as patched:
            patched.setattr(Player, "play", killed)
            with pytest.raises(RuntimeError, match="killed"):
                rounds(asked("first"))
    rounds(asked("second"))
    there = len(Dataset(tmp_path / "data"))
    with pytest.raises(UserError, match=r"data holds the states of another run; choose another --rounds\.keep"):
        rounds(asked("first"))
    assert len(Dataset(tmp_path / "data")) == there


def test_rounds_and_imitate_do_not_go_on_with_each_others_runs(finished: Path, quick: Quick, tmp_path: Path) -> None:
    """What the other one asked for, such as derivatives, would be passed over in silence."""
    unfinished = tmp_path / "run"
    shutil.copytree(finished, unfinished, ignore=shutil.ignore_patterns("student"))
    with pytest.raises(UserError, match=r"run is a run of `distill rounds`; go on with that command, or choose"):
        imitate(quick(unfinished, objective=DERIVATIVES))
    plain = imitate(quick(tmp_path / "plain"))
    with pytest.raises(UserError, match=r"plain is a run of `distill imitate`; go on with that command, or choose"):
        rounds(quick(plain))


def test_states_of_others_are_not_learned_from(quick: Quick, tmp_path: Path, pong_copy: Path) -> None:
    """A teacher's recorded states among them would be a part of every lesson."""
    before = sorted(path for path in pong_copy.rglob("*"))
    with pytest.raises(UserError, match=r"holds states of teacher, and --rounds\.form=rounds learns from all that"):
        rounds(in_rounds(quick, tmp_path / "run", rounds={"keep": str(pong_copy)}))
    assert sorted(path for path in pong_copy.rglob("*")) == before


def test_what_was_refused_late_can_be_corrected(quick: Quick, tmp_path: Path) -> None:
    """The folder of the run is there, but nothing in it that other settings could spoil."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UserError, match=r"other exists and is not a dataset; choose another --rounds\.keep"):
        rounds(quick(tmp_path / "run", rounds={"keep": str(tmp_path / "other")}))
    rounds(quick(tmp_path / "run", rounds={"keep": str(tmp_path / "data")}, imitate={"states": 64}))
    assert len(Dataset(tmp_path / "data")) >= 64


@pytest.mark.parametrize(
    ("form", "imitation", "hint"),
    [("online", {"learning_starts": 290}, r"imitate\.learning_starts"), ("rounds", {}, r"rounds\.states")],
)
def test_nothing_is_made_of_a_run_that_never_learned(
    form: str, imitation: dict[str, Any], hint: str, quick: Quick, tmp_path: Path
) -> None:
    settings = {"rounds": {**ROUNDS, "states": 100_000} if form == "rounds" else {}}
    limits = {"states": None, "minutes": 0.001, **imitation}
    with pytest.raises(UserError, match=rf"ended after \d+ states, before anything was learned; .* or lower --{hint}"):
        rounds(quick(tmp_path / "run", imitate=limits, **settings))
    assert not (tmp_path / "run" / "student").exists()


def test_time_is_a_budget_too(quick: Quick, tmp_path: Path) -> None:
    weights: list[float] = []

    class Watch(Hook):
        def stepped(self, now: Status) -> None:
            weights.extend(weight for name, weight in now.weights.items() if name == "jacobian")

    limits = {"imitate": {"states": None, "minutes": 0.05}, "rounds": {"count": 1000}}
    folder = rounds(in_rounds(quick, tmp_path / "run", **limits), [Watch()])
    assert load(folder)["progress"]["seconds"] >= 3
    assert weights[0] > weights[-1]
    assert weights == sorted(weights, reverse=True)


@pytest.mark.parametrize("form", ["online", "rounds"])
def test_the_papers_know_both_rates(form: str, quick: Quick, tmp_path: Path) -> None:
    asked = {**(ROUNDS if form == "rounds" else {}), "form": form, "derivatives": True, "early_learning_rate": 0.002}
    told = load_student(rounds(quick(tmp_path / "run", rounds=asked, imitate={"states": 64}))).training
    assert (told.early_learning_rate, told.learning_rate) == (0.002, 0.003)


def test_fresh_derivatives_in_rounds(quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for at every step, so that none are kept."""
    told: list[Mapping[str, Any]] = []

    class Watch(Hook):
        def stepped(self, now: Status) -> None:
            if now.losses is not None:
                told.append(now.losses)

    config = in_rounds(quick, tmp_path / "run", objective={"jacobian_targets": "online"}, rounds={"count": 2})
    data = Dataset(rounds(config, [Watch()]) / "data")
    assert data.identity.jacobian == "none"
    assert ["jacobian" in losses for losses in told] == [True] * 12 + [False] * 12
    said = " ".join(capsys.readouterr().out.split())
    assert "not used in rounds: imitate.ring, imitate.learning_starts, imitate.log_every, imitate.checkpoint" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": {"derivatives": True}, "objective": {"jacobian_weight": 0.0}}, r"objective\.jacobian_weight is 0"),
        ({"rounds": {"early_learning_rate": 0.1}}, r"early_learning_rate is of --rounds\.derivatives=true; add that"),
        (
            {"rounds": {"teacher_score": 3.0}},
            r"--rounds\.teacher_score is of --rounds\.until_share; add that",
        ),
        ({"rounds": {"count": 3}}, r"--rounds\.count is of --rounds\.form=rounds; add that, or leave it out"),
        (
            {"rounds": {"shard_states": 64}},
            r"--rounds\.shard_states is of states that are kept; add --rounds\.keep, or",
        ),
        (
            {"rounds": {"form": "rounds"}, "imitate": {"updates_per_turn": 4}},
            r"--imitate\.updates_per_turn is of --rounds\.form=online; use --rounds\.steps",
        ),
        (
            {"rounds": {**ROUNDS, "derivatives": True}, "imitate": {"batch_size": 2}, "objective": DERIVATIVES},
            r"25% of the states carry derivatives, too few for 1 of each batch of 2; set a larger --imitate\.batch_si",
        ),
        ({"imitate": {"states": 32}}, r"--imitate\.learning_starts must be below imitate\.states, 32, or nothing"),
        (
            {"rounds": {"derivatives": True}, "env": "breakout", "preset": "sb3", "teacher_preset": "async-rl"},
            r"derivatives are by pixels that the student does not see; leave --rounds\.derivatives out",
        ),
        (
            {
                "student": {"name": "nature", "convs": None, "hidden": None},
                "imitate": {"teacher_zip": "x.zip", "value": "teacher"},
                "rounds": {"form": "rounds"},
            },
            r"--imitate\.value=teacher is fitted to the ring of --rounds\.form=online; use none",
        ),
    ],
)
def test_settings_that_cannot_work(quick: Quick, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rounds(quick(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_report_of_it(finished: Path, tmp_path: Path) -> None:
    words = [f"--evaluate.agents=[teacher,{finished}]", "--evaluate.games=2", "--evaluate.num_envs=2"]
    assert main(["evaluate", *words, f"--evaluate.out={tmp_path}", "--device=cpu"]) == 0
    told = load_student(finished).training
    assert json.loads((tmp_path / "scores.json").read_text())["agents"]["run"]["val_kl"] == told.metrics["val_kl"]
    assert main(["report", f"--report.scores={tmp_path}/scores.json", f"--report.out={tmp_path}/page"]) == 0
    assert "its own games" in (tmp_path / "page" / "index.html").read_text()
    shutil.rmtree(tmp_path / "page")
