"""What the fast engine does for acting and labelling, for networks that it does not know: by autograd, and slower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from distill.networks.nets import to_unit


class Passes(Protocol):
    """What acting and labelling need of a network; ``Engine`` has it, too. A tape is what a forward pass leaves;
    ``tape.first(n)`` is that of the first n states.
    """

    def forward(self, x: Tensor) -> Any:
        """A tape with ``logits``, float (B, A), for uint8 pixels or floats in [0, 1], (B, 4, 84, 84)."""

    def rows(self, tape: Any, v: Tensor) -> Tensor:
        """J^T v for K vectors a state: v (B, K, A) to float (B, K, 4, 84, 84)."""

    def vjp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, float (B, A), and J^T v for K vectors a state, both of one draw where the network draws noise."""

    def join(self, tapes: Sequence[Any], keep: Sequence[Tensor | None]) -> Any:
        """One tape for ``rows`` from several; ``keep``: which states of each, int64, or None for all."""


@dataclass
class GeneralTape:
    """What a forward pass leaves."""

    x: Tensor
    """Its input, uint8 pixels or floats in [0, 1], (B, 4, 84, 84)."""
    logits: Tensor
    """Float (B, A)."""
    value: Tensor | None
    """Float (B,), for networks with ``logits_and_value``."""

    def first(self, count: int) -> GeneralTape:
        """The part of the first ``count`` states, sharing memory."""
        value = None if self.value is None else self.value[:count]
        return GeneralTape(self.x[:count], self.logits[:count], value)


class General:
    """Passes of any network.

    Args:
        net: float pixels in [0, 1], (B, 4, 84, 84), to logits, (B, A). ``logits_and_value``, where it has one, gives
            the value, (B,) or None, as well.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def forward(self, x: Tensor) -> GeneralTape:
        """Logits and value."""
        with torch.no_grad():
            both = getattr(self.net, "logits_and_value", None)
            logits, value = both(_unit(x)) if both is not None else (self.net(_unit(x)), None)
        return GeneralTape(x.clone(), logits.float(), value)  # the caller may write the next states into it

    def rows(self, tape: GeneralTape, v: Tensor) -> Tensor:
        """One backward pass for each of the K; of a network that draws noise, those of another draw."""
        return self.vjp(tape.x, v)[1]

    def vjp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and derivatives of one forward pass."""
        x = _unit(x).detach().requires_grad_()
        with torch.enable_grad():
            logits = self.net(x)
            last = v.shape[1] - 1
            rows = [
                torch.autograd.grad((logits * v[:, k]).sum(), x, retain_graph=k < last)[0] for k in range(v.shape[1])
            ]
        return logits.detach().float(), torch.stack(rows, 1).float()

    def join(self, tapes: Sequence[GeneralTape], keep: Sequence[Tensor | None]) -> GeneralTape:
        """The inputs as one batch."""

        def joined(parts: Sequence[Tensor]) -> Tensor:
            return torch.cat([p if k is None else p[k] for p, k in zip(parts, keep, strict=True)])

        values = [tape.value for tape in tapes if tape.value is not None]
        x, logits = joined([tape.x for tape in tapes]), joined([tape.logits for tape in tapes])
        return GeneralTape(x, logits, joined(values) if len(values) == len(tapes) else None)


def _unit(x: Tensor) -> Tensor:
    return to_unit(x) if x.dtype == torch.uint8 else x
