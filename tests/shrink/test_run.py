"""Whole ladders of seconds: what they leave, that nothing is done twice, and what is refused."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.cli.command import main
from distill.config.config import Config
from distill.config.stages import collect, evaluate, shrink
from distill.errors import DivergedError, UserError
from distill.evaluate import ready
from distill.imitate.settings import ImitateConfig
from distill.records.scores import read_scores
from distill.shrink import run as module
from distill.shrink import students
from distill.shrink.check import tell_passed_over
from distill.shrink.settings import ShrinkConfig, ShrinkRun
from distill.students.folder import load_student
from distill.sweep.grid import Cell, Row, read_rows, write_rows
from teachers.protocol import Teacher
from tests.conftest import PRETRAINED
from tests.fixtures.attacks import BY_NAME, FAILS
from tests.shrink.conftest import Tiny

RUN = "network-rusu-1__seed-1"


def a_row(**changes: str) -> str:
    """A table of both precisions."""
    row = {"network": "rusu-1", "seed": "1", "run": RUN, "weights": "7", "bytes": "7"}
    row |= dict.fromkeys(("score", "score_low", "score_high", "int8_kl", "int8_action_error"), "1.5") | changes
    lines = [",".join([*row.values(), precision]) for precision in ("float32", "int8")]
    return "\n".join([",".join([*row, "precision"]), *lines, ""])


class Odd(torch.nn.Module):
    """A network that does another thing by what it sees, which no file of layers can."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(4 * 84 * 84, num_actions)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1)) * (2 if float(x.sum()) > 1e9 else 1)  # type: ignore[no-any-return]


class Bad(torch.nn.Module):
    """A network that cannot be built."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        raise ValueError(f"no room for {num_actions} actions")


ODD, BAD = f"{__name__}:Odd", f"{__name__}:Bad"


class Rule(torch.nn.Module):
    """Always the same logits, without a parameter."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.arange(6.0).expand(len(x), 6)


def rule() -> Teacher:
    return Teacher.of(Rule(), game="pong")


FLOATS = {"precisions": ["float32"]}


