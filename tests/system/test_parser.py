"""Settings files and words that are not quite right get one sentence; nothing passes in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from distill.cli.command import main, parse
from distill.errors import UserError
from distill.system.parser import read_saved

Fails = Callable[..., str]


@pytest.fixture
def fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fails:
    """``fails(*words, text=None)``: the sentence of ``distill train``, or another; ``text`` is what x.yaml holds."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, text: str | bytes | None = None, command: str = "train") -> str:
        if text is not None:
            Path("x.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
            words = ("--config=x.yaml", *words)
        assert main([command, *words]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    return run


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "x.yaml holds no settings: it is empty, or has only comments"),
        ("# later\n---\n", "x.yaml holds no settings"),
        ("{}", "x.yaml holds no settings"),
        ("env: pong\ntrain:\n#  steps: 3\n", "x.yaml: the section 'train' is empty; give it settings, or leave its li"),
        ("objective:", "x.yaml: the section 'objective' is empty"),
        ("seed: 1\nseed: 2", "cannot read the settings in x.yaml: 'seed' in line 2 is a duplicate"),
        (
            "train.steps: 3\ntrain: {warmup: 4}",
            "x.yaml: write 'train.steps' as 'steps' within the section 'train', which",
        ),
        ("sweep:\n  grid: {seed: [1], seed: [2]}", "cannot read the settings in x.yaml: 'seed' in line 2 is a duplic"),
        ("1: 2", "x.yaml: 1 cannot be the name of a setting"),
        ("train: {null: 2}", "x.yaml: None cannot be the name of a setting"),
        ("config: y.yaml", "x.yaml: 'config' cannot be the name of a setting"),
        (b"seed: 1 # caf\xe9", "x.yaml is not YAML: line 1 is not UTF-8 text; correct it"),
        ("env: " + "[" * 3000, "cannot read the settings in x.yaml: line 1 is nested more than 50 deep"),
        ("#" * 2_000_000, "cannot read the settings in x.yaml: it is longer than"),
        ("train: {out: 2024}", "--train.out must be str, got 2024; put it in quotes"),
        ("train: {steps: {a: 1}}", "--train.steps must be int, got {'a': 1}"),
        ("train: {resume: ''}", "--train.resume must be bool, got nothing"),
        ("evaluate: {agents: runs/a}", "--evaluate.agents must be list, got runs/a; write [runs/a]"),
        ("train: [1]", "'train' is a group of settings, not a value; got [1]"),
        ("train: {out: ''}", "--train.out must be the name of a file or folder, got ''"),
        ('train: {data: "a\\0b"}', r"--train.data must be the name of a file or folder, got 'a\x00b'"),
    ],
)
def test_files(fails: Fails, text: str | bytes, says: str) -> None:
    assert fails(text=text).startswith(says)


def test_numbers_are_decimal_in_files_as_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("train: {steps: 010, data: 010}")
    config = parse("train", [f"--config={tmp_path / 'x.yaml'}"])
    assert (config.train.steps, config.train.data) == (10, "010")
    assert parse("train", ["--train.steps=010"]).train.steps == 10


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train.steps=3"], "'train.steps=3' is not a setting; write --train.steps=3"),
        (["train.steps", "3"], "'train.steps' is not a setting; write --train.steps=3"),
        (["-train.steps=3"], "'-train.steps=3' is not a setting; write --train.steps=3"),
        (["seed=3", "--env=pong"], "'seed=3' is not a setting; write --seed=3"),
        (["steps=3"], "unknown setting 'steps=3'; write --train.steps=3"),
        (["num_envs"], "unknown setting 'num_envs'; write --collect.num_envs=VALUE or --imitate.num_envs=VALUE or"),
        (["--train.data=my", "data"], "unknown setting 'data'; write --train.data=VALUE or"),
        (["config", "x.yaml"], "'config' is not a setting; write --config=x.yaml"),
        (["-"], "unknown setting '-'"),
        (["--config"], "argument --config: expected one argument"),
        (["--config="], "--config must name a YAML file; got nothing"),
        (["--config", "."], "cannot read the settings in .: it is a folder"),
        (["--config", "/dev/null"], "cannot read the settings in /dev/null: it is not a regular file"),
        (["--train=3"], "'train' is a group of settings, not a value; got 3"),
        (["--train.steps=null"], "--train.steps must be int, got null"),
        (["--sweep.grid", "{seed: [1], seed: [2]}"], "cannot read '{seed: [1], seed: [2]}': 'seed' in line 1 is a"),
        (["--sweep.grid", '{"seed": [1], "seed": [2]}'], "cannot read "),
        (["--sweep.grid", "{seed:[1]}"], "--sweep.grid must be dict, got {seed:[1]}; write a space after every colon"),
        (["--sweep.grid", "{seed: null}"], "--sweep.grid must be list, got null"),
        (["--student.convs", "[[16,null,4]]"], "--student.convs must be list[tuple[int, int, int]] or null, got"),
        (["--print_config", "--train.max_grad_norm=low"], "--train.max_grad_norm must be float, got low"),
        (
            ["--print_config", "--train.learning_rate=fast"],
            "--train.learning_rate must be float or one of ['auto'], got fast",
        ),
        (["--print_config", "--train.steps=-3"], "--train.steps must be positive, got -3"),
        (["--print_config=all"], "Invalid option"),
    ],
)
def test_words(fails: Fails, words: list[str], says: str) -> None:
    assert fails(*words).startswith(says)


def test_dots_in_a_file_and_braces_in_a_word(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("train.steps: 3\ntrain.warmup: 4\nstudent:\n  hidden: [8]\n")
    config = parse("train", ["--config", str(file), "--train.out={env}", "--train.data", "{env}-{seed}"])
    assert (config.train.steps, config.train.warmup, config.train.out, config.train.data) == (
        3,
        4,
        "{env}",
        "{env}-{seed}",
    )


def test_flags_win_over_files_wherever_they_stand(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.yaml").write_text(f"train: {{steps: {number}, warmup: {number}}}\n")
    one, two = (f"--config={tmp_path / name}" for name in ("1.yaml", "2.yaml"))
    for words in (["--train.steps=9", one, two], [one, "--train.steps", "9", "--config", str(tmp_path / "2.yaml")]):
        config = parse("train", words)
        assert (config.train.steps, config.train.warmup) == (9, 2)


@pytest.mark.parametrize(
    ("command", "word", "meant"),
    [("evaluate", "games", "evaluate.games"), ("collect", "states", "collect.states"), ("train", "out", "train.out"),
     ("finetune", "states", "finetune.states")],
)  # fmt: skip
def test_a_name_without_its_section_is_first_the_stages_own(fails: Fails, command: str, word: str, meant: str) -> None:
    assert f"(did you mean {meant!r}?)" in fails(f"--{word}=4", command=command)


def test_anchors_are_welcome(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("train: {out: &name here}\nevaluate: {out: *name, agents: [teacher]}\n")
    config = parse("train", ["--config", str(file)])
    assert (config.train.out, config.evaluate.out) == ("here", "here")


def test_a_drawn_seed_does_not_spoil_the_printed_config(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--seed=-1", "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["seed"] == -1


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: 1\na: 2", "is not readable .*duplicate.*; go"), ("- 1", "does not hold a run's settings; go")],
)
def test_saved_settings(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"config\.yaml {says}$"):
        read_saved(tmp_path / "config.yaml", "go")
