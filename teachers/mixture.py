"""Several teachers of one game as one: the mixture of their policies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from distill.errors import UserError
from distill.networks.weights import fingerprint
from teachers.protocol import Teacher

PREFIX = "mixture:"
"""How such a teacher is named: ``mixture:pong-ppo,runs/other``."""


class Mixture(nn.Module):
    """Logarithm of the mean of several policies: float pixels in [0, 1], (B, 4, 84, 84), to logits, (B, A).

    One draws a teacher at every step and acts by its policy, if one acts by this one. The value is the mean of
    theirs, and there is none unless each has one.

    Args:
        teachers: of one game.
    """

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(teachers)

    def logits_and_value(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, A), those of log probabilities, and value (B,) or None."""
        both = [part.logits_and_value(x) for part in self.parts]  # type: ignore[operator]
        logs = torch.stack([logits.log_softmax(-1) for logits, _ in both])
        values = [value for _, value in both if value is not None]
        mean = torch.stack(values).mean(0) if len(values) == len(both) else None
        return logs.logsumexp(0) - math.log(len(both)), mean

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float (B, A)."""
        return self.logits_and_value(x)[0]


def load_mixture(name: str, load: Callable[[str], Teacher]) -> Teacher:
    """The mixture that ``name`` asks for.

    Args:
        name: ``mixture:A,B``, each a teacher's name or path.
        load: loads one of them.

    Raises:
        UserError: fewer than two, or of different games or presets.
    """
    names = parts_of(name)
    teachers = [load(one) for one in names]
    first = teachers[0].info
    for one in teachers[1:]:
        change = "a mixture is of teachers of one game that see the same"
        one.info.task.refuse_other(first.task, f"teacher {one.info.name} in {name}", change)
    algorithm = " + ".join(one.info.algorithm for one in teachers)
    whole = Teacher.of(Mixture(teachers), game=first.game, preset=first.preset, algorithm=algorithm, name=name)
    # All were loaded with one temperature; without it nobody could make the same mixture again.
    tau = next((one.info.tau for one in teachers if one.info.tau is not None), None)
    return Teacher(whole.net, dataclasses.replace(whole.info, tau=tau, fingerprint=_fingerprint(whole.net, teachers)))


def _fingerprint(net: nn.Module, teachers: Sequence[Teacher]) -> str:
    """Of all weights, and of each part that is known by more than its own."""
    own = [(number, one.info.fingerprint, fingerprint(one.net.state_dict())) for number, one in enumerate(teachers)]
    return fingerprint(net.state_dict(), *(f"{number} {mark}" for number, mark, weights in own if mark != weights))


def parts_of(name: str) -> list[str]:
    """The teachers that a mixture's name names.

    Raises:
        UserError: fewer than two.
    """
    names = [one.strip() for one in name.removeprefix(PREFIX).split(",") if one.strip()]
    if len(names) < 2:
        raise UserError(
            f"teacher {name} must name at least two teachers, as {PREFIX}pong-ppo,runs/other, and stand in quotes in a "
            f"list: ['{PREFIX}pong-ppo,runs/other']"
        )
    return names
