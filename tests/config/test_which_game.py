"""The game that settings mean: from the teacher, data, agents or scores that they name, never against them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.cli.command import main
from distill.collect.settings import CollectConfig
from distill.config.config import Config
from distill.config.stages import collect
from distill.config.validate import validated
from distill.config.which_game import CLUES, Verdict, which_game
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.evaluate.settings import EvaluateConfig
from distill.networks.nets import AtariCNN, NetSpec
from distill.networks.settings import StudentConfig
from distill.records.seal import sealed
from distill.report.settings import ReportConfig
from distill.shrink.settings import ShrinkConfig
from distill.students.folder import save_student
from distill.sweep.settings import SweepConfig
from distill.task import Task
from distill.train.settings import TrainConfig
from teachers.layouts import bundled_teachers

SI = "space_invaders"


@pytest.fixture
def zips(tmp_path: Path) -> Path:
    """Agents under names that tell their game, another one, or none."""
    for name in ("ppo-SpaceInvadersNoFrameskip-v4", "best_model"):
        shutil.copy(bundled_teachers()["space-invaders-ppo"], tmp_path / f"{name}.zip")
    shutil.copy(bundled_teachers()["pong-ppo"], tmp_path / "a2c-PongNoFrameskip-v4.zip")
    return tmp_path


@pytest.fixture
def breakout_student(tmp_path: Path) -> Path:
    task = Task("breakout", "sb3", get_preset("sb3").hash, 4)
    save_student(tmp_path / "run" / "student", AtariCNN(NetSpec(((2, 8, 4),), ()), 4), task)
    return tmp_path / "run"


def test_nothing_given_is_pong() -> None:
    for stage in (None, "collect", "train", "imitate", "rounds", "finetune", "sweep", "pbt", "evaluate", "report"):
        assert which_game(Config(), stage) == Verdict("pong", "by default")
    assert which_game(Config(env="ALE/Breakout-v5"), "collect") == Verdict("breakout", "from --env")


def test_the_teacher_tells(zips: Path) -> None:
    path = str(zips / "ppo-SpaceInvadersNoFrameskip-v4.zip")
    for stage in (None, "collect", "train", "imitate", "rounds", "finetune", "sweep", "pbt", "evaluate", "report"):
        assert which_game(Config(teacher=path), stage) == Verdict(SI, f"from --teacher {path}: its file name")
    assert which_game(Config(teacher="breakout"), "collect") == Verdict("breakout", "from --teacher breakout: its data")
    assert which_game(Config(teacher="hf://sb3/dqn-BreakoutNoFrameskip-v4"), "collect").game == "breakout"
    with pytest.raises(UserError, match=rf"teacher {path} plays space_invaders, not pong; set --env or --teacher"):
        which_game(Config(env="pong", teacher=path), "collect")


def test_a_teacher_that_does_not_tell(zips: Path) -> None:
    path = str(zips / "best_model.zip")
    for stage in (None, "collect", "evaluate"):
        with pytest.raises(UserError, match=f"cannot tell which game {path} plays; name it with --env"):
            which_game(Config(teacher=path), stage)
    assert which_game(Config(env=SI, teacher=path), "collect") == Verdict(SI, "from --env")


def test_a_teacher_that_is_not_there() -> None:
    with pytest.raises(UserError, match="unknown teacher 'nobody'"):
        which_game(Config(teacher="nobody"), "collect")
    assert which_game(Config(env="pong", teacher="nobody"), "collect").game == "pong"  # the stage says what is missing


def other(**sections: Any) -> Config:
    return Config(**sections)


def test_the_papers_of_students_tell(breakout_student: Path, zips: Path) -> None:
    run = str(breakout_student)
    for stage, config in (
        ("collect", other(collect=CollectConfig(actor=run))),
        ("train", other(student=StudentConfig(init=f"{run}/student"))),
        ("evaluate", other(evaluate=EvaluateConfig(agents=["teacher", f"mine={run}"]))),
        ("evaluate", other(evaluate=EvaluateConfig(agents=[f"{run}/student/student.zip"]))),
    ):
        assert which_game(config, stage).game == which_game(config).game == "breakout"
    with pytest.raises(UserError, match="no finished student at nobody"):
        which_game(other(collect=CollectConfig(actor="nobody")), "collect")
    pong = str(zips / "a2c-PongNoFrameskip-v4.zip")
    mixed = other(evaluate=EvaluateConfig(agents=[run, pong]))
    message = rf"student {run} plays breakout, but teacher {pong} plays pong; change --evaluate.agents$"
    with pytest.raises(UserError, match=message):
        which_game(mixed, "evaluate")


def test_a_flag_is_named_once(breakout_student: Path) -> None:
    with pytest.raises(UserError, match=r"plays pong, but student .* plays breakout; change --evaluate\.agents$"):
        which_game(other(evaluate=EvaluateConfig(agents=["pong", str(breakout_student)])), "evaluate")


def test_a_comma_of_a_folder_is_told_before_its_parts_are_looked_for(tmp_path: Path) -> None:
    (tmp_path / "lr=0.1,seed=2").mkdir()
    halves = f"{tmp_path}/lr=0.1,seed=2".split(",")
    with pytest.raises(UserError, match=r"lr=0\.1,seed=2 has a comma in its name; put it in quotes"):
        which_game(other(evaluate=EvaluateConfig(agents=halves)), "evaluate")


@pytest.mark.parametrize(
    "config",
    [
        {"teacher": "~nobody-here/x.zip"},
        {"collect": CollectConfig(actor="~nobody-here/run")},
        {"train": TrainConfig(data="~nobody-here/data")},
        {"evaluate": EvaluateConfig(agents=["a=~nobody-here/x"])},
        {"report": ReportConfig(scores="~nobody-here/scores.json")},
    ],
)
def test_a_home_of_nobody(config: dict[str, Any]) -> None:
    for stage in ("collect", "train", "evaluate", "report"):
        if stage in config or "teacher" in config:
            with pytest.raises(UserError, match=r"~nobody-here/.* begins with the home folder of nobody here"):
                which_game(other(**config), stage)


def test_the_dataset_tells(pong_copy: Path, tmp_path: Path) -> None:
    manifest = json.loads((pong_copy / "dataset.json").read_text())
    manifest["identity"]["game"] = "breakout"
    (pong_copy / "dataset.json").write_text(json.dumps(sealed(manifest)))
    config = other(train=TrainConfig(data=str(pong_copy)))
    for stage in ("train", "sweep"):
        assert which_game(config, stage) == Verdict("breakout", f"from --train.data {pong_copy}")
    assert which_game(config, "collect").game == "pong"  # it is not what this stage reads
    grid = other(sweep=SweepConfig(grid={"train.data": [str(pong_copy)], "seed": [1]}))
    assert which_game(grid, "sweep").game == "breakout"
    with pytest.raises(UserError, match=r"is of breakout, not pong; set --env or --train\.data"):
        which_game(other(env="pong", train=TrainConfig(data=str(pong_copy))), "train")
    with pytest.raises(UserError, match=r"teacher space-invaders plays space_invaders, but .* is of breakout"):
        which_game(other(teacher="space-invaders", train=TrainConfig(data=str(pong_copy))), "train")
    with pytest.raises(UserError, match="no dataset at"):
        which_game(other(train=TrainConfig(data=str(tmp_path / "none"))), "train")


def test_scores_tell(tmp_path: Path) -> None:
    empty = ("human_normalized", "share_of_teacher", "val_kl", "val_action_error", "val_jacobian_cosine")
    agent = {"kind": "teacher", "what": "breakout", "fingerprint": "0", "parameters": 1, "returns": [2.0], "mean": 2.0}
    agents = {"a": {**agent, "median": 2.0, "iqm": 2.0, "ci95": [2.0, 2.0], **dict.fromkeys(empty)}}
    record = {
        "game": "breakout",
        "preset": "sb3",
        "protocol": "zoo",
        "games": 1,
        "seed": 1,
        "command": "distill evaluate",
    }
    record["agents"] = agents
    (tmp_path / "scores.json").write_text(json.dumps(record))
    config = other(report=ReportConfig(scores=str(tmp_path / "scores.json")))
    assert which_game(config, "report") == Verdict("breakout", f"from --report.scores {tmp_path}/scores.json")


def test_resolving_twice_changes_nothing(zips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(teacher=str(zips / "ppo-SpaceInvadersNoFrameskip-v4.zip"))
    once = validated(config)
    assert once.env == SI
    assert validated(once) == validated(once, "collect") == once
    assert capsys.readouterr().out.startswith("game: space_invaders (from --teacher ")
    assert validated(Config()) == validated(validated(Config())) == Config(env="pong")


def test_data_tells_where_a_ladder_learns_from_it(pong_copy: Path) -> None:
    data = TrainConfig(data=str(pong_copy))
    by = {name: Config(train=data, shrink=ShrinkConfig(by=name)) for name in ("train", "imitate")}  # type: ignore[arg-type]
    assert which_game(by["train"], "shrink") == Verdict("pong", f"from --train.data {pong_copy}")
    assert which_game(by["imitate"], "shrink") == Verdict("pong", "by default")


def test_every_stage_says_its_game_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where it can do nothing else."""
    monkeypatch.chdir(tmp_path)
    for stage in ("train", "imitate", "rounds", "finetune", "sweep", "pbt", "shrink", "evaluate", "report", "attack"):
        words = [
            stage,
            "--env",
            "enduro",
            "--seed",
            "-1",
            *(["--sweep.grid", "{seed: [1]}"] if stage == "sweep" else []),
        ]
        assert main(words) == 1
        assert capsys.readouterr().out.splitlines()[0] == "game: enduro (from --env)"
    assert {stage for clue in CLUES for stage in clue.stages} == {
        "collect",
        "train",
        "imitate",
        "rounds",
        "finetune",
        "sweep",
        "pbt",
        "shrink",
        "evaluate",
        "report",
        "attack",
    }


