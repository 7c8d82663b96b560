"""All games of one student in one ONNX file, which is told the game."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from distill.dataset.schema import read_manifest
from distill.envs.presets import OBS_SHAPE
from distill.errors import UserError
from distill.networks.nets import AtariCNN, described
from distill.students.folder import Student, is_student, load_student
from distill.students.onnx_file import require_onnx, write_program
from distill.system.files import at_home, refuse_closed, replacing
from distill.system.parser import read_saved
from distill.train.checkpoint import can_go_on, newest_checkpoint

NEVER = -1e9
"""Logit of an action that a game does not have."""


class Joint(nn.Module):
    """Float pixels in [0, 1], (B, 4, 84, 84), and the number of each state's game, int64 (B,), to logits (B, most).

    Args:
        nets: of the games in the order of their numbers, with one trunk.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, nets: list[AtariCNN]) -> None:
        super().__init__()
        self.features = nets[0].features
        most, width = max(net.num_actions for net in nets), nets[0].policy.in_features
        weight, bias = torch.zeros(len(nets), most, width), torch.full((len(nets), most), NEVER)
        for number, net in enumerate(nets):
            weight[number, : net.num_actions] = net.policy.weight.detach()
            bias[number, : net.num_actions] = net.policy.bias.detach()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, pixels: Tensor, game: Tensor) -> Tensor:
        """Logits; those of actions that a game does not have are -1e9."""
        game = torch.where(game < 0, len(self.bias), game)  # none is counted from the end; what has no game is refused
        features = self.features(pixels)
        logits: Tensor = (self.weight[game] @ features.unsqueeze(-1)).squeeze(-1) + self.bias[game]
        return logits


def students_of(run: Path) -> list[Student]:
    """The students of a run of ``distill multitask``, in the order of their names; none of any other folder.

    Raises:
        UserError: some have a student already and others have none, or nobody can say whether that is so.
    """
    config = run / "config.yaml"
    if is_student(run) or not config.is_file():
        return []
    asked = read_saved(config, "name the run of one game").get("multitask")
    if not (isinstance(asked, dict) and asked.get("data")):
        return []
    students = [load_student(folder) for folder in sorted(path for path in run.iterdir() if is_student(path))]
    if students:
        _refuse_missing(run, {student.task.game for student in students}, asked["data"])
    return students


def _refuse_missing(run: Path, there: set[str], data: Sequence[str]) -> None:
    """They are written one after another: games left out would give the others other numbers."""
    try:
        games = _games_of(run, data)
    except UserError as error:
        if len(there) == len(data):
            return  # each dataset is of a game
        raise UserError(
            f"{run} has students of {', '.join(sorted(there))} and no checkpoint, and whether these are all its games "
            f"cannot be told ({error}); bring its data back, or export each by itself"
        ) from error
    missing = sorted(games - there)
    if missing:
        raise UserError(f"{run} has no student of {', '.join(missing)} yet; the same command finishes it")


def _games_of(run: Path, data: Sequence[str]) -> set[str]:
    """Games that a run learns: its checkpoint has a network for each; without one, those of its datasets.

    Raises:
        UserError: neither is there.
    """
    if can_go_on(run):
        with contextlib.suppress(UserError):
            model = newest_checkpoint(run, torch.device("cpu"), "--multitask.out")["model"]
            return {name.partition(".")[0] for name in model}
    return {read_manifest(at_home(place)).identity.game for place in data}


def write_joint_onnx(students: list[Student], out: Path) -> None:
    """Write one file; its metadata name the games in the order of their numbers.

    Raises:
        UserError: the file is there already, the networks have no common trunk, two are of one game, or onnx is not
            installed.
    """
    require_onnx("ONNX export")
    nets = [student.net for student in students]
    first = nets[0]
    assert described(first)  # others have no part that games could share, and are refused when they begin
    trunk = first.features.state_dict()
    whole: list[AtariCNN] = []
    for student in students:
        net = student.net
        same = described(net) and net.spec == first.spec
        if not same or any(not trunk[name].equal(tensor) for name, tensor in net.features.state_dict().items()):  # type: ignore[union-attr]
            raise UserError(f"{student.folder} and {students[0].folder} have no common trunk; export each by itself")
        whole.append(net)  # type: ignore[arg-type]
    games = [student.task.game for student in students]
    twice = sorted({game for game in games if games.count(game) > 1})
    if twice:
        raise UserError(f"{students[0].folder.parent.parent} has several students of {', '.join(twice)}; export each")
    if os.path.lexists(out):
        raise UserError(f"{out} exists; choose another --out")
    refuse_closed(out, "--out ")
    task = students[0].task
    papers = {"games": games, "preset": task.preset,
              "preset_hash": task.preset_hash}  # fmt: skip
    inputs = {"pixels": torch.zeros(2, *OBS_SHAPE), "game": torch.zeros(2, dtype=torch.int64)}
    with replacing(out) as temporary:
        write_program(Joint(whole), inputs, temporary, papers)
