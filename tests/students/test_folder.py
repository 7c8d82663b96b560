from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.networks.layers.layer import activations
from distill.networks.nets import AtariCNN, NetSpec, to_unit
from distill.students import sb3
from distill.students.folder import Student, is_student, load_student, save_student
from distill.task import Task
from teachers.load import load_teacher
from tests.fixtures.records import edit_record, training


@pytest.fixture
def copy(saved: Student, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved.folder, tmp_path / "student"))


def edit_json(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    edit_record(folder / "student.json", change)


def test_a_loaded_student_is_the_saved_one(saved: Student, net: AtariCNN, obs: npt.NDArray[np.uint8]) -> None:
    x = to_unit(torch.from_numpy(obs))
    assert torch.equal(saved.net(x), net(x))
    assert saved.net.spec == net.spec
    assert not saved.net.training
    assert len(saved.fingerprint) == 64
    assert sorted(path.name for path in saved.folder.iterdir()) == ["model.safetensors", "student.json", "student.zip"]


@pytest.mark.parametrize("activation", activations())
def test_other_shapes_and_activations(activation: str, tmp_path: Path, obs: npt.NDArray[np.uint8]) -> None:
    net = AtariCNN(NetSpec(((4, 10, 5), (4, 3, 2)), (9, 7), activation), 18)
    save_student(tmp_path, net, Task("alien", "sb3", get_preset("sb3").hash, 18), training(seed=3))
    loaded = load_student(tmp_path)
    x = to_unit(torch.from_numpy(obs[:2]))
    assert torch.equal(loaded.net(x), net(x))
    assert loaded.training.seed == 3
    assert loaded.task.num_actions == 18


def test_a_value_head_is_kept_and_teaches(net: AtariCNN, task: Task, tmp_path: Path) -> None:
    with_value = AtariCNN(net.spec, net.num_actions, value=True)
    save_student(tmp_path, with_value, task, training())
    x = torch.rand(3, 4, 84, 84, generator=torch.Generator().manual_seed(1))
    found = load_student(tmp_path).net.logits_and_value(x)
    for mine, theirs in zip(found, with_value.logits_and_value(x), strict=True):
        assert torch.equal(mine, theirs)
    for agent in (str(tmp_path), str(tmp_path / "student.zip")):
        torch.testing.assert_close(load_teacher(agent).logits_and_value(x)[1], found[1])


def test_run_folder_and_student_folder_are_both_accepted(saved: Student) -> None:
    run = saved.folder.parent
    assert load_student(run).folder == load_student(str(saved.folder)).folder == saved.folder
    assert is_student(run)
    assert is_student(saved.folder)
    assert not is_student(run.parent)


def test_fingerprint_follows_the_weights(saved: Student, net: AtariCNN, task: Task, tmp_path: Path) -> None:
    save_student(tmp_path / "same", net, task)
    other = AtariCNN(net.spec, net.num_actions)
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        other.policy.bias[0] += 1e-3
    save_student(tmp_path / "other", other, task)
    assert load_student(tmp_path / "same").fingerprint == saved.fingerprint
    assert load_student(tmp_path / "other").fingerprint != saved.fingerprint


def test_a_student_is_finished_only_when_its_json_is_there(
    net: AtariCNN, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(sb3, "save_sb3_zip", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_student(tmp_path / "student", net, task)
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


def test_weights_that_are_none(net: AtariCNN, task: Task, tmp_path: Path) -> None:
    net = deepcopy(net)
    with torch.no_grad():
        net.policy.bias[0] = float("nan")
    save_student(tmp_path / "student", net, task)
    with pytest.raises(UserError, match="has weights that are NaN or infinite: its training diverged; train it again"):
        load_student(tmp_path)


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
        ("pong", {}, "is of breakout, not pong"),
        (
            "breakout",
            {"preset": "sb3-fast", "preset_hash": get_preset("sb3-fast").hash},
            r"is of preset sb3-fast \(\w+\), not sb3 \(\w+\)",
        ),
        ("breakout", {"preset_hash": "0123456789ab"}, r"is of preset sb3 \(0123456789ab\), not sb3 \(\w+\)"),
        ("pong", {"game": "pong"}, "chooses among 4 actions, not 6"),
    ],
)
def test_students_that_do_not_fit(copy: Path, game: str, changes: dict[str, Any], message: str) -> None:
    edit_json(copy, lambda facts: facts.update(changes))
    with pytest.raises(UserError, match=rf"^it {message}; choose$"):
        load_student(copy).task.refuse_other(load_teacher(game).info.task, "it", "choose")


def test_a_student_that_fits(saved: Student) -> None:
    assert saved.task.difference(load_teacher("breakout").info.task) == ""
    assert saved.task.preset_hash == get_preset("sb3").hash


def test_papers_without_what_matters_are_refused(copy: Path) -> None:
    """Fit to play, but nothing tells how it was trained."""
    with pytest.raises(UserError, match=r"student.json does not say how the student was trained; it can only"):
        _ = load_student(copy).training
    whole = training()
    edit_json(copy, lambda record: record.update(whole.to_dict()))
    assert load_student(copy).training == whole
    for change, message in (
        ({"metrics": {"val_kl": float("inf"), "val_action_error": 0.2}}, "its 'metrics.val_kl' cannot be 'inf'"),
        ({"metrics": {"val_action_error": 0.2}}, "it has no 'metrics.val_kl'"),
        ({"dataset": "data/pong"}, "its 'dataset' has no fields"),
        ({"seed": "one"}, "its 'seed' cannot be 'one'"),
        ({"steps": None}, "its 'steps' cannot be 'None'"),
    ):
        told = load_student(copy).record
        record = replace(told, told={**whole.to_dict(), **change})
        with pytest.raises(UserError, match=message):
            record.training(copy / "student.json")
