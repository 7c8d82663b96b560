"""An agent as an attacker sees it: logits of any pixels, and slopes down to these."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from distill.engine.general import General
from distill.engine.step import make_passes
from distill.errors import UserError
from distill.figures.influence import patch_maps
from distill.networks.nets import to_unit

BATCH = 256
"""States of one forward pass where there are many."""
SURE = 1e-3
"""Slopes of log p are no shorter than if 1 - p were this."""


class Victim:
    """A network whose weights do not change.

    Args:
        net: float pixels in [0, 1], (B, 4, 84, 84), to logits, (B, A); it is moved to ``device``.
        device: where it runs.
        draws: slopes, policy and influence are means over so many passes, which differ where the network draws noise
            of its own (expectation over transformation, Athalye et al. 2018).
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
    def log_policy(self, x: Tensor) -> Tensor:
        """Log of the policy, its mean over ``draws``, float (B, A), of pixels as ``logits`` takes them."""
        every = torch.stack([self.logits(x).log_softmax(-1) for _ in range(self.draws)])
        return every.logsumexp(0) - math.log(self.draws)

    @torch.no_grad()
    def slope(self, x: Tensor, action: Tensor, towards: bool) -> Tensor:
        """Gradient by the pixels of what an attacker raises: how unlikely an action is, or how likely.

        Of an agent that is all but sure it is longer than that, in the same direction: a vanishing one would be no
        defence, only hard to see.

        Args:
            x: pixels of 0 to 255, (B, 4, 84, 84).
            action: int64 (B,).
            towards: raise log p of the action; else lower it.

        Returns:
            Float (B, 4, 84, 84), in nats a unit of [0, 1] where p is at most 1 - ``SURE``.
        """
        of_draw = self._by_autograd if isinstance(self.passes, General) else self._by_engine
        with _needing_derivatives():
            total, longest = of_draw(_as_seen(x), action)
            for _ in range(1, self.draws):
                direction, length = of_draw(_as_seen(x), action)
                before, longest = longest, torch.maximum(longest, length)
                total = _times(total, (before - longest).exp()) + _times(direction, (length - longest).exp())
        return _times(total, longest.exp().clamp_min(SURE) / (self.draws if towards else -self.draws))

    def _by_engine(self, x: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of log p of the action over 1 - p, and log(1 - p), (B,)."""
        tape = self.passes.forward(x)
        seed, length = _of_odds(tape.logits, action)
        return self.passes.rows(tape, seed.unsqueeze(1))[:, 0], length

    def _by_autograd(self, x: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """The same in one pass: a network that draws noise has the same there and back."""
        leaf = (to_unit(x) if x.dtype == torch.uint8 else x).detach().requires_grad_()
        with torch.enable_grad():
            logits = self.net(leaf)
            seed, length = _of_odds(logits.detach().float(), action)
            return torch.autograd.grad(logits, leaf, seed.to(logits.dtype))[0].float(), length

    @torch.no_grad()
    def influence(self, x: Tensor, width: int) -> Tensor:
        """Influence measure of the patches of the newest frame, double (B, 84, 84), at uint8 (B, 4, 84, 84).

        A mean over ``draws``.
        """
        with _needing_derivatives():
            return torch.stack([patch_maps(self.net, x, width)[1] for _ in range(self.draws)]).mean(0)


def log_others(log_policy: Tensor, action: Tensor) -> Tensor:
    """log(1 - p) of an action, (B,), from log p, (B, A): exact where p is all but 1."""
    return log_policy.scatter(1, action.unsqueeze(1), -torch.inf).logsumexp(-1)


def _of_odds(logits: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of log(p / (1 - p)) by the logits, (B, A), and log(1 - p), (B,), the factor to that of log p."""
    log_policy = logits.log_softmax(-1)
    length, place = log_others(log_policy, action), action.unsqueeze(1)
    others = (log_policy - length.unsqueeze(1)).scatter(1, place, -torch.inf).exp()
    return (-others).scatter(1, place, 1.0), length


def _times(maps: Tensor, factor: Tensor) -> Tensor:
    return maps * factor.view(-1, *[1] * (maps.dim() - 1))


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
