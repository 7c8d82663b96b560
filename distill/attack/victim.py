"""An agent as an attacker sees it: logits of any pixels, and slopes down to these."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.engine.general import General
from distill.engine.step import make_passes
from distill.errors import UserError
from distill.figures.influence import patch_maps
from distill.networks.nets import to_unit

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
        of_draw = self._by_autograd if isinstance(self.passes, General) else self._by_engine
        total = torch.zeros(x.shape, device=x.device)
        for _ in range(self.draws):
            with _needing_derivatives():
                total += of_draw(_as_seen(x), action)
        return total / (self.draws if towards else -self.draws)

    def _by_engine(self, x: Tensor, action: Tensor) -> Tensor:
        """Gradient of log p of the action."""
        tape = self.passes.forward(x)
        seed = F.one_hot(action, tape.logits.shape[1]) - tape.logits.softmax(-1)
        return self.passes.rows(tape, seed.unsqueeze(1))[:, 0]

    def _by_autograd(self, x: Tensor, action: Tensor) -> Tensor:
        """The same in one pass: a network that draws noise has the same there and back."""
        leaf = (to_unit(x) if x.dtype == torch.uint8 else x).detach().requires_grad_()
        with torch.enable_grad():
            log_p = self.net(leaf).log_softmax(-1).gather(1, action.unsqueeze(1))
            return torch.autograd.grad(log_p.sum(), leaf)[0].float()

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
