from __future__ import annotations

import hashlib
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from distill.dataset.reader import Dataset
from distill.envs.presets import PRESETS, WORDS, Luma, Preset, check_recorded, get_preset, register_preset
from distill.errors import UserError
from distill.records.seal import sealed
from distill.students.folder import load_student
from distill.system.files import read_json, write_json

# Datasets and students carry these: a change here means that none of them fits any more.
PINNED = {
    "sb3": "739e34ec987e",
    "sb3-fast": "3ea844f302c7",
    "async-rl": "d5f0dd1ae3e5",
    "cleanrl": "927f63c178da",
    "cleanrl-gymnasium1": "42f2ff176b32",
}


def test_hashes_never_change() -> None:
    assert {name: preset.hash for name, preset in PRESETS.items()} == PINNED


def test_hash_ignores_words() -> None:
    assert replace(get_preset("sb3"), name="another", meaning="for another").hash == PINNED["sb3"]


ONLY = ("frame_size", "frame_stack")
"""Fields with one value that is supported."""
OTHER: dict[str, Any] = {
    "gray": "gray-then-max", "resize": "linear", "luma": "bt709", "noop_min": 0, "padding_type": "reset",
}  # fmt: skip


@pytest.mark.parametrize("field", [field.name for field in fields(Preset) if field.name not in (*WORDS, *ONLY)])
def test_hash_changes_with_every_field(field: str) -> None:
    preset = get_preset("sb3")
    value: Any = getattr(preset, field)
    other: Any = OTHER[field] if field in OTHER else not value if isinstance(value, bool) else value + 1
    assert replace(preset, **{field: other}).hash != preset.hash


def test_later_fields_are_hashed_only_where_they_are_not_at_their_default() -> None:
    spelled_out = Preset(name="x", gray="max-then-gray", resize="area", luma="bt601", noop_min=1)
    assert spelled_out.hash == PINNED["sb3"]
    lumas = {replace(spelled_out, luma=luma).hash for luma in get_args(Luma)}
    assert len(lumas) == 4
    # The hash that this preset had before it could be asked for: what any future field must leave alone.
    body = {"fire_reset": False, "frame_size": 84, "frame_skip": 4, "frame_stack": 4, "gray": "max-then-gray",
            "life_loss_reset": False, "luma": "async-rl", "max_frames": 108000, "noop_max": 30, "noop_min": 0,
            "resize": "linear"}  # fmt: skip
    assert hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12] == PINNED["async-rl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame_size": 64}, "preset 'sb3': frame_size must be 84, got 64"),
        ({"frame_stack": 1}, "preset 'sb3': frame_stack must be 4, got 1"),
        ({"frame_size": float("nan")}, "frame_size must be 84, got nan"),
        ({"gray": "max"}, "gray must be 'max-then-gray' or 'gray-then-max', got 'max'"),
        ({"resize": "cubic"}, "resize must be 'area' or 'linear', got 'cubic'"),
        ({"luma": "rgb"}, "luma must be 'bt601' or 'bt709' or 'async-rl' or 'gymnasium', got 'rgb'"),
        ({"noop_min": 2}, "noop_min must be 0 or 1, got 2"),
        ({"padding_type": "repeat"}, "padding_type must be 'zero' or 'reset', got 'repeat'"),
        ({"resize_first": "yes"}, "resize_first must be False or True, got 'yes'"),
        ({"gray": "gray-then-max", "resize_first": True}, "resize_first is for max-then-gray"),
        ({"frame_skip": 0}, "frame_skip must be 1 or more, got 0"),
        ({"noop_max": -1}, "noop_max must be 0 or more, got -1"),
        ({"max_frames": float("nan")}, "max_frames must be 1 or more, got nan"),
        ({"gray": "gray-then-max", "resize": "linear"}, "with gray-then-max the emulator itself turns frames gray"),
        ({"gray": "gray-then-max", "luma": "bt709"}, "got 'area' and 'bt709'; use max-then-gray"),
    ],
)
def test_what_nothing_supports_is_refused_in_one_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as error:
        replace(get_preset("sb3"), **change)
    assert "\n" not in str(error.value)


def test_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown preset 'sb3_fast' \(did you mean 'sb3-fast'\?\); known: sb3, sb3-fa"):
        get_preset("sb3_fast")


def test_presets_that_make_the_same_stacks_see_as_each_other() -> None:
    sb3 = get_preset("sb3")
    for same in (sb3, replace(sb3, name="x"), replace(sb3, noop_min=0, noop_max=3, max_frames=9, frame_skip=2)):
        assert sb3.sees_as(same)
        assert same.sees_as(sb3)
    others: tuple[dict[str, Any], ...] = (
        {"gray": "gray-then-max"},
        {"resize": "linear"},
        {"luma": "bt709"},
        {"fire_reset": False},
        {"life_loss_reset": False},
        {"resize_first": True},
        {"padding_type": "reset"},
    )
    for other in others:
        assert not sb3.sees_as(replace(sb3, **other))
        assert not replace(sb3, **other).sees_as(sb3)


MINE = Preset(name="mine", gray="max-then-gray", frame_skip=3)


def test_a_registered_preset_is_found_and_a_taken_name_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PRESETS, "_things", dict(PRESETS))
    assert register_preset(MINE) is MINE
    assert get_preset("mine") is MINE
    check_recorded("runs/x", "mine")
    with pytest.raises(UserError, match="there is a preset 'sb3' already"):
        register_preset(replace(MINE, name="sb3"))
    with pytest.raises(UserError, match=r"unknown preset 'mina' \(did you mean 'mine'\?\)"):
        get_preset("mina")


def test_a_preset_at_a_dotted_path_is_named_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_eyes.py").write_text(
        "from distill.envs.presets import Preset\nmine = Preset(name='x', gray='max-then-gray', frame_skip=3)\nno = 3"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = get_preset("some_eyes:mine")
    assert (found.name, found.hash) == ("some_eyes:mine", MINE.hash)
    check_recorded("runs/x", "some_eyes:mine")
    with pytest.raises(UserError, match="preset 'some_eyes:no' must be a Preset, but is a int"):
        get_preset("some_eyes:no")


def test_papers_of_a_preset_that_is_not_here_say_what_is_missing() -> None:
    with pytest.raises(
        UserError,
        match=r"^runs/x is of preset 'mine', which is not registered here.*DISTILL_PLUGINS=its_name \(docs/",
    ):
        check_recorded("runs/x", "mine")
    with pytest.raises(UserError, match=r"^runs/x is of a preset that is not here: preset 'nowhere:m': there is"):
        check_recorded("runs/x", "nowhere:m")


def test_a_dataset_and_a_student_of_a_preset_that_is_not_here(pong_copy: Path, tmp_path: Path) -> None:
    manifest = read_json(pong_copy / "dataset.json", "")
    manifest["identity"] |= {"preset": "mine", "teacher_preset": "mine"}
    write_json(pong_copy / "dataset.json", sealed(manifest))
    with pytest.raises(UserError, match=r"copy is of preset 'mine', which is not registered here"):
        Dataset(pong_copy)
    described = {"game": "pong", "preset": "mine", "preset_hash": MINE.hash, "num_actions": 6, "network": "nature"}
    write_json(tmp_path / "student.json", described)
    with pytest.raises(UserError, match="is of preset 'mine', which is not registered here"):
        load_student(tmp_path)
