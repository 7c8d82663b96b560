"""One gradient, by the fast engine where it knows the network and by autograd where it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from distill.losses.engine import Engine
from distill.losses.layers import known
from distill.losses.sobolev import Losses, Objective, Targets, sobolev_loss
from distill.students.nets import to_unit

Step = Callable[[Tensor, Tensor, Targets | None, float, Objective], Losses]
log = logging.getLogger("distill")


def make_engine(net: nn.Module, dtype: torch.dtype = torch.float32) -> Engine | None:
    """The fast engine for ``net``, or None for a network it does not know.

    A network is known if it has ``path()``, an ``nn.Sequential`` of Conv2d, Linear, Flatten and
    ReLU, Tanh or Softplus, or is such a sequence itself.
    """
    path = net if isinstance(net, nn.Sequential) else getattr(net, "path", lambda: None)()
    return Engine(path, dtype) if isinstance(path, nn.Sequential) and known(path) else None


def make_step(net: nn.Module, engine: Engine | None) -> Step:
    """A function with ``Engine.step``'s arguments that adds the gradient to ``.grad``."""
    if engine is not None:
        return engine.step
    if make_engine(net) is None:  # else autograd was asked for
        log.warning("%s is not known to the fast engine: using autograd, several times slower", type(net).__name__)

    def step(obs: Tensor, logits: Tensor, targets: Targets | None, weight: float, objective: Objective) -> Losses:
        x = to_unit(obs) if obs.dtype == torch.uint8 else obs
        losses = sobolev_loss(net, x, logits, targets, weight, objective)
        losses.total.backward()  # type: ignore[no-untyped-call]
        return replace(losses, total=losses.total.detach())

    return step
