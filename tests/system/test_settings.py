"""What sections refuse by what they say of their fields."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from distill.config.config import Config
from distill.config.stages import SETTINGS, evaluate, shrink
from distill.errors import UserError
from distill.system.settings import Section, check_settings, with_values

SECTIONS = {
    field.name: type(value)
    for field in dataclasses.fields(Config)
    if isinstance(value := getattr(Config(), field.name), Section)
}
OTHER = {bool: lambda old: not old, int: lambda old: old + 1, float: lambda old: old / 2 or 0.5, str: lambda old: "x"}


def another(kind: type[Section], name: str) -> Any:
    """A value that a field may have and is not its default."""
    old = getattr(kind, name)
    chosen = {"law": "fisher", "noise_on": "activations", "value": "returns", "ray_address": "auto",
              "early_learning_rate": 0.1, "teacher_score": 1.0}  # fmt: skip
    return chosen.get(name) or OTHER[type(old)](old)  # type: ignore[no-untyped-call]


IDLE = [(section, name, need) for section, kind in SECTIONS.items() for name, need in kind.NEEDS.items()]


@pytest.mark.parametrize(("section", "name", "need"), IDLE)
def test_what_would_be_passed_over_is_refused(section: str, name: str, need: str) -> None:
    kind = SECTIONS[section]
    other, _, value = need.partition("=")
    assert {name, other} <= {field.name for field in dataclasses.fields(kind)}
    value = str(value or {"actor": "runs/x", "adversary": "pgd", "attack": "fgsm", "noise": "white"}.get(other, "x"))
    found: Any = True if value == "true" else value
    if other == "until_share":
        found = 0.9
    idle = "full" if need == "jacobian=projected" else "score" if need == "schedule=linear" else None
    without: dict[str, Any] = {f"{section}.{name}": another(kind, name)}
    without |= {f"{section}.{other}": idle} if idle else {}
    without |= {f"{section}.{other}": "random"} if need == "scheduler=pbt" else {}
    with pytest.raises(UserError, match=f"--{section}.{name} is of --{section}.{need}; add that, or leave it out"):
        check_settings(with_values(Config(), without))
    check_settings(with_values(Config(), without | {f"{section}.{other}": found}))


def test_every_section_of_every_stage_is_tried() -> None:
    names = {field.name for kind in SETTINGS.values() for field in dataclasses.fields(kind)}
    assert {name for name in names if isinstance(getattr(Config(), name), Section)} == SECTIONS.keys()
    assert len(IDLE) > 20


def test_an_attacker_without_an_attack_is_refused_by_those_who_play() -> None:
    config = with_values(Config(env="pong"), {"threat.steps": 3})
    check_settings(config)  # distill attack reads it
    for stage in (evaluate, shrink):
        with pytest.raises(UserError, match=r"--threat.steps is of --evaluate.attack; add that, or leave it out"):
            stage(config)
