"""One student of several games through the real stage: what it shares, that it learns, goes on and plays."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from distill.cli.command import main
from distill.config.config import Config
from distill.config.stages import collect, multitask
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.multitask.nets import make_students
from distill.networks.settings import StudentConfig
from distill.students.folder import load_student
from distill.train.hooks import Hook, Status
from teachers.formats.onnx_file import load_onnx
from teachers.load import find_teacher
from tests.fixtures.attacks import BY_NAME, FAILS
from tests.fixtures.files import wait_for

MakeConfig = Callable[..., Config]
GAMES = {"breakout": 4, "pong": 6}
LANES = {"num_envs": 2}
PLAYS: dict[str, Any] = {"multitask": {"games": 2}}
SMALL: dict[str, dict[str, Any]] = {
    "student": {"convs": [(4, 8, 4)], "hidden": [8]},
    "train": {
        "steps": 24, "batch_size": 16, "warmup": 3, "learning_rate": 0.01, "val_every": 6, "val_states": 30,
        "checkpoint_every": 4, "log_every": 2,
    },
    "objective": {"jacobian_weight": 0.01, "jacobian_schedule": "constant"},
}  # fmt: skip


@pytest.fixture(scope="module")
def breakout_data(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("breakout") / "data"
    small = {"out": str(out), "states": 400, "num_envs": 4, "shard_states": 100}
    collect(make_config(env="breakout", collect=small))
    return out


@pytest.fixture
def both(make_config: MakeConfig, pong_data: Path, breakout_data: Path, tmp_path: Path) -> Callable[..., Config]:
    """``both(out="run", multitask={...}, train={...})``."""

    def make(out: str = "run", **changes: Any) -> Config:
        sections = {name: {**section, **changes.pop(name, {})} for name, section in SMALL.items()}
        several = {"data": [str(pong_data), str(breakout_data)], "out": str(tmp_path / out)}
        return make_config(**sections, multitask={**several, **changes.pop("multitask", {})}, **changes)

    return make


class Foreign(torch.nn.Module):
    """A network of somebody's, without a trunk that one could tell."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(4 * 84 * 84, num_actions)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))  # type: ignore[no-any-return]


def weights(folder: Path, game: str) -> dict[str, Tensor]:
    return load_file(folder / game / "student" / "model.safetensors")


def test_one_trunk_and_a_head_for_each(both: Callable[..., Config], capsys: pytest.CaptureFixture[str]) -> None:
    folder = multitask(both())
    pong, breakout = weights(folder, "pong"), weights(folder, "breakout")
    assert {name for name in pong if name.startswith("features.")} == {
        name for name in pong if pong[name].shape == breakout[name].shape
    }
    assert all(pong[name].equal(breakout[name]) for name in pong if name.startswith("features."))
    fresh = make_students(StudentConfig(**SMALL["student"]), {"pong": 6, "breakout": 4})
    sharing = sum(parameter.numel() for parameter in fresh.parameters())
    alone = sum(sum(p.numel() for p in fresh[game].parameters()) for game in GAMES)
    assert sharing < alone
    for game, actions in GAMES.items():
        student = load_student(folder / game)
        assert (student.task.game, student.task.num_actions, student.training.teacher_name) == (game, actions, game)
        assert student.training.metrics["val_jacobian_cosine"] is not None
        assert student.training.jacobian_scale != 1
        obs = np.random.default_rng(0).integers(0, 256, (2, 4, 84, 84), dtype=np.uint8)
        loaded = PPO.load(folder / game / "student" / "student.zip", device="cpu")
        with torch.no_grad():
            features = loaded.policy.extract_features(torch.from_numpy(obs))
            theirs = loaded.policy.action_net(loaded.policy.mlp_extractor(features)[0])
            torch.testing.assert_close(theirs, student.net(torch.from_numpy(obs) / 255))
    events = EventAccumulator(str(folder)).Reload()
    steps = [point.step for point in events.Scalars("val/kl_pong")]
    assert steps == [6, 12, 18, 24]
    for game in GAMES:
        kl = [point.value for point in events.Scalars(f"val/kl_{game}")]
        assert min(kl[1:]) < kl[0], "each is learned"
    mean = [point.value for point in events.Scalars("val/kl")]
    product = [
        p.value * b.value for p, b in zip(events.Scalars("val/kl_pong"), events.Scalars("val/kl_breakout"), strict=True)
    ]
    assert mean == pytest.approx(np.sqrt(product), rel=1e-4)
    assert "one trunk" in capsys.readouterr().out
    multitask(both())
    assert "already trained; nothing to do" in capsys.readouterr().out


