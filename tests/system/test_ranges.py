"""A value that is none, of another type, NaN or out of range is refused by its name, whoever gives it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import yaml

from distill.cli.command import parse
from distill.config.config import Config
from distill.config.validate import validated
from distill.errors import UserError
from distill.losses.settings import ObjectiveConfig
from distill.networks.settings import StudentConfig
from distill.sweep.settings import SweepConfig
from distill.system.ranges import POSITIVE, SHARE, ZERO_OR_MORE, Range, check_types, is_number
from distill.train.settings import TrainConfig
from teachers.settings import TeacherConfig
from tests.fixtures.stages import stage_of


def leaves(settings: Any, above: str = "") -> list[tuple[str, Any]]:
    """(dotted name, type) of every setting."""
    hints, found = get_type_hints(type(settings)), []
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), above + field.name
        found += leaves(value, f"{name}.") if dataclasses.is_dataclass(value) else [(name, hints[field.name])]
    return found


def ranges(settings: Any, above: str = "") -> dict[str, Range]:
    """Of every setting, by dotted name."""
    found = {
        above + name: allowed
        for kind in type(settings).__mro__
        for name, allowed in vars(kind).get("RANGES", {}).items()
    }
    for field in dataclasses.fields(settings):
        if dataclasses.is_dataclass(value := getattr(settings, field.name)):
            found |= ranges(value, f"{field.name}.")
    return found


def kinds(hint: Any) -> set[Any]:
    """All types in a hint, those of a list's items included."""
    return {hint}.union(*(kinds(inner) for inner in get_args(hint)))


RANGES = ranges(Config())
TEACHER_RANGES = TeacherConfig.RANGES
LEAVES = leaves(Config())
NEEDED = [name for name, hint in LEAVES if type(None) not in getattr(hint, "__args__", ())]
NUMBERS = [
    name
    for name, hint in LEAVES
    if {int, float} & kinds(hint) and name not in ("student.convs", "student.hidden") and get_origin(hint) is not dict
]


def with_value(name: str, value: Any) -> Config:
    section, _, field = name.rpartition(".")
    if not section:
        return Config(**{field: value})
    return Config(**{section: dataclasses.replace(getattr(Config(), section), **{field: value})})


@pytest.mark.parametrize("name", NEEDED)
def test_null_for_what_needs_a_value(name: str, tmp_path: Any) -> None:
    file = tmp_path / "null.yaml"
    section, _, field = name.rpartition(".")
    file.write_text(yaml.safe_dump({section: {field: None}} if section else {field: None}))
    for give in (lambda: validated(with_value(name, None)), lambda: parse("train", ["--config", str(file)])):
        with pytest.raises(UserError, match=f"^--{name} must be .*, got null$"):
            give()


@pytest.mark.parametrize("name", [name for name, _ in LEAVES if name not in NEEDED])
def test_null_where_it_is_a_value(name: str) -> None:
    config = with_value(name, None)
    if name == "imitate.states":  # one of two budgets
        config = dataclasses.replace(config, imitate=dataclasses.replace(config.imitate, minutes=1.0))
    validated(config)


def test_every_number_has_a_range() -> None:
    assert set(RANGES) == set(NUMBERS) - {"seed"}
    numbers = {name for name, hint in leaves(TeacherConfig()) if hint in (int, float)}
    assert set(TEACHER_RANGES) == numbers - {"batch_size"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**63, 10**400], ids=str)
@pytest.mark.parametrize("allowed", dict.fromkeys([*RANGES.values(), *TEACHER_RANGES.values()]), ids=lambda r: r.text)
def test_no_range_has_nan_or_infinity_in_it(allowed: Range, value: float) -> None:
    with pytest.raises(UserError, match=f"^--x must be {allowed.text}.*, got"):
        allowed.check("--x", value)


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (POSITIVE, (1, 1e-300, 2**62), (0, 0.0, -1)),
        (ZERO_OR_MORE, (0, 1), (-1e-300, -1)),
        (SHARE, (0, 1, 0.5), (-0.1, 1.1)),
        (RANGES["collect.sticky"], (0, 0.99), (1, -0.1)),
        (RANGES["train.val_fraction"], (0.1, 0.9), (0, 1)),
    ],
)
def test_ends_of_ranges(allowed: Range, inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in outside)


