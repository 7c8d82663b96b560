"""A format of teachers: files that end in ``.seeded`` and hold the seed of a random network."""

from pathlib import Path

import torch
from torch import nn

from teachers.formats.format import LoadedPolicy, TeacherFormat, register_teacher_format
from teachers.protocol import Teacher


class Waves(nn.Module):
    """Blurred pixels, a dense layer, and a sine that the fast engine does not know."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.AvgPool2d(12), nn.Flatten(), nn.Linear(4 * 49, num_actions))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * torch.sin(4 * self.body(x))


def made_of(seed: int) -> Waves:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Waves(num_actions=6)


def read(path: Path, tau: float, card: object) -> LoadedPolicy:
    return LoadedPolicy(made_of(int(path.read_text())), "waves", num_actions=6)


def load() -> Teacher:
    return Teacher.of(made_of(7), game="pong", preset="my-eyes", algorithm="waves")


register_teacher_format(
    TeacherFormat(
        "seeded", recognises=lambda path: path.suffix == ".seeded", read=read, suffix=".seeded", preset="my-eyes",
        told=lambda path: {"env_id": "PongNoFrameskip-v4"},
    )
)  # fmt: skip
