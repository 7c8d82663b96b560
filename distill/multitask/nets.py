"""Networks of several games that share all layers but the last."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from distill.errors import UserError
from distill.networks.build import build_student
from distill.networks.inherit import FLAG
from distill.networks.nets import described
from distill.networks.settings import StudentConfig


def make_students(student: StudentConfig, actions: Mapping[str, int]) -> nn.ModuleDict:
    """A network for each game, with one trunk in all of them: every one is whole, and saved as any other.

    Args:
        student: the layers.
        actions: how many each game has.

    Raises:
        UserError: a network that is not described by its layers has no trunk that one could tell.
    """
    if student.teacher_layers:
        raise UserError(f"{FLAG} is of students of one game: the trunk is shared by all, and each has another teacher")
    nets = {game: build_student(student, count) for game, count in actions.items()}
    first = next(iter(nets.values()))
    for net in nets.values():
        if not described(net) or not described(first):
            raise UserError(
                f"--student.name={student.name} is built by a program, so there is no telling trunk from head; name a "
                "network that is described by its layers, such as mnih2013"
            )
        net.features = first.features
    return nn.ModuleDict(nets)