def test_a_killed_one_goes_on_to_the_bit(
    both: Callable[..., Config], start: Callable[..., Any], pong_data: Path, breakout_data: Path, tmp_path: Path
) -> None:
    whole = multitask(both("whole", train={"steps": 600, "val_every": 100}))
    words = ["multitask", f"--multitask.data=[{pong_data},{breakout_data}]", f"--multitask.out={tmp_path / 'cut'}"]
    words += ["--student.convs=[[4,8,4]]", "--student.hidden=[8]", "--objective.jacobian_weight=0.01", "--device=cpu"]
    words += ["--objective.jacobian_schedule=constant", "--train.steps=600", "--train.batch_size=16"]
    words += ["--train.warmup=3", "--train.learning_rate=0.01", "--train.val_every=100", "--train.val_states=30"]
    words += ["--train.checkpoint_every=4", "--train.log_every=2"]
    process = start(*words)
    wait_for(tmp_path / "cut" / "checkpoints" / "last.pt")
    assert (tmp_path / "cut" / "checkpoints" / "last.pt").exists(), process.stderr.read_text()
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "cut" / "pong").exists()
    assert start(*words).wait() == 0
    for game in GAMES:
        one, other = weights(whole, game), weights(tmp_path / "cut", game)
        assert all(one[name].equal(other[name]) for name in one)


def test_weights_lambdas_and_two_teachers_of_one_game(
    both: Callable[..., Config], make_config: MakeConfig, other_pong_zip: Path, pong_data: Path, tmp_path: Path
) -> None:
    small = {"out": str(tmp_path / "other"), "states": 200, "num_envs": 2, "shard_states": 100}
    collect(make_config(env="pong", teacher=str(other_pong_zip), collect=small))
    several = {
        "data": [str(pong_data), str(tmp_path / "other")], "weights": [3.0, 1.0], "jacobian_weights": [0.02, 0.0]
    }  # fmt: skip
    folder = multitask(both(multitask=several))
    student = load_student(folder / "pong")
    assert student.training.teacher == Dataset(pong_data).identity.teacher
    assert student.training.jacobian_weight == 0.02
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["checkpoints", "pong"]
    events = EventAccumulator(str(folder)).Reload()
    assert {"val/kl_pong1", "val/kl_pong2"} <= set(events.Tags()["scalars"])


def test_all_play_at_the_end(both: Callable[..., Config], capsys: pytest.CaptureFixture[str]) -> None:
    """The games of untrained students are short."""
    played = {"games": 1, "num_envs": 1}
    config = both(train={"steps": 4}, multitask={"games": 1}, evaluate=played)
    folder = multitask(config)
    text = capsys.readouterr().out
    assert "one student, 1 whole games of each" in text
    assert "zoo: sampled" in text.rpartition("one student")[2]
    for game in GAMES:
        record = json.loads((folder / game / "scores" / "scores.json").read_text())
        assert record["game"] == game
        assert set(record["agents"]) == {"teacher", "student"}
    with pytest.raises(
        UserError, match=r"scores.json is of number of games 1, not 2; move .*/pong/scores away, or let"
    ):
        multitask(both(train={"steps": 4}, multitask={"games": 2}, evaluate=played))
    more = both(train={"steps": 4}, multitask={"games": 1, "out": str(folder)}, evaluate={**played, "attack": "noise"})
    with pytest.raises(UserError, match=r"is of games under another attack.*; move "):
        multitask(more)
    shutil.rmtree(folder / "pong" / "scores")
    shutil.rmtree(folder / "breakout" / "scores")
    capsys.readouterr()
    multitask(more)
    assert "under attack: noise, eps 2 of 255" in capsys.readouterr().out.rpartition("one student")[2]