@pytest.mark.parametrize("through", ["command", "api"])
def test_collect_plays_what_the_teacher_plays(zips: Path, tmp_path: Path, through: str) -> None:
    path, out = str(zips / "ppo-SpaceInvadersNoFrameskip-v4.zip"), tmp_path / "data"
    small: dict[str, Any] = {"out": str(out), "states": 8, "num_envs": 2, "shard_states": 4}
    if through == "api":
        collect(Config(teacher=path, device="cpu", collect=CollectConfig(**small)))
    else:
        assert (
            main(["collect", "--teacher", path, *(f"--collect.{name}={value}" for name, value in small.items())]) == 0
        )
    assert json.loads((out / "dataset.json").read_text())["identity"]["game"] == SI


def test_an_exported_student_acts(make_config: Callable[..., Config], tmp_path: Path, breakout_student: Path) -> None:
    shutil.copy(breakout_student / "student" / "student.zip", tmp_path / "exported.zip")
    small = {"states": 8, "num_envs": 2, "shard_states": 4}
    names = set()
    for number, actor in enumerate(("run", "run/student", "run/student/student.zip", "exported.zip")):
        collection = {"actor": str(tmp_path / actor), "out": str(tmp_path / str(number)), **small}
        names.add(collect(make_config(collect=collection)).writer)
    assert len(names) == 1
    assert names.pop().startswith("student-")
