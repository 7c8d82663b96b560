"""Formats that anyone adds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from distill.errors import UserError
from teachers.formats.format import FORMATS, LoadedPolicy, TeacherFormat, format_of, formats, register_teacher_format
from teachers.load import agent_game, load_teacher


@pytest.fixture
def numpad() -> Iterator[TeacherFormat]:
    """Agents that are a text file with the bias of each action."""

    def read(path: Path, tau: float, card: object) -> LoadedPolicy:
        bias = torch.tensor([float(word) for word in path.read_text().split()])
        net = nn.Sequential(nn.Flatten(), nn.Linear(4 * 84 * 84, len(bias)))
        with torch.no_grad():
            net[1].weight.zero_()
            net[1].bias.copy_(bias)
        return LoadedPolicy(net, "numpad", len(bias))

    made = TeacherFormat(
        "numpad", lambda path: path.suffix == ".numpad", read, suffix=".numpad", preset="sb3-fast",
        told=lambda path: {"env_id": "PongNoFrameskip-v4"}, is_what_a_folder_means=True,
    )  # fmt: skip
    formats()  # the toolkit's own come first
    yield register_teacher_format(made)
    FORMATS._things.pop("numpad")


def test_the_toolkits_own_are_files_of_the_folder() -> None:
    assert {form.name for form in formats()} >= {"sb3", "safetensors", "cleanrl"}


def test_an_agent_of_an_added_format_is_a_teacher(numpad: TeacherFormat, tmp_path: Path) -> None:
    (tmp_path / "agent.numpad").write_text("1 2 3 4 5 6")
    for name in (str(tmp_path / "agent.numpad"), str(tmp_path)):
        teacher = load_teacher(name)
        assert (teacher.info.game, teacher.info.preset, teacher.info.algorithm) == ("pong", "sb3-fast", "numpad")
        assert teacher(torch.rand(2, 4, 84, 84)).tolist() == [[1, 2, 3, 4, 5, 6]] * 2
        assert teacher.logits_and_value(torch.rand(2, 4, 84, 84))[1] is None
        assert not teacher.has_value
    assert agent_game(str(tmp_path / "agent.numpad")) == ("pong", "the file itself")
    first = teacher.info.fingerprint
    (tmp_path / "agent.numpad").write_text("1 2 3 4 5 7")
    assert load_teacher(str(tmp_path)).info.fingerprint != first


def test_agents_without_tensors_are_known_by_their_files(tmp_path: Path) -> None:
    class Always(nn.Module):
        def __init__(self, action: int) -> None:
            super().__init__()
            self.action = action

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(6)[self.action].expand(len(x), 6)

    def read(path: Path, tau: float, card: object) -> LoadedPolicy:
        text = (path / "action").read_text() if path.is_dir() else path.read_text()
        return LoadedPolicy(Always(int(text)), "rule", 6)

    formats()
    register_teacher_format(TeacherFormat("rule", lambda path: path.suffix == ".rule", read, suffix=".rule"))
    for name, text in {"up.rule": "2", "down.rule": "3", "same.rule": "2"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / f"folder-{name}").mkdir()
        (tmp_path / f"folder-{name}" / "action").write_text(text)
    for kind in ("", "folder-"):
        up, down, same = (
            load_teacher(str(tmp_path / f"{kind}{name}.rule"), game="pong").info.fingerprint
            for name in ("up", "down", "same")
        )
        assert up == same != down
    FORMATS._things.pop("rule")


def test_a_later_format_is_asked_first(numpad: TeacherFormat, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.touch()
    assert format_of(path).name == "safetensors"  # type: ignore[union-attr]
    register_teacher_format(TeacherFormat("mine", lambda path: path.name == "x.safetensors", numpad.read))
    assert format_of(path).name == "mine"  # type: ignore[union-attr]
    FORMATS._things.pop("mine")


def test_a_name_that_is_taken_and_a_thing_that_is_none_are_refused(numpad: TeacherFormat) -> None:
    with pytest.raises(UserError, match="there is a format of teachers 'numpad' already"):
        register_teacher_format(numpad)
    with pytest.raises(UserError, match="there is a format of teachers 'sb3' already"):
        register_teacher_format(TeacherFormat("sb3", numpad.recognises, numpad.read))


def test_what_a_folder_means_has_an_ending(numpad: TeacherFormat) -> None:
    with pytest.raises(UserError, match=r"format 'x': a file that a folder means needs a suffix, such as \.mine"):
        TeacherFormat("x", numpad.recognises, numpad.read, is_what_a_folder_means=True)


def test_of_two_agents_in_a_folder_none_is_meant(numpad: TeacherFormat, tmp_path: Path) -> None:
    for name in ("a.numpad", "b.numpad"):
        (tmp_path / name).write_text("1 2 3 4 5 6")
    with pytest.raises(UserError, match="is a folder but neither a dataset nor"):
        load_teacher(str(tmp_path))
