"""One comparison of what agents and data are of."""

from __future__ import annotations

import dataclasses

import pytest

from distill.envs.presets import OBS_SHAPE, Preset, get_preset
from distill.errors import UserError
from distill.task import Task

PONG = Task("pong", "sb3", get_preset("sb3").hash, 6)


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({}, ""),
        ({"preset": "mine"}, ""),  # by another name, but with the same hash
        ({"game": "breakout", "num_actions": 4}, "is of pong, not breakout"),
        ({"preset_hash": "0123"}, rf"is of preset sb3 ({PONG.preset_hash}), not sb3 (0123)"),
        ({"num_actions": 4}, "chooses among 6 actions, not 4"),
        ({"obs_shape": (4, 64, 64)}, "is of observations of shape (4, 84, 84), not (4, 64, 64)"),
    ],
)
def test_every_part_of_a_task_is_compared(change: dict[str, object], clause: str) -> None:
    assert PONG.difference(dataclasses.replace(PONG, **change)) == clause  # type: ignore[arg-type]


def test_every_field_but_the_name_of_the_preset_counts() -> None:
    for field in dataclasses.fields(Task):
        other = dataclasses.replace(PONG, **{field.name: "other"})  # type: ignore[arg-type]
        assert bool(PONG.difference(other)) == (field.name != "preset")


def test_what_was_asked_for_takes_the_place_of_what_is_there() -> None:
    assert PONG.but() == PONG
    fast = PONG.but("breakout", "sb3-fast")
    assert fast == Task("breakout", "sb3-fast", get_preset("sb3-fast").hash, 6)
    with pytest.raises(UserError, match=r"^x is of pong, not breakout; set --env$"):
        PONG.refuse_other(fast, "x", "set --env")


@pytest.mark.parametrize("field", ["frame_size", "frame_stack"])
def test_other_observations_are_refused_where_a_preset_is_made(field: str) -> None:
    with pytest.raises(UserError, match=rf"preset 'small': {field} must be (84|4), got 64"):
        Preset(name="small", gray="max-then-gray", **{field: 64})  # type: ignore[arg-type]
    assert (get_preset("sb3").frame_stack, *[get_preset("sb3").frame_size] * 2) == OBS_SHAPE