def test_a_plan_is_made_of_a_datasets_own_steps(both: Callable[..., Config], pong_data: Path) -> None:
    """Derivatives last less long where a dataset is passed over less often, whatever the others get."""
    steps = 20 * 600 // 16  # at most 20 passes over both, 10 over one of the two
    auto = {"objective": {**SMALL["objective"], "jacobian_until": "auto", "jacobian_schedule": "cosine"}}
    few = both(train={"steps": steps, "val_every": steps}, multitask={"weights": [1.0, 20.0]}, **auto)
    folder = multitask(few)
    until = {game: load_student(folder / game).training.objective["jacobian_until"] for game in GAMES}
    assert until == {"pong": 0.3, "breakout": 0.5}


def test_the_learning_rate_is_that_of_whose_turn_it_is(both: Callable[..., Config]) -> None:
    """auto lets lambda fall, and the rate rise, for longer where data are passed over often."""
    rates = []

    class Watch(Hook):
        def stepped(self, now: Status) -> None:
            rates.append(now.learning_rate)

    mixed = both(
        train={"learning_rate": "auto", "warmup": 0, "steps": 400, "states": 250, "val_every": 400},
        multitask={"weights": [1.0, 3.0]},
        objective={"jacobian_until": "auto", "jacobian_schedule": "linear"},
    )
    folder = multitask(mixed, [Watch()])
    untils = {game: load_student(folder / game).training.objective["jacobian_until"] for game in GAMES}
    assert untils == {"pong": 0.3, "breakout": 0.5}  # 100 and 300 of the steps: 6 and 19 passes
    cosine = (1 + np.cos(np.pi * np.array([160, 161]) / 400)) / 2  # over all steps
    # Step 120 of Breakout's 300, where a fifth of lambda is left, and 40 of Pong's 100, where none is.
    assert rates[160:162] == pytest.approx(np.array([0.0026, 0.003]) * cosine)


def test_one_onnx_file_is_told_the_game(
    both: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = multitask(both(train={"steps": 4}))
    out = tmp_path / "both.onnx"
    assert main(["export", str(folder), "--format", "onnx", "--out", str(out)]) == 0
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).random((3, 4, 84, 84), dtype=np.float32)
    (logits,) = session.run(None, {"pixels": x, "game": np.array([0, 1, 0])})
    assert logits.shape == (3, 6)
    for number, (game, actions) in enumerate(GAMES.items()):
        with torch.no_grad():
            want = load_student(folder / game).net(torch.from_numpy(x)).numpy()
        mine = np.array([0, 1, 0]) == number
        np.testing.assert_allclose(logits[mine, :actions], want[mine], atol=1e-5)
        assert (logits[mine, actions:] < -1e8).all()
    papers = json.loads(session.get_modelmeta().custom_metadata_map["distilled"])
    assert papers["games"] == list(GAMES)
    with pytest.raises(
        UserError, match=r"has inputs pixels, game, and an agent has one, pixels; .* name the run of one"
    ):
        load_onnx(out)
    assert main(["export", str(folder), "--format", "sb3", "--out", str(tmp_path / "both.zip")]) == 1
    assert main(["export", str(folder), "--format", "onnx", "--out", str(out)]) == 1
    shutil.copytree(folder / "pong", folder / "pong2")
    assert main(["export", str(folder), "--format", "onnx", "--out", str(tmp_path / "twice.onnx")]) == 1
    assert "has several students of pong; export each" in capsys.readouterr().err
    with pytest.raises(Exception, match=r"out of|index"):
        session.run(None, {"pixels": x, "game": np.array([0, -1, 0])})


