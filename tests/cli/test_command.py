from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill import __version__
from distill.cli import command as cli
from distill.cli.command import STAGES, TOOLS, main, parse, stage_parser
from distill.config.config import Config
from distill.config.stages import SETTINGS
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.networks.nets import AtariCNN, NetSpec
from distill.students.folder import save_student
from distill.system.parser import known
from distill.task import Task
from tests.fixtures.records import training

ROOT = Path(__file__).parents[2]


@pytest.fixture
def yaml_file(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "settings.yaml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_usage_names_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    usage = capsys.readouterr().out
    for name in [*STAGES, *TOOLS]:
        assert re.search(rf"^  {name} +\w", usage, re.MULTILINE), name


def test_program_starts_without_importing_pytorch() -> None:
    program = (
        "import sys; from distill.cli.command import main; status = main(['--version'])\n"
        "heavy = {'torch', 'ale_py', 'stable_baselines3', 'numpy'} & set(sys.modules)\n"
        "sys.exit(status or (f'imported {heavy}' if heavy else 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, timeout=60
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, __version__, "")


def test_module_is_a_program_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "distill.cli", "xyzzy"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown command 'xyzzy'; see distill --help\n"


@pytest.mark.parametrize(("word", "nearest"), [("colect", "collect"), ("evalute", "evaluate"), ("verfy", "verify")])
def test_misspelt_command_suggests_the_nearest(word: str, nearest: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    assert f"unknown command {word!r} (did you mean {nearest!r}?)" in capsys.readouterr().err


@pytest.mark.parametrize("command", STAGES)
def test_help_of_a_stage_lists_every_setting(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    for key in known(stage_parser(command)):
        assert f"--{key} " in text, key
    reads_lambda = command in ("train", "imitate", "rounds", "multitask", "sweep", "pbt", "shrink")
    assert ("Lambda: weight of the Sobolev term" in " ".join(text.split())) == reads_lambda
    first, _, rest = text.partition("options:")
    assert "settings that matter first:" in first
    assert all(f"--{key} " in first and f"\n  --{key} " not in rest for key in SETTINGS[command].FIRST)


@pytest.mark.parametrize(
    ("command", "flag", "readers"),
    [
        ("train", "--collect.states=5", "distill collect"),
        (
            "collect",
            "--objective.k=2",
            "distill imitate and distill multitask and distill pbt and distill rounds and distill shrink and distill "
            "sweep and distill train",
        ),
        ("evaluate", "--sweep.games=3", "distill sweep"),
        ("report", "--evaluate.data=x", "distill evaluate and distill multitask and distill shrink and distill sweep"),
    ],
)
def test_flag_that_the_stage_does_not_read(command: str, flag: str, readers: str) -> None:
    name = flag.partition("=")[0]
    with pytest.raises(UserError, match=f"^distill {command} does not read {name}: it is of {readers}; leave it out$"):
        parse(command, [flag])


def test_a_file_may_be_of_all_stages(yaml_file: Callable[..., Path]) -> None:
    config = parse("train", ["--config", str(yaml_file("collect: {states: 5}\nevaluate: {games: 1}\n"))])
    assert (config.collect.states, config.evaluate.games) == (5, 1)


@pytest.mark.parametrize("command", TOOLS)
def test_help_of_a_tool(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert f"usage: distill {command}" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--env", "--env-id"])
@pytest.mark.parametrize("spelling", ["pong", "Pong", "PongNoFrameskip-v4", "ALE/Pong-v5"])
@pytest.mark.parametrize("joined", [True, False])
def test_game_by_any_flag_and_spelling(flag: str, spelling: str, joined: bool) -> None:
    config = parse("collect", [f"{flag}={spelling}"] if joined else [flag, spelling])
    assert (config.env, config.teacher) == ("pong", "")


def test_flags_of_other_projects() -> None:
    config = parse("collect", ["--total-timesteps", "77", "--env-id", "breakout"])
    assert (config.collect.states, config.env) == (77, "breakout")
    assert parse("evaluate", ["--capture-video"]).evaluate.capture_video is True
    with pytest.raises(UserError, match=r"--train\.steps"):
        parse("train", ["--total-timesteps=77"])
    assert parse("evaluate", ["--capture-video=false"]).evaluate.capture_video is False


def test_no_words_give_the_defaults() -> None:
    config = parse("train", [])
    assert config == Config(env="pong")


def test_later_settings_win(yaml_file: Callable[..., Path]) -> None:
    first = yaml_file("env: breakout\ncollect: {states: 5, num_envs: 3}\nteacher: breakout", "first.yaml")
    second = yaml_file("collect:\n  states: 6\n", "second.yaml")
    config = parse("collect", ["--config", str(first), "--config", str(second)])
    assert (config.env, config.collect.states, config.collect.num_envs) == ("breakout", 6, 3)
    config = parse("collect", [f"--config={first}", "--collect.num_envs", "4"])
    assert (config.collect.states, config.collect.num_envs) == (5, 4)


def test_lists_and_nothing_on_the_command_line() -> None:
    words = ["--student.convs", "[[8,8,4],[16,4,2]]", "--student.hidden=[64]"]
    config = parse("train", [*words, "--train.states=null"])
    assert [tuple(conv) for conv in config.student.convs or ()] == [(8, 8, 4), (16, 4, 2)]
    assert config.student.hidden == [64]
    assert parse("evaluate", ["--evaluate.agents=[teacher,a=runs/x]"]).evaluate.agents == ["teacher", "a=runs/x"]
    assert config.train.states is None


def test_missing_seed_is_drawn_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = {parse("collect", ["--seed", "-1"]).seed for _ in range(3)}
    printed = re.findall(
        r"^seed: (\d+) \(drawn; --seed=\d+ goes on with what it began\)$", capsys.readouterr().out, re.MULTILINE
    )
    assert {int(seed) for seed in printed} == seeds
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("collect.num_env", "collect.num_envs"),
        ("sed", "seed"),
        ("objective.jacobian_wait", "objective.jacobian_weight"),
        ("colect.states", "collect.states"),
    ],
)
def test_unknown_setting_suggests_the_nearest_wherever_it_stands(
    key: str, nearest: str, yaml_file: Callable[..., Path]
) -> None:
    section, _, name = key.rpartition(".")
    file = yaml_file(f"{section}:\n  {name}: 3\n" if section else f"{name}: 3\n")
    for words in ([f"--{key}", "3"], [f"--{key}=3"], ["--config", str(file)]):
        with pytest.raises(UserError, match=rf"^unknown setting '{key}' \(did you mean '{nearest}'\?\); see --help"):
            parse("collect", words)


def test_abbreviated_settings_are_not_guessed() -> None:
    with pytest.raises(UserError, match=r"unknown setting 'collect\.state' \(did you mean 'collect\.states'\?\)"):
        parse("collect", ["--collect.state", "3"])


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(command: str, words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_stage", interrupted)
    assert main(["collect"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command continues\n"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), FileNotFoundError(2, "gone"), KeyError("x")])
def test_a_bug_is_not_hidden(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(command: str, words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_stage", broken)
    with pytest.raises(type(error)):
        main(["collect"])


def test_print_config_is_a_config(capsys: pytest.CaptureFixture[str], yaml_file: Callable[..., Path]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["train", "--train.steps", "7", "--print_config"])
    assert left.value.code == 0
    assert parse("train", ["--config", str(yaml_file(capsys.readouterr().out))]).train.steps == 7


def test_collect_train_verify_and_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands as a user types them, at their smallest."""
    data, run = str(tmp_path / "data"), str(tmp_path / "run")

    def words(**settings: Any) -> list[str]:
        return [f"--{key.replace('__', '.')}={value}" for key, value in settings.items()]

    small = words(collect__out=data, collect__states=24, collect__num_envs=3, collect__shard_states=12)
    assert main(["collect", "--env-id", "PongNoFrameskip-v4", *small]) == 0
    assert "24 (24 new)" in capsys.readouterr().out
    assert main(["collect", *small]) == 0
    assert "already has 24 states; nothing to do" in capsys.readouterr().out
    assert main(["verify", data, "--sample", "8"]) == 0
    assert "2 shards, 24 states: all equal" in " ".join(capsys.readouterr().out.split())
    net = ["--student.convs", "[[2,8,8]]", "--student.hidden", "[4]"]
    fit = words(train__data=data, train__out=run, train__steps=2, train__batch_size=4, train__val_states=4)
    assert main(["train", *net, *fit, "--objective.jacobian_weight=0.1"]) == 0
    assert "trained kl-sobolev0.1" in capsys.readouterr().out
    for what, told in ((data, "24 in 3 games, 2 shards"), (run, "mnih2013"), ("pong", "PPO")):
        assert main(["info", what]) == 0
        assert told in " ".join(capsys.readouterr().out.split())
    for what in (data, run, f"{run}/student/student.zip"):
        assert main(["info", what, "--env=Pong", "--preset=sb3"]) == 0
        assert main(["info", what, "--env=breakout"]) == 1
        assert "is of pong, not breakout; leave --env out" in capsys.readouterr().err
        assert main(["info", what, "--preset=sb3-fast"]) == 1
        assert re.search(
            r"is of preset sb3 \(\w+\),\s+not sb3-fast \(\w+\);\s+leave --preset out", capsys.readouterr().err
        )
    assert main(["export", f"{run}/student/student.zip", "--format=sb3", f"--out={tmp_path / 'x.zip'}"]) == 0
    assert (tmp_path / "x.zip").read_bytes() == Path(run, "student", "student.zip").read_bytes()


def test_info_on_a_student_whose_training_nobody_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = Task("pong", "sb3", get_preset("sb3").hash, 6)
    save_student(tmp_path / "student", AtariCNN(NetSpec(((4, 8, 4), (4, 4, 2)), (8,)), 6), task)
    assert main(["info", str(tmp_path)]) == 0
    assert "convs 4x8/4 4x4/2, hidden 8" in " ".join(capsys.readouterr().out.split())


def test_info_names_noise_and_band_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a student's folder, and of its zip."""
    spec = NetSpec(((4, 8, 4), (4, 4, 2)), (8,), "tanh", band_limit=(0.0, 0.5), noise="white")
    preset = get_preset("sb3")
    save_student(tmp_path / "student", AtariCNN(spec, 6), Task("pong", "sb3", preset.hash, 6), training())
    layers = "convs 4x8/4 4x4/2, hidden 8, tanh, band limit 0 0.5, white noise on weights at play"
    for what in (tmp_path, tmp_path / "student" / "student.zip"):
        assert main(["info", str(what)]) == 0
        assert layers in " ".join(capsys.readouterr().out.split())
