"""Networks by name: descriptions (``NetSpec``), and programs of anyone's that build one."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import nn

from distill.envs.presets import OBS_SHAPE
from distill.errors import UserError, first_line
from distill.networks.nets import NETS, AtariCNN, NetSpec
from distill.system.registry import Registry, is_dotted

Build = Callable[[int], nn.Module]
"""From the number of actions to a network with fresh weights: float pixels in [0, 1], (B, 4, 84, 84), to logits,
(B, num_actions)."""
Network = NetSpec | Build


def _fits(thing: object) -> bool:
    return isinstance(thing, NetSpec) or (callable(thing) and not isinstance(thing, nn.Module))


NETWORKS: Registry[Network] = Registry(
    "network", "a NetSpec, or a callable from the number of actions to an nn.Module", _fits
)
"""By name; ``register_network`` adds one."""
for _name, _spec in NETS.items():
    NETWORKS.register(_name, _spec)


def register_network(name: str, network: Network) -> Network:
    """Add a network, whose name then works as ``student.name`` in every process that registers it.

    Raises:
        UserError: a name that is taken, or something that is no network.
    """
    return NETWORKS.register(name, network)


def find_network(name: str) -> Network:
    """The network of this name, or at this dotted path.

    Raises:
        UserError: there is none.
    """
    return NETWORKS.find(name)


def build_network(name: str, num_actions: int) -> nn.Module:
    """A network with fresh weights.

    Args:
        name: of a network, or its dotted path.
        num_actions: width of its output.

    Raises:
        UserError: no such network, or a program that fails or builds something else.
    """
    network = find_network(name)
    if isinstance(network, NetSpec):
        return AtariCNN(network, num_actions)
    try:
        net = network(num_actions)
        if not isinstance(net, nn.Module):
            raise UserError(f"network {name!r} must build an nn.Module, but builds a {type(net).__name__}")
        training = net.training
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            device = next(net.parameters(), torch.zeros(0)).device
            shape = tuple(net.eval()(torch.zeros(2, *OBS_SHAPE, device=device)).shape)
        net.train(training)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"network {name!r} fails ({type(error).__name__}: {first_line(error)}); mend it") from error
    if shape != (2, num_actions):
        raise UserError(f"network {name!r} gives {shape} for two states, not logits (2, {num_actions})")
    return net


def name_of(net: nn.Module, num_actions: int) -> str | None:
    """A name by which ``build_network`` builds such a network again; None where there is none.

    Args:
        net: the network.
        num_actions: width of its output.
    """
    kind = type(net)
    names = [name for name, network in NETWORKS.items() if network is kind]
    dotted = f"{kind.__module__}:{kind.__qualname__}"
    if is_dotted(dotted) and kind.__module__ != "__main__":
        names.append(dotted)
    return next((name for name in names if _builds(name, net, num_actions)), None)


def _builds(name: str, net: nn.Module, num_actions: int) -> bool:
    """True where a program builds a network of the same class, with parameters of the same names and shapes."""
    try:
        importlib.import_module(type(net).__module__)
        with torch.random.fork_rng(devices=[]):
            other = build_network(name, num_actions)
    except (UserError, ImportError):
        return False
    mine, theirs = net.state_dict(), other.state_dict()
    same = mine.keys() == theirs.keys() and all(mine[key].shape == theirs[key].shape for key in mine)
    return type(other) is type(net) and same
