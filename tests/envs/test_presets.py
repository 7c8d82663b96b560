from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from distill.envs.presets import PRESETS, Preset, get_preset
from distill.errors import UserError

# Datasets and students carry these: a change here means that none of them fits any more.
PINNED = {"sb3": "739e34ec987e", "sb3-fast": "3ea844f302c7"}


def test_hashes_never_change() -> None:
    assert {name: preset.hash for name, preset in PRESETS.items()} == PINNED


def test_hash_ignores_the_name() -> None:
    assert replace(get_preset("sb3"), name="another").hash == PINNED["sb3"]


@pytest.mark.parametrize("field", [field.name for field in fields(Preset) if field.name != "name"])
def test_hash_changes_with_every_field(field: str) -> None:
    preset = get_preset("sb3")
    value: Any = getattr(preset, field)
    other: Any = "gray-then-max" if field == "gray" else not value if isinstance(value, bool) else value + 1
    assert replace(preset, **{field: other}).hash != preset.hash


def test_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown preset 'sb3_fast' \(did you mean 'sb3-fast'\?\); known: sb3, sb3-fa"):
        get_preset("sb3_fast")
