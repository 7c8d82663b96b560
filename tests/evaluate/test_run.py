"""``evaluate`` from agents to scores.json: a hopeless Breakout agent and students that learned from it."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.agents import video
from distill.agents.agents import Agent
from distill.agents.agents import find_agents as find
from distill.cli.command import main
from distill.config.config import Config
from distill.config.stages import collect, evaluate, report, train
from distill.config.validate import validated
from distill.dataset.reader import Dataset
from distill.dataset.used import held_out
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.evaluate import run
from distill.evaluate.held_out import fidelity
from distill.evaluate.tables import HEADER, show, table
from distill.figures.figure import OWN
from distill.figures.shares import related
from distill.records.scores import Scores
from distill.records.seal import sealed
from distill.students.folder import load_student
from distill.system.files import write_json
from teachers.load import PRETRAINED, load_teacher
from tests.fixtures.records import agent_scores, edit_record

TOP_KEYS = {
    "game", "preset", "protocol", "games", "num_envs", "seed", "data", "created", "command", "versions", "agents",
}  # fmt: skip
FIDELITY = [f"val_{figure.name}" for figure in OWN]
KEYS = {
    "kind", "what", "fingerprint", "parameters", "returns", "lengths", "mean", "median", "iqm", "ci95",
    "human_normalized", "teacher", "share_of_teacher", "share_note", *FIDELITY,
}  # fmt: skip
MakeConfig = Callable[..., Config]
RANDOM, HUMAN = 1.7, 30.5


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Breakout agent that plays nearly at random, so that its games are short."""
    path = tmp_path_factory.mktemp("teacher") / "breakout-clumsy.zip"
    with zipfile.ZipFile(PRETRAINED / "breakout-imitated.zip") as archive, zipfile.ZipFile(path, "w") as copy:
        weights = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
        weights["action_net.weight"].normal_(0, 0.01, generator=torch.Generator().manual_seed(0))
        weights["action_net.bias"].zero_()
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        copy.writestr("policy.pth", buffer.getvalue())
    return str(path)