def table(folder: Path) -> list[Row]:
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def ladder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "ladder"))


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is trained, played and timed from now on."""
    names: list[str] = []
    places = [*((students, name) for name in ("imitate", "rounds", "train")), (ready, "evaluate"), (module, "evaluate")]
    for place, name in places:
        original = getattr(place, name)

        def noted(*given: Any, original: Any = original, name: str = name) -> Any:
            names.append(name)
            return original(*given)

        monkeypatch.setattr(place, name, noted)
    return names


def test_every_cell_has_a_row(finished: Path) -> None:
    rows = read_rows(finished / "rows.csv")
    assert [(row["network"], row["seed"], row["precision"], row["run"]) for row in rows] == [
        ("rusu-1", "1", "float32", RUN),
        ("rusu-1", "1", "int8", RUN),
    ]
    student = load_student(finished / RUN)
    for row in rows:
        scores = read_scores(finished / RUN / f"scores-{row['precision']}" / "scores.json")
        (played,) = scores.agents.values()
        assert (scores.games, scores.seed, scores.protocol) == (2, 1, "zoo")
        assert (float(row["score"]), int(row["weights"])) == (played.mean, 16_446)
        assert float(row["val_kl"]) == student.training.metrics["val_kl"]
    whole, small = (int(row["bytes"]) for row in rows)
    assert whole == (finished / RUN / "student" / "model.safetensors").stat().st_size > 4 * 16_446
    assert small == (finished / RUN / "int8" / "student.onnx").stat().st_size < whole / 2
    assert (rows[0]["int8_kl"], rows[0]["int8_action_error"]) == ("", "")
    assert 0 < float(rows[1]["int8_kl"]) < 1e-3
    assert 0 <= float(rows[1]["int8_action_error"]) <= 0.5


def test_the_table_has_the_teacher_on_top(finished: Path) -> None:
    rungs = table(finished)
    reference = read_scores(finished / "reference" / "scores.json").agents
    assert [(one["network"], one["precision"]) for one in rungs] == [
        ("teacher", "float32"),
        ("rusu-1", "float32"),
        ("rusu-1", "int8"),
    ]
    top, low = reference["teacher"].mean, reference["random"].mean
    assert low < top == float(rungs[0]["score"])
    assert (rungs[0]["share"], rungs[0]["weights"]) == ("1.0", "1687206")
    for one in rungs[1:]:
        assert float(one["share"]) == pytest.approx((float(one["score"]) - low) / (top - low))
        assert float(one["weights_share"]) == pytest.approx(16_446 / 1_687_206)
    assert float(rungs[2]["int8_cost"]) == float(rungs[1]["score"]) - float(rungs[2]["score"])
    assert all(float(one["onnxruntime_us"]) > 0 for one in rungs)
    assert [bool(one["pytorch_us"]) for one in rungs] == [True, True, False]
    assert "| rusu-1 int8 | 16,446 |" in (finished / "table.md").read_text()


def test_picture_and_tensorboard_show_it(finished: Path) -> None:
    picture = np.asarray(Image.open(finished / "shrink.png").convert("RGB"))
    assert picture.shape[0] > 600
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    rungs = {one["precision"] if one["network"] != "teacher" else "teacher": one for one in table(finished)}
    for name, one in rungs.items():
        events = EventAccumulator(str(finished / "board" / name)).Reload()
        (point,) = events.Scalars("shrink/score")
        assert (point.step, point.value) == (int(one["weights"]), pytest.approx(float(one["score"])))
    assert EventAccumulator(str(finished / "board")).Reload().Tags()["images"] == ["shrink/picture"]


def test_a_finished_ladder_is_left_alone(
    ladder: Path, tiny: Tiny, done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: (ladder / name).read_bytes() for name in ("rows.csv", "speed.csv", "table.csv", "table.md")}
    rungs = shrink(tiny(ladder))
    assert done == ["evaluate"], "the reference, which finds its scores complete"
    assert before == {name: (ladder / name).read_bytes() for name in before}
    assert [one.name for one in rungs] == ["teacher", "rusu-1", "rusu-1 int8"]
    assert "pong: how small? 2 whole games each, protocol zoo" in capsys.readouterr().out


def test_it_goes_on_where_it_was_cut_off(
    tiny: Tiny, ladder: Path, finished: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference has been played, and nothing else."""
    shutil.rmtree(ladder / RUN)
    for name in ("rows.csv", "speed.csv", "table.csv", "table.md", "shrink.png"):
        (ladder / name).unlink()
    quantise = students.write_int8

    def cut(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(students, "write_int8", cut)
    with pytest.raises(KeyboardInterrupt):
        shrink(tiny(ladder))
    assert done == ["evaluate", "imitate", "evaluate"]
    monkeypatch.setattr(students, "write_int8", quantise)
    shrink(tiny(ladder))
    assert done[3:] == ["evaluate", "evaluate"], "the reference, as it is, and int8"
    rows, want = (read_rows(folder / "rows.csv") for folder in (ladder, finished))
    for row in (*rows, *want):
        row.pop("train_seconds")
    assert rows == want


def test_what_is_gone_is_made_again(ladder: Path, tiny: Tiny) -> None:
    """The int8 file, where its comparison is there still."""
    (ladder / RUN / "int8" / "student.onnx").unlink()
    rows = read_rows(ladder / "rows.csv")
    write_rows(ladder / "rows.csv", rows[:1])
    shrink(tiny(ladder))
    assert [row["bytes"] for row in read_rows(ladder / "rows.csv")] == [row["bytes"] for row in rows]


@pytest.mark.parametrize(
    ("name", "text", "missing"),
    [
        ("speed.csv", "a,b\n1,2\n", "row 1 says no network"),
        (
            "speed.csv",
            "network,precision,runtime,microseconds,low,high\nx,float32,pytorch,fast,1,2\n",
            "has 'fast' as its microsec",
        ),
        ("rows.csv", "network,seed,precision,score\nrusu-1,1,float32,3\nrusu-1,1,int8,3\n", "row 1 says no run"),
        ("rows.csv", "network,seed,precision,run\nrusu-1,1,float32,x\nrusu-1,1,int8,x\n", "row 1 says no score"),
        ("rows.csv", a_row(score="-inf"), "row 1 has '-inf' as its score"),
        ("rows.csv", a_row(weights="1.5"), "row 1 has '1.5' as its weights"),
        ("rows.csv", a_row(bytes="-7"), "row 1 has '-7' as its bytes"),
        ("rows.csv", a_row(int8_kl="x"), "row 1 has 'x' as its int8_kl"),
        ("speed.csv", "network,precision,runtime,microseconds,low,high\nx,float32,pytorch,-1,1,1\n", "has '-1' as its"),
    ],
)
def test_damaged_tables_are_named(ladder: Path, tiny: Tiny, name: str, text: str, missing: str) -> None:
    (ladder / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name} is damaged: .*{missing}.*; remove it"):
        shrink(tiny(ladder))
    (ladder / name).unlink()
    assert len(shrink(tiny(ladder))) == 3


def test_another_agent_in_the_teachers_file(tmp_path: Path, tiny: Tiny, other_pong_zip: Path, done: list[str]) -> None:
    zipped = tmp_path / "pong.zip"
    shutil.copy(PRETRAINED / "pong-ppo.zip", zipped)
    config = tiny(tmp_path / "ladder", teacher=str(zipped), shrink={"precisions": ["float32"]})
    shrink(config)
    del done[:]
    shutil.copy(other_pong_zip, zipped)
    with pytest.raises(UserError, match=r"is of another agent called teacher; choose another --shrink\.out"):
        shrink(config)
    assert done == ["evaluate"]


def test_a_ladder_may_grow_by_networks_and_seeds(ladder: Path, tiny: Tiny, done: list[str]) -> None:
    more = {"networks": ["rusu-1", "rusu-4"], "seeds": [1, 2], "precisions": ["float32"]}
    rungs = shrink(tiny(ladder, shrink=more))
    assert done == ["evaluate", *["imitate", "evaluate"] * 3]
    assert [(one.name, one.seeds) for one in rungs] == [("teacher", 1), ("rusu-1", 2), ("rusu-4", 2)]
    assert [row["run"] for row in read_rows(ladder / "rows.csv")][2:] == [
        "network-rusu-4__seed-1",
        "network-rusu-1__seed-2",
        "network-rusu-4__seed-2",
    ]
    assert rungs[1].score_low <= rungs[1].score <= rungs[1].score_high
    assert [one.pytorch_us is None for one in rungs] == [False] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"imitate": {"states": 200}},
            "is a different run: imitate.states was 160, now 200; choose another --shrink",
        ),
        ({"shrink": {"games": 4}}, "shrink.games was 2, now 4"),
        ({"seed": 2}, "seed was 1, now 2"),
        ({"evaluate": {"num_envs": 1}}, "evaluate.num_envs was 2, now 1"),
        ({"shrink": {"by": "train"}, "train": {"data": "{}"}}, "shrink.by was imitate, now train"),
    ],
)
def test_another_ladder_is_refused(
    ladder: Path, tiny: Tiny, changes: dict[str, Any], message: str, done: list[str], pong_data: Path
) -> None:
    if "train" in changes:
        changes = {**changes, "train": {"data": str(pong_data)}}
    with pytest.raises(UserError, match=message):
        shrink(tiny(ladder, **changes))
    assert done == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": {"hidden": [8]}}, "--student.hidden would be that of every network of --shrink.networks"),
        ({"evaluate": {"attack": "noise"}}, "--evaluate.attack: a ladder plays undisturbed; leave it out"),
        ({"imitate": {"init": "pong"}}, "--imitate.init would begin every student"),
        ({"train": {"fork_from": "runs/x"}}, "--train.fork_from would begin every student"),
        ({"evaluate": {"data": "data/pong"}}, "--evaluate.data: a ladder only plays"),
        ({"shrink": {**FLOATS, "networks": ["rusu-1", BAD]}}, r"the cell with network .*:Bad, .*no room"),
        (
            {"shrink": {**FLOATS, "networks": ["rusu-1", "mnih2013"]}, "student": {"teacher_layers": 3}},
            "network mnih2013, seed 1, .*the student has 2",
        ),
        ({"teacher": "mixture:pong,pong-ppo", "student": {"teacher_layers": 1}}, "teacher_layers"),
        (
            {"shrink": {"by": "rounds"}, "imitate": {"learning_starts": 160}},
            "--imitate.learning_starts must be below",
        ),
        (
            {"shrink": {"by": "rounds"}, "rounds": {"derivatives": True}, "preset": "async-rl"},
            "derivatives are by pixels that the student does not see",
        ),
        ({"imitate": {"teacher_zip": "x.zip"}}, "--imitate.teacher_zip is of one student"),
        ({"shrink": {"games": 3}}, "--shrink.games must be a multiple of evaluate.num_envs, got 3"),
        ({"rounds": {"derivatives": True}}, "--rounds.derivatives is of --shrink.by=rounds; add that, or leave it out"),
        ({"student": {"noise": "white"}}, "rusu-1 draws noise at play, which int8 cannot; add --student.noise_at_play"),
        ({"shrink": {"networks": [ODD]}}, "PyTorch cannot export .*Odd to ONNX, so it has no int8 form"),
        ({"rounds": {"keep": "data/own"}}, "--rounds.keep is of one student"),
        ({"imitate": {"learning_starts": 160}}, "the cell with network rusu-1, seed 1, precision float32: --imitate.l"),
        ({"shrink": {"by": "train"}, "train": {"data": "nowhere"}}, "nowhere"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_played(
    tmp_path: Path, tiny: Tiny, changes: dict[str, Any], message: str, done: list[str]
) -> None:
    with pytest.raises(UserError, match=message):
        shrink(tiny(tmp_path / "ladder", env="pong", **changes))
    assert done == []
    assert not (tmp_path / "ladder").exists()


def test_int8_needs_the_extra_and_float32_does_not(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, pong_data: Path
) -> None:
    """Offline, too: students of a dataset, whose teacher is the one that labelled it."""
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    offline = {"train": {"data": str(pong_data), "steps": 4, "batch_size": 8, "val_states": 20, "warmup": 0}}
    with pytest.raises(
        UserError, match=r'--shrink.precisions with int8 needs the onnx extra: pip install -e "\.\[onnx'
    ):
        shrink(tiny(tmp_path / "ladder", shrink={"by": "train"}, **offline))
    rungs = shrink(tiny(tmp_path / "ladder", shrink={"by": "train", "precisions": ["float32"]}, **offline))
    assert [one.name for one in rungs] == ["teacher", "rusu-1"]
    assert [one.onnxruntime_us for one in rungs] == [None, None]
    (row,) = read_rows(tmp_path / "ladder" / "rows.csv")
    assert load_student(tmp_path / "ladder" / row["run"]).training.steps == 4


def test_students_may_learn_in_rounds(ladder: Path, tiny: Tiny, done: list[str], tmp_path: Path) -> None:
    """By ``distill rounds``, whose settings then matter."""
    short = {"form": "rounds", "count": 2, "states": 40, "steps": 4}
    config = tiny(tmp_path / "rounds", shrink={"by": "rounds", "precisions": ["float32"]}, rounds=short)
    shrink(config)
    assert done == ["evaluate", "rounds", "evaluate"]
    (row,) = read_rows(tmp_path / "rounds" / "rows.csv")
    assert load_student(tmp_path / "rounds" / row["run"]).training.steps == 8
    with pytest.raises(UserError, match=r"rounds\.count was 2, now 3"):
        shrink(tiny(tmp_path / "rounds", shrink={"by": "rounds"}, rounds={**short, "count": 3}))


def test_data_of_another_teacher_is_refused(
    tmp_path: Path, tiny: Tiny, pong_data: Path, other_pong_zip: Path, done: list[str]
) -> None:
    config = tiny(tmp_path / "x", teacher=str(other_pong_zip), shrink={"by": "train"}, train={"data": str(pong_data)})
    with pytest.raises(UserError, match=r"is of another teacher than .*other-pong\.zip; say with --teacher where"):
        shrink(config)
    assert done == []


def test_the_teacher_plays_by_its_own_eyes(tmp_path: Path, tiny: Tiny, make_config: Callable[..., Config]) -> None:
    """It sees sb3, as its card says, and its students another preset."""
    shrink(tiny(tmp_path / "ladder", preset="async-rl", shrink=FLOATS))
    mine = read_scores(tmp_path / "ladder" / "reference" / "scores.json").agents["teacher"]
    settings = {"agents": ["teacher"], "games": 2, "num_envs": 2, "out": str(tmp_path / "alone")}
    alone = evaluate(make_config(evaluate=settings))["agents"]["teacher"]
    assert mine.returns == alone["returns"]


def test_an_adversary_that_fails_is_missed_before_any_game(
    tmp_path: Path, tiny: Tiny, pong_data: Path, done: list[str]
) -> None:
    with pytest.raises(UserError, match=f"the cell with network rusu-1, .*{FAILS}"):
        shrink(tiny(tmp_path / "ladder", shrink={"by": "train"}, train={"data": str(pong_data), "adversary": BY_NAME}))
    assert done == []
    assert not (tmp_path / "ladder").exists()


def test_rungs_are_of_the_same_data(
    tmp_path: Path, tiny: Tiny, make_config: Callable[..., Config], done: list[str]
) -> None:
    small: dict[str, Any] = {"out": str(tmp_path / "data"), "states": 200, "num_envs": 4, "shard_states": 100}
    collect(make_config(collect=small))
    settings = {"data": small["out"], "steps": 4, "batch_size": 8, "val_states": 20, "warmup": 0}
    folder = tmp_path / "ladder"
    shrink(tiny(folder, shrink={**FLOATS, "by": "train"}, train=settings))
    collect(make_config(collect=small | {"states": 300}))
    rows = (folder / "rows.csv").read_bytes()
    del done[:]
    more = tiny(folder, shrink={**FLOATS, "by": "train", "networks": ["rusu-1", "rusu-4"]}, train=settings)
    with pytest.raises(
        UserError, match=r"data has changed since .*rusu-1.* learned from it, .*choose another --shrink"
    ):
        shrink(more)
    assert (done, (folder / "rows.csv").read_bytes()) == ([], rows)


def test_rungs_of_int8_alone_are_of_the_same_data_though_one_has_no_row_yet(
    tmp_path: Path, tiny: Tiny, make_config: Callable[..., Config]
) -> None:
    """As after a kill between a cell's int8 file and its row: a student that is there is not trained again."""
    pytest.importorskip("onnxruntime")
    small: dict[str, Any] = {"out": str(tmp_path / "data"), "states": 200, "num_envs": 4, "shard_states": 100}
    collect(make_config(collect=small))
    settings = {"data": small["out"], "steps": 4, "batch_size": 8, "val_states": 20, "warmup": 0}
    folder = tmp_path / "ladder"
    config = tiny(folder, shrink={"precisions": ["int8"], "by": "train"}, train=settings)
    shrink(config)
    (folder / "rows.csv").unlink()
    collect(make_config(collect=small | {"states": 300}))
    with pytest.raises(
        UserError, match=r"data has changed since .*rusu-1.* learned from it, .*choose another --shrink"
    ):
        shrink(config)
    assert not (folder / "rows.csv").exists()


def test_settings_of_play_that_have_no_part_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    tell_passed_over(ShrinkRun(shrink=ShrinkConfig(by="train"), imitate=ImitateConfig(ring=999, states=5)))
    told = " ".join(capsys.readouterr().out.split())
    assert told == "students learn by train, not as imitate.states, imitate.ring says (--shrink.by=imitate)"


def test_a_teacher_without_weights_is_shown_beside_the_students(
    tmp_path: Path, tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rule, which no axis of weights or bytes can show, and of which no part is for onnxruntime."""
    folder = tmp_path / "ladder"
    changes: dict[str, Any] = {"train": {"data": "nowhere"}, "evaluate": {"games": 4}}
    rungs = shrink(tiny(folder, teacher=f"{__name__}:rule", shrink=FLOATS, **changes))
    told = " ".join(capsys.readouterr().out.split())
    assert "students learn by imitate, not from train.data=nowhere (--shrink.by=train)" in told
    assert "2 whole games each, as shrink.games says, not evaluate.games=4" in told
    assert [(one.name, one.weights, one.bytes, one.weights_share) for one in rungs] == [
        ("teacher", 0, 0, None),
        ("rusu-1", 16_446, (folder / RUN / "student" / "model.safetensors").stat().st_size, None),
    ]
    assert all(one.pytorch_us for one in rungs)
    assert "| teacher | 0 |" in (folder / "table.md").read_text()


def test_what_diverges_has_no_row(ladder: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are done, and shown."""
    learn = students.imitate

    def diverging(config: Config) -> Path:
        if config.student.name == "rusu-7":
            raise DivergedError("loss nan")
        return learn(config)

    monkeypatch.setattr(students, "imitate", diverging)
    more = {"networks": ["rusu-7", "rusu-1"], "seeds": [1, 2], "precisions": ["float32"]}
    with pytest.raises(DivergedError, match="2 cells diverged and have no row: network rusu-7, seed 1, prec"):
        shrink(tiny(ladder, shrink=more))
    rows = read_rows(ladder / "rows.csv")
    assert [(row["network"], row["seed"]) for row in rows if row["precision"] == "float32"] == [
        ("rusu-1", "1"),
        ("rusu-1", "2"),
    ]
    assert [one["network"] for one in table(ladder)] == ["teacher", "rusu-1"]


def test_the_int8_file_is_an_agent_like_any(finished: Path, make_config: Callable[..., Config], tmp_path: Path) -> None:
    what = str(finished / RUN / "int8" / "student.onnx")
    settings = {"agents": [f"small={what}"], "games": 2, "num_envs": 2, "out": str(tmp_path)}
    record = evaluate(make_config(evaluate=settings))
    (want,) = read_scores(finished / RUN / "scores-int8" / "scores.json").agents.values()
    assert record["agents"]["small"]["returns"] == want.returns


def test_cells_of_a_seed_come_together() -> None:
    config = Config()
    found: list[Cell] = students.cells(config, 7)
    assert [(cell["network"], cell["precision"]) for cell in found][:3] == [
        ("rusu-25", "float32"),
        ("rusu-25", "int8"),
        ("rusu-7", "float32"),
    ]
    assert {cell["seed"] for cell in found} == {7}


def test_the_command_line_has_it(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--shrink.networks=[rusu-2]", f"--shrink.out={tmp_path}"]
    assert main(["shrink", *words]) == 1
    assert "unknown network 'rusu-2' (did you mean 'rusu-25'?)" in capsys.readouterr().err
