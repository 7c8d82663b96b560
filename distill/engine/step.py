"""One gradient, by the fast engine where it knows the network and by autograd where it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from distill.engine.captured import CapturedStep
from distill.engine.engine import Engine
from distill.engine.general import General, Passes
from distill.errors import UserError
from distill.losses.sobolev import Losses, Objective, Weights, sobolev_loss
from distill.losses.targets import Targets
from distill.networks.layers.layer import known
from distill.networks.nets import to_unit
from distill.networks.parts import Noise

Step = Callable[[Tensor, Tensor, Targets | None, Weights, Objective], Losses]
log = logging.getLogger("distill")


def make_engine(net: nn.Module, dtype: torch.dtype = torch.float32) -> Engine | None:
    """The fast engine for ``net``, or None for a network it does not know.

    A network is known if it has ``path()``, an ``nn.Sequential`` of Conv2d, Linear, Flatten and
    ReLU, Tanh or Softplus, or is such a sequence itself.
    """
    path = _known_path(net)
    return None if path is None else Engine(path, dtype)


def make_passes(net: nn.Module) -> Passes:
    """Passes of a network whose weights do not change: the fast engine's, or any network's."""
    path = _known_path(net)
    return General(net) if path is None else Engine(path, frozen=True)


def _known_path(net: nn.Module) -> nn.Sequential | None:
    if _overrides_path(type(net)):
        return None
    path = net if isinstance(net, nn.Sequential) else getattr(net, "path", lambda: None)()
    return path if isinstance(path, nn.Sequential) and known(path) else None


def _overrides_path(kind: type[nn.Module]) -> bool:
    """A class with a ``forward`` of its own and the ``path()`` of a base class, which tells that one's layers."""

    def owner(name: str) -> type | None:
        return next((one for one in kind.__mro__ if name in vars(one)), None)

    tells = nn.Sequential if issubclass(kind, nn.Sequential) else owner("path")
    computes = owner("forward")
    return tells is not None and computes is not None and not issubclass(tells, computes)


def make_step(net: nn.Module, engine: Engine | None, *, cuda_graph: bool = False) -> Step:
    """A function with ``Engine.step``'s arguments that adds the gradient to ``.grad``, which must be None.

    Raises:
        UserError: a graph was asked for, of a network that the engine does not know, that is not on CUDA or has noise.
    """
    if cuda_graph and any(isinstance(module, Noise) for module in net.modules()):
        raise UserError("--train.cuda_graph=true cannot record noise, which is drawn anew; leave --student.noise out")
    if engine is not None:
        return CapturedStep(engine, net.parameters()) if cuda_graph else engine.step
    if cuda_graph:
        raise UserError("--train.cuda_graph=true records the fast engine only; leave it out")
    if make_engine(net) is None:  # else autograd was asked for
        log.warning("%s is not known to the fast engine: using autograd, several times slower", type(net).__name__)

    def step(obs: Tensor, logits: Tensor, targets: Targets | None, weight: Weights, objective: Objective) -> Losses:
        x = to_unit(obs) if obs.dtype == torch.uint8 else obs
        losses = sobolev_loss(net, x, logits, targets, weight, objective)
        losses.total.backward()  # type: ignore[no-untyped-call]
        terms = {name: loss for name, loss in losses.items() if name != "total"}
        return Losses(losses.total.detach(), terms, losses.logits)

    return step
