from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.networks.nets import ACTIVATIONS, AtariCNN, NetSpec, to_unit
from distill.students import sb3
from distill.students.folder import Student, is_student, load_student, save_student
from teachers.load import load_teacher


@pytest.fixture
def copy(saved: Student, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved.folder, tmp_path / "student"))


def edit_json(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "student.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


def test_a_loaded_student_is_the_saved_one(saved: Student, net: AtariCNN, obs: npt.NDArray[np.uint8]) -> None:
    x = to_unit(torch.from_numpy(obs))
    assert torch.equal(saved.net(x), net(x))
    assert saved.net.spec == net.spec
    assert not saved.net.training
    assert len(saved.fingerprint) == 64
    assert sorted(path.name for path in saved.folder.iterdir()) == ["model.safetensors", "student.json", "student.zip"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_other_shapes_and_activations(
    activation: str, facts: dict[str, Any], tmp_path: Path, obs: npt.NDArray[np.uint8]
) -> None:
    net = AtariCNN(NetSpec(((4, 10, 5), (4, 3, 2)), (9, 7), activation), 18)
    save_student(tmp_path, net, {**facts, "seed": 3})
    loaded = load_student(tmp_path)
    x = to_unit(torch.from_numpy(obs[:2]))
    assert torch.equal(loaded.net(x), net(x))
    assert loaded.facts["seed"] == 3
    assert loaded.facts["num_actions"] == 18


def test_run_folder_and_student_folder_are_both_accepted(saved: Student) -> None:
    run = saved.folder.parent
    assert load_student(run).folder == load_student(str(saved.folder)).folder == saved.folder
    assert is_student(run)
    assert is_student(saved.folder)
    assert not is_student(run.parent)


def test_fingerprint_follows_the_weights(saved: Student, net: AtariCNN, facts: dict[str, Any], tmp_path: Path) -> None:
    save_student(tmp_path / "same", net, facts)
    other = AtariCNN(net.spec, net.num_actions)
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        other.policy.bias[0] += 1e-3
    save_student(tmp_path / "other", other, facts)
    assert load_student(tmp_path / "same").fingerprint == saved.fingerprint
    assert load_student(tmp_path / "other").fingerprint != saved.fingerprint


def test_a_student_is_finished_only_when_its_json_is_there(
    net: AtariCNN, facts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(sb3, "save_sb3_zip", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_student(tmp_path / "student", net, facts)
    assert not is_student(tmp_path)
    with pytest.raises(UserError, match="no finished student"):
        load_student(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no finished student at {tmp_path}/nowhere; train one with"):
        load_student(tmp_path / "nowhere")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def change_a_weight(path: Path) -> None:
    state = load_file(path)
    state["policy.bias"][0] += 1
    save_file(state, path)


def drop_a_weight(path: Path) -> None:
    state = load_file(path)
    del state["policy.bias"]
    save_file(state, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "is damaged .*No such file"),
        (truncate, "is damaged"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (drop_a_weight, "is damaged .*train the student again"),
        (change_a_weight, "does not match student.json; it is damaged"),
    ],
)
def test_damaged_weights(copy: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(copy / "model.safetensors")
    with pytest.raises(UserError, match=message):
        load_student(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.pop("net"), "is damaged .*net"),
        (lambda facts: facts.pop("fingerprint"), "does not match student.json"),
        (lambda facts: facts.update(num_actions=5), "is damaged"),
        (lambda facts: facts.update(num_actions="six"), "is damaged"),
        (lambda facts: facts["net"].update(hidden=[128]), "is damaged"),
        (lambda facts: facts["net"].update(convs=[[16, 8]]), "is damaged"),
        (lambda facts: facts["net"].update(activation="gelu"), "unknown activation 'gelu'"),
    ],
)
def test_damaged_description(copy: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    edit_json(copy, change)
    with pytest.raises(UserError, match=message):
        load_student(copy)


@pytest.mark.parametrize("text", ["", '{"net": {', "[1, 2]", "null"])
def test_unreadable_description(copy: Path, text: str) -> None:
    (copy / "student.json").write_text(text)
    with pytest.raises(UserError, match=r"student.json is not a readable student description|is damaged"):
        load_student(copy)


@pytest.mark.parametrize(
    ("game", "changes", "message"),
    [
        ("pong", {}, "has game breakout, but pong was asked for"),
        ("breakout", {"preset": "sb3-fast"}, r"has preset sb3-fast \(\w+\), but sb3 \(\w+\) was asked for"),
        (
            "breakout",
            {"preset_hash": "0123456789ab"},
            r"has preset sb3 \(0123456789ab\), but sb3 \(\w+\) was asked for",
        ),
        ("pong", {"game": "pong"}, "has number of actions 4, but 6 was asked for"),
    ],
)
def test_students_that_do_not_fit(copy: Path, game: str, changes: dict[str, Any], message: str) -> None:
    edit_json(copy, lambda facts: facts.update(changes))
    with pytest.raises(UserError, match=message):
        load_student(copy).check_fits(game, load_teacher(game))


def test_a_student_that_fits(saved: Student) -> None:
    saved.check_fits("breakout", load_teacher("breakout"))
    assert saved.facts["preset_hash"] == get_preset("sb3").hash


def test_papers_without_what_matters_are_refused(copy: Path) -> None:
    """Fit to play, but nothing tells how it was trained."""
    student = load_student(copy)
    with pytest.raises(UserError, match=r"student.json is damaged: it has no 'student'"):
        student.check_papers()
    whole = {
        "student": "mnih2013", "dataset": {"folder": "x", "created": "y", "states": 3}, "seed": 1, "val_fraction": 0.1,
        "objective": {"temperature": 1.0, "jacobian_weight": 0}, "best_step": 3,
        "metrics": {"val_kl": 0.1, "val_action_error": 0.2, "val_jacobian_cosine": None},
    }  # fmt: skip
    student.facts |= whole
    student.check_papers()
    for change, message in (
        ({"metrics": {"val_kl": float("nan"), "val_action_error": 0.2}}, "its 'metrics.val_kl' cannot be 'nan'"),
        ({"metrics": {"val_action_error": 0.2}}, "it has no 'metrics.val_kl'"),
        ({"dataset": "data/pong"}, "its 'dataset' has no fields"),
        ({"seed": "one"}, "its 'seed' cannot be 'one'"),
    ):
        student.facts |= {**whole, **change}
        with pytest.raises(UserError, match=message):
            student.check_papers()