@pytest.fixture(scope="module")
def student(teacher: str, make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder after two steps on 200 states of the clumsy teacher. Read only: change a copy."""
    folder = tmp_path_factory.mktemp("runs")
    data = str(folder / "data")
    collect(make_config(env="breakout", teacher=teacher, collect={"out": data, "states": 200, "num_envs": 4}))
    config = make_config(
        env="breakout",
        teacher=teacher,
        objective={"jacobian_weight": 0.01},
        train={"data": data, "out": str(folder / "run"), "steps": 2, "batch_size": 16},
    )
    return train(config)


@pytest.fixture
def copied(student: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(student, tmp_path / "copied"))


def find_agents(config: Config) -> list[Agent]:
    return find(config, config.evaluate.agents)


def edit_facts(folder: Path, **changes: Any) -> None:
    edit_record(folder / "student" / "student.json", **changes)


@pytest.fixture(scope="module")
def config(teacher: str, student: Path, make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Two games each of the teacher and the student."""
    return make_config(
        env="breakout",
        teacher=teacher,
        seed=8,
        evaluate={
            "agents": ["teacher", f"small={student}"],
            "games": 2,
            "num_envs": 2,
            "out": str(tmp_path_factory.mktemp("scores") / "{env}"),
        },
    )


@pytest.fixture(scope="module")
def record(config: Config) -> dict[str, Any]:
    """The evaluation of ``config``: its scores.json is there for every test that asks for this."""
    return evaluate(config)


def scores_path(config: Config) -> Path:
    return Path(config.evaluate.out.format(env=config.env)) / "scores.json"


def with_evaluate(config: Config, **changes: Any) -> Config:
    return replace(config, evaluate=replace(config.evaluate, **changes))


@pytest.fixture
def no_games(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(*args: object, **kwargs: object) -> None:
        raise AssertionError("a game was played")

    monkeypatch.setattr(run, "play", play)


def test_what_scores_json_says(record: dict[str, Any], config: Config, student: Path, teacher: str) -> None:
    written = json.loads(scores_path(config).read_text())
    assert written.pop("version") == 2
    assert len(written.pop("checksum")) == 64
    assert written == record
    assert record.keys() == TOP_KEYS
    assert (record["game"], record["preset"], record["protocol"]) == ("breakout", "sb3", "zoo")
    assert (record["games"], record["seed"]) == (2, 8)
    assert list(record["agents"]) == ["teacher", "small"]
    assert all(agent.keys() == KEYS for agent in record["agents"].values())
    assert [agent["kind"] for agent in record["agents"].values()] == ["teacher", "student"]
    assert [agent["what"] for agent in record["agents"].values()] == ["teacher", str(student)]
    # Policy weights only: the teacher's value head does not count.
    assert [agent["parameters"] for agent in record["agents"].values()] == [1_686_180, 677_172]


def test_figures_follow_from_the_returns(record: dict[str, Any]) -> None:
    for agent in record["agents"].values():
        returns = np.array(agent["returns"])
        assert len(returns) == len(agent["lengths"]) == 2
        assert all(length > 100 for length in agent["lengths"])
        assert agent["mean"] == pytest.approx(returns.mean())
        assert agent["median"] == pytest.approx(np.median(returns))
        assert agent["iqm"] == pytest.approx(stats.trim_mean(returns, 0.25))
        assert agent["ci95"][0] <= agent["mean"] <= agent["ci95"][1]
        assert agent["human_normalized"] == pytest.approx((agent["mean"] - RANDOM) / (HUMAN - RANDOM))


@pytest.mark.parametrize(("teacher_mean", "shares"), [(11.7, [1.0, 0.5]), (RANDOM, [None, None]), (0.5, [None, None])])
def test_share_of_the_teacher_above_random(teacher_mean: float, shares: list[float | None]) -> None:
    played = {
        "t": agent_scores("teacher", teacher_mean, fingerprint="f"),
        "s": agent_scores("student", 6.7, fingerprint="g", teacher="f"),
    }
    assert [agent.share_of_teacher for agent in related("breakout", played).values()] == [
        share if share is None else pytest.approx(share) for share in shares
    ]


def test_fidelity_is_that_of_training(record: dict[str, Any], student: Path) -> None:
    clumsy, small = record["agents"].values()
    assert all(clumsy[name] is None for name in FIDELITY)
    facts = json.loads((student / "student" / "student.json").read_text())
    assert small["fingerprint"] == facts["fingerprint"]
    for name in FIDELITY:
        assert small[name] == pytest.approx(facts["metrics"][name], rel=1e-4)
    assert small["val_kl"] > 0


def test_the_held_out_states_are_those_of_training(
    config: Config, teacher: str, student: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Where not all are scored, evaluation draws the same ones, and finds the same figures on them."""
    data = json.loads((student / "student" / "student.json").read_text())["dataset"]["folder"]
    few = {"data": data, "val_states": 5}
    run = train(
        make_config(
            env="breakout",
            teacher=teacher,
            objective={"jacobian_weight": 0.0},
            train={**few, "out": str(tmp_path / "run"), "steps": 2, "batch_size": 16, "val_fraction": 0.5},
        )
    )
    trained = load_student(run)
    assert len(held_out(Dataset(Path(data)), trained.training)) > 3 * few["val_states"]
    again = make_config(
        env="breakout",
        teacher=teacher,
        evaluate={"agents": [str(run)], "games": 1, "num_envs": 1, "out": str(tmp_path / "scores"), **few},
    )
    (agent,) = evaluate(again)["agents"].values()
    for name in ("val_kl", "val_total_variation"):
        assert agent[name] == pytest.approx(trained.training.metrics[name], rel=1e-5)


def test_training_games_under_another_name_are_told(
    teacher: str, student: Path, make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One dataset was made with another --collect.out, the other one by another seed."""
    for name, seed, same in (("again", 1, True), ("others", 2, False)):
        collected = {"out": str(tmp_path / name), "states": 100, "num_envs": 4, "k": 2}
        collect(make_config(env="breakout", teacher=teacher, seed=seed, collect=collected))
        asked = {"agents": [f"small={student}"], "games": 1, "num_envs": 1, "data": collected["out"]}
        scores = tmp_path / f"{name} s"
        evaluate(make_config(env="breakout", teacher=teacher, evaluate={**asked, "out": str(scores)}))
        kept = json.loads((scores / "scores.json").read_text())["agents"]["small"].get("val_repeats")
        assert (kept is not None and kept > 0.5) == same
        if same:
            page = report(make_config(env="breakout", report={"scores": str(scores), "out": str(tmp_path / "page")}))
            assert "of the states scored occur, pixel by pixel, among its training games" in page.read_text()
        told = re.findall(r"small: (\S+)% of the states scored occur", capsys.readouterr().out)
        assert [float(share) > 50 for share in told] == [same] * len(told)
        assert len(told) == 2 or not same, "when it is found, and below the table"


def test_tensorboard(record: dict[str, Any], config: Config, student: Path) -> None:
    """A student's score is a figure of its run, where HPARAMS looks for it; a teacher's is beside scores.json."""
    folder = scores_path(config).parent
    best_step = json.loads((student / "student" / "student.json").read_text())["best_step"]
    for name, where, step in (("teacher", folder / "teacher", 0), ("small", student / "best", best_step)):
        agent, events = record["agents"][name], EventAccumulator(str(where)).Reload()
        for tag, value in (
            ("whole_games/mean_reward", agent["mean"]),
            ("whole_games/mean_ep_length", np.mean(agent["lengths"])),
            ("whole_games/human_normalized_score", agent["human_normalized"]),
        ):
            point = events.Scalars(tag)[0]
            assert point.value == pytest.approx(value)
            assert point.step == step
    small = EventAccumulator(str(folder / "small")).Reload().Tags()
    assert small["scalars"] == [], "no second point of the same figure"
    assert small["histograms"] == ["whole_games/returns"]


def test_a_student_without_its_run_is_logged_beside_the_scores(config: Config, student: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(student / "student", tmp_path / "alone")
    evaluate(with_evaluate(config, agents=[str(alone)], games=1, out=str(tmp_path / "scores")))
    events = EventAccumulator(str(tmp_path / "scores" / "alone")).Reload()
    assert len(events.Scalars("whole_games/mean_reward")) == 1


def test_a_runs_best_student_has_no_part_in_the_row_of_its_student(
    config: Config, student: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(student, tmp_path / "run")
    shutil.copytree(run / "student", run / "best-student")
    shutil.rmtree(run / "best", ignore_errors=True)
    evaluate(with_evaluate(config, agents=[f"kept={run / 'best-student'}"], games=1, out=str(tmp_path / "scores")))
    assert not (run / "best").exists()
    assert EventAccumulator(str(tmp_path / "scores" / "kept")).Reload().Scalars("whole_games/mean_reward")


def test_table(record: dict[str, Any]) -> None:
    clumsy, small = record["agents"].values()
    clumsy, small = {**clumsy, "share_of_teacher": 1.0}, {**small, "share_of_teacher": 0.5}
    shown = table(Scores.told({**record, "agents": {"teacher": clumsy, "small": small}}))
    rows = [dict(zip(HEADER, row, strict=True)) for row in shown]
    assert [row["agent"] for row in rows] == ["teacher", "small"]
    assert rows[0]["parameters"] == "1,686,180"
    assert [row["of teacher"] for row in rows] == ["100%", "50%"]
    assert {rows[0][name] for name in HEADER[-6:]} == {"-"}
    assert rows[1]["mean"] == f"{small['mean']:.2f}"
    assert [rows[1][name] for name in HEADER[-6:]] == [
        f"{small['val_kl']:.4f}",
        f"{small['val_total_variation']:.4f}",
        f"{small['val_action_error']:.1%}",
        f"{small['val_merged_action_error']:.1%}",
        f"{small['val_jacobian_cosine']:.3f}",
        f"{small['val_jacobian_relative_error']:.3f}",
    ]
    assert rows[0]["95 % interval"] == f"{clumsy['ci95'][0]:.2f} .. {clumsy['ci95'][1]:.2f}"


def test_tables_fit_80_columns(
    record: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    teacher, small = record["agents"].values()
    show(Scores.told({**record, "agents": {"teacher": teacher, "small__kl-sobolev0.01__seed-1": small}}))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    header = next(i for i, line in enumerate(lines) if "parameters" in line)
    assert lines[header - 1].split() == ["val", "total", "action", "merged", "Jacobian", "Jacobian"]
    assert lines[header].split() == ["agent", "parameters", "KL", "variation", "error", "error", "cosine", "error"]


@pytest.mark.usefixtures("no_games")
def test_scores_of_an_earlier_version_are_shown(
    config: Config, record: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = ("val_total_variation", "val_merged_action_error")
    older = {name: {key: facts[key] for key in facts if key not in newer} for name, facts in record["agents"].items()}
    write_json(tmp_path / "scores.json", {**record, "agents": older})
    assert evaluate(with_evaluate(config, out=str(tmp_path)))["agents"] == older
    assert "fidelity on held-out games" in capsys.readouterr().out


@pytest.mark.usefixtures("no_games")
@pytest.mark.parametrize("resume", [False, True])  # of earlier versions' settings
def test_complete_scores_are_left_alone(config: Config, record: dict[str, Any], resume: bool) -> None:
    before = scores_path(config).stat().st_mtime_ns
    assert evaluate(with_evaluate(config, resume=resume)) == record
    assert scores_path(config).stat().st_mtime_ns == before


@pytest.mark.usefixtures("record", "no_games")
@pytest.mark.parametrize(
    "change",
    [
        lambda config, other: with_evaluate(config, games=4),
        lambda config, other: with_evaluate(config, protocol="machado"),
        lambda config, other: replace(config, seed=4),
        lambda config, other: with_evaluate(config, agents=["teacher"]),
        lambda config, other: with_evaluate(config, agents=["teacher", f"tiny={other}"]),
        lambda config, other: with_evaluate(config, agents=["breakout", config.evaluate.agents[1]]),
        lambda config, other: with_evaluate(config, agents=["teacher=breakout", config.evaluate.agents[1]]),
    ],
)
def test_resuming_another_evaluation_is_refused(
    config: Config, student: Path, change: Callable[[Config, Path], Config]
) -> None:
    with pytest.raises(
        UserError,
        match=r"is of (another agent called|(agents|number of games|protocol|seed) .*, not) .*; choose another",
    ):
        evaluate(with_evaluate(change(config, student)))


@pytest.mark.usefixtures("no_games")
@pytest.mark.parametrize(("key", "value"), [("game", "pong"), ("preset", "sb3-fast")])
def test_resuming_another_game_or_preset_is_refused(
    config: Config, record: dict[str, Any], tmp_path: Path, key: str, value: str
) -> None:
    write_json(tmp_path / "scores.json", {**record, key: value})
    with pytest.raises(UserError, match=f"is of {key} {value}, not "):
        evaluate(with_evaluate(config, out=str(tmp_path)))


@pytest.mark.usefixtures("no_games")
def test_damaged_scores_are_refused(config: Config, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text('{"game": "break')
    with pytest.raises(UserError, match="not a readable scores file"):
        evaluate(with_evaluate(config, out=str(tmp_path)))


@pytest.mark.usefixtures("no_games")
@pytest.mark.parametrize("agents", [[], {}, 3, {"small": 5}, {"small": {}}])
def test_scores_of_another_shape_are_refused(
    config: Config, record: dict[str, Any], tmp_path: Path, agents: object
) -> None:
    for content in ({**record, "agents": agents}, [agents]):
        write_json(tmp_path / "scores.json", content)
        with pytest.raises(UserError, match=r"scores\.json (is damaged|has no agents)"):
            evaluate(with_evaluate(config, out=str(tmp_path)))


@pytest.mark.usefixtures("no_games")
@pytest.mark.parametrize("paper", ["metrics", "best_step", "teacher", "game"])
@pytest.mark.parametrize("value", [None, []])
def test_a_student_whose_papers_are_damaged_is_refused(config: Config, copied: Path, paper: str, value: object) -> None:
    edit_facts(copied, **{paper: value})
    with pytest.raises(UserError, match=rf"student\.json is damaged: its '{paper}' (cannot be|has no fields)"):
        evaluate(with_evaluate(config, agents=[str(copied)]))


@pytest.mark.usefixtures("no_games")
def test_a_folder_in_place_of_the_kept_games_is_told_first(config: Config, tmp_path: Path) -> None:
    (tmp_path / "scores.partial.json").mkdir()
    with pytest.raises(UserError, match=r"scores\.partial\.json is a folder, .*; remove it"):
        evaluate(with_evaluate(config, out=str(tmp_path)))


def test_names(config: Config, teacher: str, student: Path) -> None:
    """Names become files and TensorBoard runs, so a path gives only its last part."""
    named = find_agents(with_evaluate(config, agents=["teacher", teacher, "breakout", str(student), f"a b={student}/"]))
    assert [agent.name for agent in named] == ["teacher", "breakout-clumsy", "breakout", "run", "a b"]
    assert [agent.kind for agent in named] == ["teacher"] * 3 + ["student"] * 2
    assert named[0].fingerprint == named[1].fingerprint != named[2].fingerprint


def test_two_agents_of_one_name_are_refused(config: Config, student: Path) -> None:
    with pytest.raises(UserError, match=r"two agents are called 'run'; rename one with --evaluate.agents NAME=WHAT"):
        find_agents(with_evaluate(config, agents=[str(student), f"{student}/"]))


def test_a_name_with_a_slash_is_refused(config: Config, student: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be called 'a/b': it has a slash"):
        find_agents(with_evaluate(config, agents=[f"a/b={student}"]))


def test_an_unknown_agent_is_refused(config: Config) -> None:
    with pytest.raises(UserError, match="unknown teacher 'techer'"):
        find_agents(with_evaluate(config, agents=["techer"]))


def test_a_student_of_another_game_is_refused(config: Config, copied: Path) -> None:
    edit_facts(copied, game="pong")
    with pytest.raises(UserError, match=r"student .*copied is of pong, not breakout; set --env"):
        find_agents(with_evaluate(config, agents=[str(copied)]))


def test_a_student_of_another_preset_is_refused(config: Config, student: Path, copied: Path) -> None:
    fast = get_preset("sb3-fast")
    with pytest.raises(UserError, match=rf"is of preset sb3 \(\w+\), not sb3-fast \({fast.hash}\)"):
        find_agents(replace(config, preset="sb3-fast"))
    edit_facts(copied, preset="sb3-fast", preset_hash=fast.hash)
    with pytest.raises(UserError, match=r"these agents see different presets \(sb3, sb3-fast\); evaluate them apart"):
        find_agents(with_evaluate(config, agents=["teacher", str(copied)]))
    edit_facts(copied, preset="sb3", preset_hash="0123456789ab")
    with pytest.raises(UserError, match=r"is of preset sb3 \(0123456789ab\), not sb3"):
        find_agents(with_evaluate(config, agents=[str(copied)]))


def test_an_unfinished_run_is_refused(config: Config, copied: Path) -> None:
    shutil.rmtree(copied / "student")
    with pytest.raises(UserError, match=r"no finished student at .*copied"):
        find_agents(with_evaluate(config, agents=[str(copied)]))


def test_a_student_of_reward_alone_was_taught_by_nobody(config: Config, copied: Path, pong_data: Path) -> None:
    edit_facts(copied, teacher="")
    nobody = with_evaluate(replace(config, teacher=""), agents=["teacher", f"alone={copied}"])
    teacher, _ = find_agents(nobody)
    assert teacher.fingerprint == load_teacher("breakout").info.fingerprint
    with pytest.raises(UserError, match=r"student .*copied learned from no teacher; leave --evaluate.data out"):
        fidelity(nobody, find_agents(nobody)[1], Dataset(pong_data), torch.device("cpu"))


def test_a_score_under_attack_is_none_of_its_run(config: Config, student: Path, tmp_path: Path) -> None:
    def points() -> int:
        return len(EventAccumulator(str(student / "best")).Reload().Scalars("whole_games/mean_reward"))

    before = points()
    asked = {"agents": [f"small={student}"], "games": 1, "num_envs": 1, "attack": "noise", "out": str(tmp_path)}
    evaluate(with_evaluate(config, **asked))
    assert points() == before
    assert EventAccumulator(str(tmp_path / "small")).Reload().Scalars("whole_games/mean_reward")


def test_killed_before_scores_json_it_is_shown_all_the_same(
    record: dict[str, Any], config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What says that all is done comes last."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "write_scores", killed)
    one = with_evaluate(config, agents=["teacher"], games=1, num_envs=1, out=str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        evaluate(one)
    monkeypatch.undo()
    evaluate(one)
    assert (tmp_path / "scores.json").exists()
    assert not (tmp_path / "scores.partial.json").exists()
    assert EventAccumulator(str(tmp_path / "teacher")).Reload().Scalars("whole_games/mean_reward")


@pytest.mark.usefixtures("no_games")
def test_data_of_another_game_is_refused_before_any_game(config: Config, pong_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--evaluate.data={pong_data} is of pong, not breakout; name another"):
        evaluate(with_evaluate(config, agents=["teacher"], data=str(pong_data), out=str(tmp_path)))


def test_a_video_that_was_not_asked_for_at_first(
    record: dict[str, Any], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setattr(video, "record_game", lambda match, seed, path: path.write_text(f"{match.game} {seed}"))
    folder = scores_path(config).parent
    (folder / "small.mp4").write_text("there")
    assert evaluate(with_evaluate(config, capture_video=True)) == record
    assert [(folder / f"{name}.mp4").read_text() for name in record["agents"]] == ["breakout 8", "there"]
    for name in record["agents"]:
        (folder / f"{name}.mp4").unlink()


def test_data_of_another_teacher_is_refused(config: Config, pong_data: Path) -> None:
    with pytest.raises(UserError, match=f"learned from another teacher than the one of {pong_data}"):
        fidelity(config, find_agents(config)[1], Dataset(pong_data), torch.device("cpu"))


def test_without_its_dataset_a_student_keeps_the_fidelity_of_its_training(
    config: Config, copied: Path, tmp_path: Path
) -> None:
    facts = json.loads((copied / "student" / "student.json").read_text())
    edit_facts(copied, dataset={**facts["dataset"], "folder": str(tmp_path / "gone")})
    alone = with_evaluate(config, agents=[str(copied)], games=1, protocol="machado", out=str(tmp_path / "scores"))
    record = evaluate(alone)
    agent = record["agents"]["copied"]
    for name in FIDELITY:
        assert agent[name] == facts["metrics"][name]
    assert agent["share_of_teacher"] is None  # no teacher played
    assert len(agent["returns"]) == 1
    assert record["protocol"] == "machado"


def test_a_student_of_an_earlier_version_lacks_the_newer_figures(config: Config, copied: Path, tmp_path: Path) -> None:
    metrics = json.loads((copied / "student" / "student.json").read_text())["metrics"]
    newer = ("val_total_variation", "val_merged_action_error")
    edit_facts(copied, metrics={name: value for name, value in metrics.items() if name not in newer})
    agent = evaluate(with_evaluate(config, agents=[str(copied)], games=1, out=str(tmp_path)))["agents"]["copied"]
    assert [agent[name] for name in newer] == [None, None]
    assert agent["val_kl"] == metrics["val_kl"]


def test_teacher_is_the_students_own(
    config: Config, teacher: str, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no --teacher is given; the bundled agent of that game did not teach this student."""
    nobody = replace(config, teacher="")
    first, second = find_agents(nobody)
    assert (first.name, first.what, second.name) == ("teacher", teacher, "small")
    assert second.student is not None
    assert first.fingerprint == second.student.training.teacher
    assert f"teacher: {teacher}, from which small learned" in capsys.readouterr().out
    checked, _ = find_agents(validated(nobody))
    assert checked.fingerprint == first.fingerprint, "a config that was checked before it is handed over"
    (alone,) = find_agents(with_evaluate(nobody, agents=["teacher"]))
    assert alone.fingerprint != first.fingerprint, "without a student, it is the game's bundled one"
    asked, _ = find_agents(replace(config, teacher="breakout"))
    assert asked.fingerprint == alone.fingerprint, "a given teacher is played, whoever taught the students"


def test_teachers_of_several_students(config: Config, student: Path, copied: Path) -> None:
    bundled = load_teacher("breakout").info.fingerprint
    edit_facts(copied, teacher=bundled, teacher_name="breakout")
    both = with_evaluate(replace(config, teacher=""), agents=["teacher", str(student), str(copied)])
    assert [agent.name for agent in find_agents(both)] == ["breakout-clumsy", "breakout", "run", "copied"]
    with pytest.raises(UserError, match=r"x=teacher, but these students learned from 2 teachers \(.*clumsy.zip, break"):
        find_agents(with_evaluate(both, agents=["x=teacher", str(student), str(copied)]))


@pytest.mark.parametrize(
    ("name", "why"),
    [("gone.zip", r"gone\.zip, which cannot be loaded \("), ("breakout", "breakout, which is now another agent")],
)
def test_a_teacher_that_cannot_be_found_is_asked_for(config: Config, copied: Path, name: str, why: str) -> None:
    edit_facts(copied, teacher_name=name)
    lost = with_evaluate(replace(config, teacher=""), agents=["teacher", str(copied)])
    with pytest.raises(UserError, match=rf"is copied’s teacher {why}.*say with --teacher where it is"):
        find_agents(lost)


def test_the_share_is_against_the_teacher_that_taught(config: Config, record: dict[str, Any], tmp_path: Path) -> None:
    clumsy, small = record["agents"].values()
    assert small["teacher"] == clumsy["fingerprint"]
    span = clumsy["mean"] - RANDOM
    assert small["share_of_teacher"] == (pytest.approx((small["mean"] - RANDOM) / span) if span > 0 else None)
    other = evaluate(with_evaluate(replace(config, teacher="breakout"), games=1, out=str(tmp_path)))
    assert [agent["share_of_teacher"] for agent in other["agents"].values()] == [None, None]
    assert "breakout-clumsy.zip" in other["agents"]["small"]["share_note"]


def test_names_that_are_taken(config: Config, student: Path) -> None:
    for name in ("scores.json", "..", "a\nb"):
        with pytest.raises(UserError, match="an agent cannot be called"):
            find_agents(with_evaluate(config, agents=[f"{name}={student}"]))


def test_a_run_with_commas_and_equals_signs_in_its_name(config: Config, student: Path, tmp_path: Path) -> None:
    run = shutil.copytree(student, tmp_path / "lr=0.001,seed=2")
    named = find_agents(with_evaluate(config, agents=[str(run), f"x={run}"]))
    assert [agent.name for agent in named] == ["lr=0.001,seed=2", "x"]


def test_scores_measured_on_other_data_are_not_kept(
    config: Config, student: Path, teacher: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Held-out states that have grown since, or that nobody asked for then."""
    data = tmp_path / "data"
    shutil.copytree(student.parent / "data", data)
    # Another dataset than the student's own: all of its states are held out.
    manifest = json.loads((data / "dataset.json").read_text())
    del manifest["checksum"]
    write_json(data / "dataset.json", sealed({**manifest, "created": "2026-01-01T00:00:00+00:00"}))
    measured = with_evaluate(config, agents=[f"small={student}"], data=str(data), out=str(tmp_path / "s"))
    record = evaluate(measured)
    assert (record["data"], record["val_states"]) == (Dataset(data).digest, 2048)
    assert evaluate(measured)["created"] == record["created"]
    with pytest.raises(UserError, match="has figures on other held-out states"):
        evaluate(with_evaluate(measured, data=None))
    fewer = with_evaluate(measured, val_states=40)
    with pytest.raises(
        UserError, match=r"on at most 2048 held-out states, not 40; set --evaluate\.val_states=2048, or"
    ):
        evaluate(fewer)
    edit_record(scores_path(measured), val_states=None)  # as an earlier version has it: nobody knows
    assert evaluate(fewer)["created"] == record["created"]
    collect(make_config(env="breakout", teacher=teacher, collect={"out": str(data), "states": 240, "num_envs": 4}))
    with pytest.raises(UserError, match="has figures on other held-out states"):
        evaluate(measured)


def test_scores_of_other_lanes_are_not_kept(config: Config, tmp_path: Path) -> None:
    """As many games, but others, since each lane begins its own."""
    asked = with_evaluate(config, agents=["random"], games=4, num_envs=2, out=str(tmp_path / "s"))
    record = evaluate(asked)
    other = with_evaluate(asked, num_envs=64)
    with pytest.raises(UserError, match=r"is of 2 games side by side, not 4, .*; set --evaluate\.num_envs=2, or"):
        evaluate(other)
    edit_record(scores_path(asked), num_envs=None)  # as an earlier version has it: nobody knows
    assert evaluate(other)["created"] == record["created"]


def test_an_exported_student_is_no_teacher(student: Path, config: Config, tmp_path: Path) -> None:
    """Shares are of the first teacher's score, which a zip without papers must not pass for."""
    shutil.copy(student / "student" / "student.zip", tmp_path / "mine.zip")
    names = [f"zip={tmp_path / 'mine.zip'}", f"papers={student}", f"inside={student / 'student' / 'student.zip'}"]
    agents = find_agents(with_evaluate(config, agents=names))
    assert {agent.kind for agent in agents} == {"student"}
    assert len({agent.fingerprint for agent in agents}) == 1
    assert agents[2].student is not None


@pytest.mark.usefixtures("no_games")
@pytest.mark.parametrize("name", ["metrics", "dataset", "objective", "val_fraction"])
def test_a_student_with_incomplete_papers_is_refused_before_any_game(
    config: Config, copied: Path, tmp_path: Path, name: str
) -> None:
    edit_record(copied / "student" / "student.json", lambda record: record.pop(name))
    with pytest.raises(UserError, match=f"student.json is damaged: it has no '{name}'"):
        evaluate(with_evaluate(config, agents=[str(copied)], out=str(tmp_path / "scores")))


@pytest.mark.usefixtures("no_games")
def test_rotten_held_out_data_is_refused_before_any_game(config: Config, student: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(student.parent / "data", tmp_path / "copy"))
    path = next(copy.glob("shards/*/jacobian.npy"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"jacobian\.npy does not match its checksum"):
        evaluate(with_evaluate(config, agents=[str(student)], data=str(copy), out=str(tmp_path / "scores")))


@pytest.mark.usefixtures("no_games")
@pytest.mark.parametrize("content", [[], {"agents": 3}, {"agents": {"small": 3}}, {"agents": {"small": {"mean": "x"}}}])
def test_a_damaged_scores_file_is_no_traceback(config: Config, student: Path, tmp_path: Path, content: Any) -> None:
    write_json(tmp_path / "scores.json", content)
    with pytest.raises(UserError, match=r"scores\.json is damaged"):
        evaluate(with_evaluate(config, agents=[f"small={student}"], out=str(tmp_path)))


def test_data_recorded_once_more_is_the_same_data(student: Path) -> None:
    """A recording is the same wherever it is made again: its training states are no test."""
    training = load_student(student).training
    again = Dataset(student.parent / "data")
    held = held_out(again, training)
    again.manifest = replace(again.manifest, created="later")
    assert held_out(again, training).tolist() == held.tolist()
    assert 0 < len(held) < len(again)


@pytest.mark.parametrize("protocol", ["zoo", "zoo-greedy"])
def test_random_plays_at_random(make_config: MakeConfig, tmp_path: Path, protocol: str) -> None:
    """Uniformly, on every protocol; greedily the first action would be NOOP for ever."""
    settings = {"agents": ["random"], "games": 16, "num_envs": 16, "protocol": protocol, "out": str(tmp_path)}
    record = evaluate(make_config(env="breakout", evaluate=settings))
    entry = record["agents"]["random"]
    assert (entry["kind"], entry["parameters"], entry["teacher"], entry["share_of_teacher"]) == (
        "random",
        0,
        None,
        None,
    )
    low, high = entry["ci95"]
    assert low <= RANDOM <= high + 0.5
    assert entry["mean"] > 0


def test_random_beside_others_sees_what_they_see(config: Config, student: Path, make_config: MakeConfig) -> None:
    items = ["dice=random", f"small={student}", "teacher"]
    agents = find(replace(config, preset=None), items)
    assert [(agent.name, agent.kind) for agent in agents] == [
        ("dice", "random"),
        ("small", "student"),
        ("teacher", "teacher"),
    ]
    assert len({agent.preset for agent in agents}) == 1
    alone = find(make_config(env="breakout", preset="sb3-fast"), ["random"])
    assert [agent.preset for agent in alone] == ["sb3-fast"]


def test_a_student_plays_in_int8(student: Path, teacher: str, make_config: MakeConfig, tmp_path: Path) -> None:
    """The file of ``distill export`` is an agent like its zip."""
    pytest.importorskip("onnxruntime")
    assert main(["export", str(student), "--format", "int8", "--out", str(tmp_path / "small.onnx")]) == 0
    names = ["teacher", f"small={student}", f"int8={tmp_path / 'small.onnx'}"]
    settings = {"agents": names, "games": 2, "num_envs": 2, "out": str(tmp_path / "scores")}
    record = evaluate(make_config(env="breakout", teacher=teacher, evaluate=settings))
    entry = record["agents"]["int8"]
    assert (entry["kind"], entry["share_note"]) == ("student", "int8 is an ONNX file that does not say who taught it")
    assert len(entry["returns"]) == 2
    # The exporter leaves out biases that are zero.
    assert entry["parameters"] == pytest.approx(record["agents"]["small"]["parameters"], rel=1e-3)