@pytest.mark.parametrize("name", [name for name, hint in LEAVES if float in (hint, *getattr(hint, "__args__", ()))])
@pytest.mark.parametrize("word", [".nan", ".inf", "nan", "inf", "-.inf"])
def test_nan_and_infinity_on_the_command_line(name: str, word: str) -> None:
    with pytest.raises(UserError, match=f"^--{name} must be "):
        parse(stage_of(name), [f"--{name}={word}"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (TrainConfig(steps=True), "--steps must be int, got True"),
        (TrainConfig(steps=3.0), "--steps must be int, got 3.0"),  # type: ignore[arg-type]
        (TrainConfig(resume=1), "--resume must be bool, got 1"),  # type: ignore[arg-type]
        (TrainConfig(learning_rate="1"), r"--learning_rate must be float or one of \['auto'\], got 1"),  # type: ignore[arg-type]
        (TrainConfig(epochs=True), r"--epochs must be float or null, got True"),
        (TrainConfig(out=3), "--out must be str, got 3"),  # type: ignore[arg-type]
        (TrainConfig(data=Path("x")), r"--data must be str, got PosixPath\('x'\)"),  # type: ignore[arg-type]
        (TrainConfig(engine="slow"), r"--engine must be one of \['fast', 'autograd'\], got slow"),  # type: ignore[arg-type]
        (StudentConfig(hidden=[8, None]), r"--hidden must be list\[int\] or null, got \[8, None\]"),  # type: ignore[list-item]
        (StudentConfig(convs=[(8, 4)]), r"--convs must be list\[tuple\[int, int, int\]\] or null"),  # type: ignore[list-item]
        (StudentConfig(convs=[(8, 4.5, 1)]), r"--convs must be list"),  # type: ignore[list-item]
        (SweepConfig(grid={"seed": 1}), r"--grid: seed must be list\[Any\], got 1"),  # type: ignore[dict-item]
        (SweepConfig(grid=None), r"--grid must be dict\[str, list\[Any\]\], got null"),  # type: ignore[arg-type]
        (Config(train=None), "'train' is a group of settings, not a value; got None"),  # type: ignore[arg-type]
        (Config(objective=TrainConfig()), "'objective' is a group of settings"),  # type: ignore[arg-type]
    ],
)
def test_other_types(settings: Any, says: str) -> None:
    with pytest.raises(UserError, match=f"^{says}"):
        check_types(settings)


def test_what_fits() -> None:
    check_types(
        Config(objective=ObjectiveConfig(jacobian_weight=1, k=None), sweep=SweepConfig(grid={"seed": [1, None]}))
    )
    check_types(StudentConfig(convs=[[8, 8, 4]], hidden=(16,)))  # type: ignore[list-item, arg-type]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--learning_rate=.nan"], "--learning_rate must be positive, got nan"),
        (["--clip_range=.inf"], "--clip_range must be positive, and finite, got inf"),
        (["--gamma=.nan"], "--gamma must be between 0 and 1, got nan"),
        (["--total-timesteps=null"], "--total_timesteps must be int, got null"),
    ],
)
def test_training_a_teacher(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    from teachers.train import main

    assert main(words) == 1
    assert capsys.readouterr().err == f"error: {says}\n"


def test_null_in_a_teachers_file(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from teachers.train import main

    (tmp_path / "x.yaml").write_text("gamma: null\nseed: null\n")
    assert main(["--config", str(tmp_path / "x.yaml")]) == 1
    assert capsys.readouterr().err == "error: --gamma must be float, got null\n"


@pytest.mark.parametrize(
    ("value", "good"),
    [(0, True), (-1.5, True), (5e-324, True), (10**400, False), (-(10**400), False), (math.nan, False),
     (math.inf, False), (True, False), ("1", False), (None, False)],
)  # fmt: skip
def test_numbers_of_a_file(value: object, good: bool) -> None:
    assert is_number(value) is good
