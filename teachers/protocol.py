"""What a teacher is: a frozen network from pixels to logits, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from distill.envs.games import canonical_game, game_info
from distill.envs.presets import OBS_SHAPE, get_preset
from distill.errors import UserError
from distill.networks.nets import count_parameters
from distill.networks.weights import fingerprint
from distill.task import Task


@dataclass(frozen=True)
class TeacherInfo:
    """Identity of a teacher; stored in every dataset made with it."""

    name: str
    """What the user called it: a bundled name, a path or a hub id."""
    game: str
    """Canonical game name."""
    algorithm: str
    """PPO, A2C (indistinguishable by weights: ``PPO/A2C``), DQN or QR-DQN."""
    preset: str
    """Name of the preset it plays on."""
    fingerprint: str
    """SHA-256 over parameter names, shapes and values, and what else it is known by (docs/teachers.md)."""
    num_actions: int
    """Width of the policy head."""
    parameters: int
    """Number of weights from pixels to logits and value."""
    tau: float | None = None
    """Q-value teachers only: logits = Q / tau (Rusu et al. 2016, section 3)."""

    @property
    def task(self) -> Task:
        """What it plays and sees."""
        return Task(self.game, self.preset, get_preset(self.preset).hash, self.num_actions)

    def require_policy(self, setting: str) -> None:
        """Raise a UserError if it gives Q-values; ``setting`` names it, with its value."""
        if self.tau is not None:
            raise UserError(f"{setting} gives Q-values, not a policy; distill it first, and go on with that")

    @property
    def told(self) -> dict[str, Any]:
        """What a student's papers say of it: fields of ``distill.records.student.Training``."""
        return {
            "teacher": self.fingerprint,
            "teacher_name": self.name,
            "teacher_tau": self.tau,
            "teacher_preset": self.preset,
            "teacher_preset_hash": get_preset(self.preset).hash,
        }


class Teacher(nn.Module):
    """A frozen agent: float pixels in [0, 1], (B, 4, 84, 84), to logits, (B, A).

    ``net`` computes them; ``logits_and_value``, where it has one, gives its value too.

    For Q-value agents the logits are Q / tau, folded into the head's weights, so that derivatives
    need no special case.
    """

    def __init__(self, net: nn.Module, info: TeacherInfo) -> None:
        super().__init__()
        self.net, self.info = net, info
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def of(
        cls, net: nn.Module, *, game: str, preset: str = "sb3", algorithm: str | None = None, name: str = "teacher"
    ) -> Teacher:
        """A teacher known by the parameters and buffers of its network.

        Args:
            net: float pixels in [0, 1], (B, 4, 84, 84), to logits, (B, A), with A of the game's minimal action set.
            game: any name of the game.
            preset: what it sees.
            algorithm: in one word; by default the name of the network's class.
            name: what it is called.
        """
        info = game_info(canonical_game(game))
        told = TeacherInfo(
            name=name,
            game=info.game,
            algorithm=algorithm or type(net).__name__,
            preset=preset,
            fingerprint=fingerprint(net.state_dict()),
            num_actions=len(info.actions),
            parameters=count_parameters(net),
        )
        return cls(net, told)

    @property
    def has_value(self) -> bool:
        """True where ``logits_and_value`` gives a value."""
        device = next((parameter.device for parameter in self.parameters()), None)
        with torch.no_grad():
            return self.logits_and_value(torch.zeros(1, *OBS_SHAPE, device=device))[1] is not None

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float (B, A)."""
        return self.net(x)  # type: ignore[no-any-return]

    def logits_and_value(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, A) and value (B,), or None for agents without a value head."""
        both = getattr(self.net, "logits_and_value", None)
        return both(x) if both is not None else (self.net(x), None)
