"""An agent as an attacker sees it: logits of any pixels, and slopes down to these."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.engine.step import make_passes
from distill.errors import UserError
from distill.figures.influence import patch_maps

BATCH = 256
"""States of one forward pass where there are many."""


class Victim:
    """A network whose weights do not change.

    Args:
        net: float pixels in [0, 1], (B, 4, 84, 84), to logits, (B, A); it is moved to ``device``.
        device: where it runs.
        draws: slopes are means over so many passes, which differ where the network draws noise of its own
            (expectation over transformation, Athalye et al. 2018).
    """

    def __init__(self, net: nn.Module, device: torch.device, draws: int = 1) -> None:
        self.device, self.draws = device, draws
        self.net = net.to(device).eval()
        self.passes = make_passes(self.net)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Logits, float (B, A), of pixels: bytes, or floats of 0 to 255; (B, 4, 84, 84)."""
        return torch.cat([self.passes.forward(_as_seen(part)).logits for part in torch.split(x, BATCH)])

    @torch.no_grad()
    def slope(self, x: Tensor, action: Tensor, towards: bool) -> Tensor:
        """Gradient by the pixels of what an attacker raises: how unlikely an action is, or how likely.

        Args:
            x: pixels of 0 to 255, (B, 4, 84, 84).
            action: int64 (B,).
            towards: raise log p of the action; else lower it.

        Returns:
            Float (B, 4, 84, 84), in nats a unit of [0, 1].
        """
        sign = 1.0 if towards else -1.0
        total = torch.zeros(x.shape, device=x.device)
        for _ in range(self.draws):
            tape = self.passes.forward(_as_seen(x))
            seed = F.one_hot(action, tape.logits.shape[1]) - tape.logits.softmax(-1)
            with _needing_derivatives():
                total += self.passes.rows(tape, sign * seed.unsqueeze(1))[:, 0]
        return total / self.draws

    @torch.no_grad()
    def influence(self, x: Tensor, width: int) -> Tensor:
        """Influence measure of the patches of the newest frame, double (B, 84, 84), at uint8 (B, 4, 84, 84)."""
        with _needing_derivatives():
            return patch_maps(self.net, x, width)[1]


@contextlib.contextmanager
def _needing_derivatives() -> Iterator[None]:
    """Say what to do about an agent that has none, such as an ONNX file."""
    try:
        yield
    except (RuntimeError, UserError) as error:
        if not any(words in str(error) for words in ("does not require grad", "has no derivatives")):
            raise
        raise UserError(
            "this agent has no derivatives, which the attack needs; name with --threat.source an agent that has some"
        ) from error


def _as_seen(x: Tensor) -> Tensor:
    return x if x.dtype == torch.uint8 else x / 255
