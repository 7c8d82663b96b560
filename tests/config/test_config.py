from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distill.cli.command import parse
from distill.config.base_yaml import base_yaml, documented
from distill.config.config import Config
from distill.config.validate import validated
from distill.errors import UserError
from distill.losses.settings import ObjectiveConfig
from distill.records.runs import plain
from distill.sweep.settings import SweepConfig
from distill.system.settings import Section, fill
from distill.train.settings import TrainConfig
from tests.fixtures.stages import stage_of

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def leaves(values: dict[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, *above, key)
        else:
            yield *above, key


SECTIONS = [type(value) for value in vars(Config()).values() if isinstance(value, Section)]


@pytest.mark.parametrize("kind", [Config, *SECTIONS])
def test_every_setting_has_a_docstring(kind: type[Section]) -> None:
    about = documented(kind)
    assert {field.name for field in dataclasses.fields(kind)} <= set(about)
    assert all(len(text) > 10 and text.rstrip().endswith((".", "]")) for text in about.values())
    assert kind.__doc__


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().collect.states = 3  # type: ignore[misc]


def test_numpys_numbers_become_plain_ones() -> None:
    """A tuner draws with NumPy, and no YAML file, checkpoint or JSON can hold what it draws."""
    given = Config(
        train=TrainConfig(learning_rate=np.float64(0.5), data=np.str_("data")),
        objective=ObjectiveConfig(terms={"entropy": np.float64(0.1)}),
        sweep=SweepConfig(grid={"seed": [1, 2], "train.learning_rate": [np.float64(1e-3)]}),
    )
    config = validated(given)
    assert config == validated(dataclasses.replace(given))
    assert yaml.safe_load(yaml.safe_dump(plain(config))) == plain(config)
    assert type(config.train.learning_rate) is type(config.objective.terms["entropy"]) is float


def test_there_are_configs() -> None:
    assert {"base.yaml", "demo.yaml", "smoke.yaml"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config_parses(path: Path) -> None:
    config = parse("train", ["--config", str(path)])
    content = yaml.safe_load(path.read_text())
    for key in leaves(content):
        wanted, got = content, config.to_dict()
        for part in key:
            wanted, got = wanted[part], got[part]
        # `validated` fills in the game.
        assert got == wanted or (key == ("env",) and wanted == ""), key


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_first_line_is_a_command_that_uses_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = path.read_text().splitlines()[0]
    assert re.match(r"# (make|distill) \w", first), first
    program, command, *rest = shlex.split(first.removeprefix("# "))
    mention = f"configs/{path.name}"
    makefile = (ROOT / "Makefile").read_text()
    if program == "distill":
        assert mention in rest
        monkeypatch.chdir(ROOT)
        parse(command, rest)
    else:
        recipe = re.search(rf"^{command}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        assert recipe, f"the Makefile has no target {command}"
        assert f"CONFIG={mention}" in rest or mention in recipe[1]


def test_base_yaml_is_every_setting_with_its_default() -> None:
    path = ROOT / "configs" / "base.yaml"
    assert path.read_text() == base_yaml()
    assert yaml.safe_load(base_yaml()) == Config().to_dict()


def test_fill_puts_names_into_a_folder() -> None:
    assert fill("data/{env}-{seed}", env="pong", seed=3) == Path("data/pong-3")
    assert fill("~/x", env="pong") == Path.home() / "x"


@pytest.mark.parametrize("template", ["data/{foo}", "data/{", "data/}", "{}", "{0}", "{env.x}"])
def test_fill_names_what_it_cannot_fill_in(template: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"cannot fill in the folder name {template!r}; ") + r".*\{env\}"):
        fill(template, env="pong")


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--seed", "-2", "--seed must be between 0"),
        ("--tau", "0", "--tau must be positive"),
        ("--collect.states", "0", "--collect.states must be positive"),
        ("--collect.num_envs", "0", "--collect.num_envs must be between 1 and"),
        ("--collect.num_envs", "100000", "--collect.num_envs must be between 1 and"),
        ("--collect.k", "0", "--collect.k must be between"),
        ("--collect.beta", "1.5", "--collect.beta must be between 0 and 1"),
        ("--collect.epsilon", "-0.1", "--collect.epsilon must be between 0 and 1"),
        ("--collect.sticky", "1", "--collect.sticky must be at least 0 and below 1"),
        ("--collect.shard_states", "3", "--collect.shard_states must be at least collect.num_envs"),
        ("--collect.writer", "../x", "--collect.writer must be letters, digits"),
        ("--collect.writer", "", "--collect.writer must be letters, digits"),
        ("--student.name", "mnih2014", r"unknown network 'mnih2014' \(did you mean 'mnih2013'\?\)"),
        ("--student.hidden", "[0]", "--student.hidden must be positive"),
        ("--student.convs", "[[8,0,4]]", "--student.convs must be positive"),
        ("--train.steps", "0", "--train.steps must be positive"),
        ("--train.epochs", "0", "--train.epochs must be positive"),
        ("--train.batch_size", "-1", "--train.batch_size must be positive"),
        ("--train.learning_rate", "0", "--train.learning_rate must be positive"),
        ("--train.warmup", "-1", "--train.warmup must be zero or more"),
        ("--train.weight_decay", "-1", "--train.weight_decay must be zero or more"),
        ("--train.patience", "-1", "--train.patience must be zero or more"),
        ("--train.states", "0", "--train.states must be positive"),
        ("--train.val_fraction", "1", "--train.val_fraction must be between 0 and 1"),
        ("--train.val_every", "0", "--train.val_every must be positive"),
        ("--train.log_every", "0", "--train.log_every must be positive"),
        ("--objective.temperature", "0", "--objective.temperature must be positive"),
        ("--objective.temperature", "1e-300", "--objective.temperature must be positive, from 1e-6 to 1e6, got 1e-300"),
        ("--objective.temperature", "1e300", "--objective.temperature must be positive, from 1e-6 to 1e6"),
        ("--objective.jacobian_weight", "-1", "--objective.jacobian_weight must be zero or more"),
        ("--objective.jacobian_blur", "-1", "--objective.jacobian_blur must be zero or more"),
        ("--objective.k", "65", "--objective.k must be between 1 and 64"),
        ("--objective.input_noise", "-1", "--objective.input_noise must be zero or more, and finite"),
        ("--objective.input_noise", ".nan", "--objective.input_noise must be zero or more, and finite"),
        ("--objective.input_noise", ".inf", "--objective.input_noise must be zero or more, and finite"),
        ("--evaluate.games", "33", "--evaluate.games must be a multiple of evaluate.num_envs"),
        ("--sweep.test_states", "0", "--sweep.test_states must be positive"),
        ("--sweep.games", "-1", "--sweep.games must be zero or more"),
        ("--sweep.games", "33", "--sweep.games must be a multiple of evaluate.num_envs"),
        ("--evaluate.agents", "[]", "--evaluate.agents must be at least one agent"),
    ],
)
def test_value_out_of_range_is_refused_by_name(flag: str, value: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        parse(stage_of(flag), [f"{flag}={value}"])