def test_a_file_of_all_games_waits_for_the_last(
    both: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Students are written one after another; the checkpoint, or else the data, says of which games."""
    folder, out = multitask(both(train={"steps": 4})), tmp_path / "x.onnx"
    words = ["export", str(folder), "--format", "onnx", "--out"]
    out.symlink_to(tmp_path / "nowhere")
    assert main([*words, str(out)]) == 1
    assert "x.onnx exists; choose another --out" in " ".join(capsys.readouterr().err.split())
    out.unlink()
    kept = (folder / "breakout").rename(tmp_path / "breakout")
    for _ in range(2):
        assert main([*words, str(out)]) == 1
        assert "has no student of breakout yet; the same command finishes it" in " ".join(
            capsys.readouterr().err.split()
        )
        assert not out.exists()
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    config = folder / "config.yaml"
    config.write_text(re.sub("- /.*", "- /nowhere/data", config.read_text()))
    assert main([*words, str(out)]) == 1
    assert "whether these are all its games cannot be told" in " ".join(capsys.readouterr().err.split())
    kept.rename(folder / "breakout")
    assert main([*words, str(out)]) == 0


def test_a_folder_of_runs_is_no_student_of_several_games(
    both: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = multitask(both(train={"steps": 4}))
    around = tmp_path / "around"
    around.mkdir()
    shutil.copytree(folder / "pong", around / "mine")
    assert main(["export", str(around), "--out", str(tmp_path / "x.onnx")]) == 1
    assert "around is no student, but holds some; name one of them: " in " ".join(capsys.readouterr().err.split())
    assert main(["info", str(folder)]) == 1
    assert f"{folder}/breakout, {folder}/pong" in " ".join(capsys.readouterr().err.split())
    assert main(["export", str(folder), "--format", "onyx", "--out", str(tmp_path / "x.onnx")]) == 1
    assert "unknown format 'onyx' (did you mean 'onnx'?)" in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"multitask": {"data": []}}, r"--multitask\.data must be at least one dataset"),
        ({"multitask": {"weights": [1.0]}}, r"--multitask\.weights must be one for each of the 2 multitask\.data"),
        ({"multitask": {"weights": [1.0, 0.0]}}, r"--multitask\.weights must be positive"),
        ({"train": {"steps": 1}}, r"breakout.* would get none of the --train\.steps=1; raise these"),
        ({"multitask": {"weights": [1.0, 1e-5]}}, r"breakout.* would get none of the --train\.steps=24; raise these"),
        ({"teacher": "pong-ppo"}, r"distill multitask does not read --teacher: every dataset names its own"),
        ({"evaluate": {"figures": ["fi1_median"]}}, r"--evaluate\.figures is of one game; leave it out"),
        ({"evaluate": {"attack": "fgsm"}}, r"--evaluate\.attack is of whole games; add --multitask\.games"),
        ({"preset": "sb3-fast"}, r"is of preset sb3 .*, not sb3-fast .*; leave --preset out"),
        ({**PLAYS, "evaluate": {**LANES, "attack": "fgsm"}, "threat": {"target": 9}}, r"--threat\.target=9: "),
        ({**PLAYS, "evaluate": {**LANES, "attack": "fgsm"}, "threat": {"source": "x"}}, r"unknown teacher 'x'"),
        ({"train": {"adversary": BY_NAME}}, FAILS),
        (
            {"multitask": {"weights": [1.0, 0.0004]}, "train": {"steps": 1_000_000}},
            r"would get none of the steps: its part of --multitask\.weights is 0\.0004, .* thousandths; raise it",
        ),
        ({"multitask": {"weights": [1.0, 0.01]}}, r"would get none of the --train\.steps=24; raise these, or its part"),
        ({"train": {"patience": 3}}, r"distill multitask does not read --train\.patience; leave it out"),
        ({"student": {"name": f"{__name__}:Foreign", "convs": None, "hidden": None}}, "is built by a program"),
    ],
)
def test_what_cannot_work_is_refused(
    both: Callable[..., Config], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        multitask(both(**changes))
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_is_to_play_and_is_gone_is_missed_before_any_training(
    both: Callable[..., Config], make_config: MakeConfig, other_pong_zip: Path, tmp_path: Path
) -> None:
    teacher, data = shutil.copy(other_pong_zip, tmp_path / "gone-pong.zip"), tmp_path / "data"
    collect(make_config(teacher=str(teacher), collect={"out": str(data), "states": 200, "num_envs": 2}))
    Path(teacher).unlink()
    of_data = {"data": [str(data)]}
    with pytest.raises(UserError, match=r"the teacher of .*/data, who is to play .* leave --multitask\.games out"):
        multitask(both(multitask={**of_data, "games": 2}, evaluate=LANES))
    assert not (tmp_path / "run").exists()
    multitask(both(multitask=of_data))


def test_games_are_seen_to_where_the_bundled_agent_stands_in_for_a_file_that_is_gone(
    both: Callable[..., Config], make_config: MakeConfig, tmp_path: Path
) -> None:
    teacher, data = shutil.copy(find_teacher("pong").path, tmp_path / "gone-pong.zip"), tmp_path / "data"
    collect(make_config(teacher=str(teacher), collect={"out": str(data), "states": 200, "num_envs": 2}))
    Path(teacher).unlink()
    attacked = {"evaluate": {**LANES, "attack": "fgsm"}, "threat": {"target": 9}}
    with pytest.raises(UserError, match=r"--threat\.target=9: pong has actions 0 to 5"):
        multitask(both(multitask={"data": [str(data)], "games": 2}, **attacked))
    assert not (tmp_path / "run").exists()


def test_two_datasets_of_one_teacher_are_refused(both: Callable[..., Config], pong_data: Path, tmp_path: Path) -> None:
    shutil.copytree(pong_data, tmp_path / "copy")
    with pytest.raises(UserError, match="copy are of one teacher; collect its states into one dataset"):
        multitask(both(multitask={"data": [str(pong_data), str(tmp_path / "copy")]}))


def test_a_finished_run_is_of_its_data(
    both: Callable[..., Config], make_config: MakeConfig, breakout_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "pong"
    small = {"out": str(data), "states": 300, "num_envs": 4, "shard_states": 100}
    collect(make_config(collect=small))
    config = both(multitask={"data": [str(data), str(breakout_data)]})
    multitask(config)
    collect(make_config(collect=small | {"states": 500}))
    with pytest.raises(UserError, match=r"is of other data: .*pong had 3\d\d states then and has 5\d\d now; choose an"):
        multitask(config)


def test_a_finished_run_is_of_the_second_dataset_of_a_game_too(
    both: Callable[..., Config], make_config: MakeConfig, pong_data: Path, other_pong_zip: Path, tmp_path: Path
) -> None:
    small = {"out": str(tmp_path / "second"), "states": 300, "num_envs": 4, "shard_states": 100}
    collect(make_config(teacher=str(other_pong_zip), collect=small))
    config = both(multitask={"data": [str(pong_data), small["out"]]})
    multitask(config)
    collect(make_config(teacher=str(other_pong_zip), collect=small | {"states": 500}))
    with pytest.raises(UserError, match=r"second had 3\d\d states then and has 5\d\d now; choose another --multitask"):
        multitask(config)


def test_another_training_is_refused_in_its_folder(both: Callable[..., Config]) -> None:
    multitask(both())
    with pytest.raises(UserError, match=r"is a different run: .*multitask\.weights.*; choose another --multitask\.out"):
        multitask(both(multitask={"weights": [1.0, 2.0]}))
