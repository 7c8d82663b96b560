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
EXAMPLES = {
    "actor": "runs/x", "adversary": "pgd", "attack": "fgsm", "data": "data/x", "early_learning_rate": 0.1,
    "init": "runs/x", "jacobian": "full", "law": "fisher", "noise": "white", "noise_on": "activations",
    "ray_address": "auto", "schedule": "score", "scheduler": "random", "teacher_score": 1.0, "teacher_zip": "x.zip",
    "until_share": 0.9, "value": "returns",
}  # fmt: skip
"""Another value than the default, where that does not tell one."""
OTHER = {bool: lambda old: not old, int: lambda old: old + 1, float: lambda old: old / 2 or 0.5}
IDLE = [(section, name, need) for section, kind in SECTIONS.items() for name, need in kind.NEEDS.items()]


def another(kind: type[Section], name: str) -> Any:
    """A value that a field may have and is not its default."""
    old = getattr(kind, name)
    return EXAMPLES[name] if name in EXAMPLES else OTHER[type(old)](old)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("section", "name", "need"), IDLE)
def test_what_would_be_passed_over_is_refused(section: str, name: str, need: str) -> None:
    kind = SECTIONS[section]
    other, equals, value = need.partition("=")
    usual = getattr(kind, other)
    needed = {"true": True}.get(value, value) if equals else another(kind, other)
    given = {f"{section}.{name}": another(kind, name)}
    without = {f"{section}.{other}": another(kind, other) if usual == needed else usual}
    with pytest.raises(UserError, match=f"--{section}.{name} is of --{section}.{need}; add that, or leave it out"):
        check_settings(with_values(Config(), given | without))
    check_settings(with_values(Config(), given | {f"{section}.{other}": needed}))


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
