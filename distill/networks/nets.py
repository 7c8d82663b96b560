"""Networks for stacks of Atari frames, by name.

Every network is a description (``NetSpec``) and one module that builds it (``AtariCNN``), so a
checkpoint can say what it is and the fast Sobolev engine can read its layers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from distill.envs.presets import OBS_SHAPE
from distill.errors import UserError, lookup, nearest
from distill.networks.layers.layer import activations


@dataclass(frozen=True)
class NetSpec:
    """A convolutional policy network: convolutions, dense layers, one linear head."""

    convs: tuple[tuple[int, int, int], ...]
    """(channels, kernel, stride) of each convolution; no padding."""
    hidden: tuple[int, ...]
    """Width of each dense layer between the convolutions and the head."""
    activation: str = "relu"
    """Activation after every layer but the head, by its name in ``distill/networks/layers``."""
    extra_activation: str | None = None
    """Activation after every dense layer but the first, where it is another one (SB3's ``net_arch``)."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form; ``NetSpec.from_dict`` reads it back."""
        return asdict(self)

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> NetSpec:
        """Rebuild a spec from ``to_dict`` (JSON turns tuples into lists)."""
        convs = tuple((int(c), int(k), int(s)) for c, k, s in fields["convs"])
        hidden, extra = tuple(int(h) for h in fields["hidden"]), fields.get("extra_activation")
        return NetSpec(convs, hidden, str(fields["activation"]), None if extra is None else str(extra))


def _nature(channels: tuple[int, int, int], dense: int) -> NetSpec:
    """The kernels and strides of Mnih et al. 2015 at other widths."""
    first, second, third = channels
    return NetSpec(((first, 8, 4), (second, 4, 2), (third, 3, 1)), (dense,))


NETS: dict[str, NetSpec] = {
    # Mnih et al. 2013 (arXiv 1312.5602), section 5: the student of the Sobolev paper.
    "mnih2013": NetSpec(((16, 8, 4), (32, 4, 2)), (256,)),
    # Mnih et al. 2015 (Nature 518): what stable-baselines3 calls NatureCNN.
    "nature": _nature((32, 64, 64), 512),
    "nature-half": _nature((16, 32, 32), 256),
    # Rusu et al. 2016 (arXiv 1511.06295): students of 25, 7 and 4 % of nature's weights.
    "rusu-25": _nature((16, 32, 32), 256),
    "rusu-7": _nature((16, 16, 16), 128),
    "rusu-4": _nature((16, 16, 16), 64),
    # Not theirs: the same shape at 1 %.
    "rusu-1": _nature((8, 8, 8), 32),
}


def net_spec(name: str) -> NetSpec:
    """Look a network up by name.

    Raises:
        UserError: no network has that name.
    """
    return lookup("network", NETS, name)


class AtariCNN(nn.Module):
    """Float pixels in [0, 1], shape (B, 4, 84, 84), to logits, shape (B, num_actions).

    Args:
        spec: layers.
        num_actions: width of the head.
        value: add a value head; ``logits_and_value`` then returns it.
    """

    def __init__(self, spec: NetSpec, num_actions: int, *, value: bool = False) -> None:
        super().__init__()
        names, known = (spec.activation, spec.extra_activation or spec.activation), activations()
        for name in names:
            if name not in known:
                raise UserError(
                    f"unknown activation {name!r}{nearest(name, known)}; where a package registers it, import that, on "
                    "the command line by DISTILL_PLUGINS=its_name (docs/extending.md)"
                )
        self.spec, self.num_actions = spec, num_actions
        activation, extra = (known[name].module for name in names)
        layers: list[nn.Module] = []
        channels, size = OBS_SHAPE[0], OBS_SHAPE[1]
        numbers = [number for conv in spec.convs for number in conv]
        if not numbers or any(number < 1 for number in (*numbers, *spec.hidden)):
            raise UserError(
                "a network needs at least one convolution, and positive channels, kernels, strides and widths; "
                f"got convs {spec.convs} and hidden {spec.hidden}"
            )
        for out, kernel, stride in spec.convs:
            if kernel > size:
                raise UserError(f"a {kernel}x{kernel} convolution does not fit a {size}x{size} input")
            layers += [nn.Conv2d(channels, out, kernel, stride), activation()]
            channels, size = out, (size - kernel) // stride + 1
        layers.append(nn.Flatten())
        width = channels * size * size
        for index, out in enumerate(spec.hidden):
            layers += [nn.Linear(width, out), extra() if index else activation()]
            width = out
        self.features = nn.Sequential(*layers)
        self.policy = nn.Linear(width, num_actions)
        self.value = nn.Linear(width, 1) if value else None
        self._init_weights()

    def _init_weights(self) -> None:
        """Orthogonal weights, zero biases, a small head: stable-baselines3's choice for policies."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.orthogonal_(module.weight, 2**0.5)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # our layers all have one
        nn.init.orthogonal_(self.policy.weight, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float (B, num_actions)."""
        return self.policy(self.features(x))  # type: ignore[no-any-return]

    def logits_and_value(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, A) and the value estimate (B,), or None without a value head."""
        features = self.features(x)
        value = None if self.value is None else self.value(features).squeeze(-1)
        return self.policy(features), value

    def path(self) -> nn.Sequential:
        """The layers from pixels to logits, in order, sharing this module's parameters."""
        return nn.Sequential(*self.features, self.policy)


@contextlib.contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """In eval mode, for networks whose output depends on it."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


def policy_part(net: nn.Module) -> nn.Module:
    """The layers from pixels to logits, without a value head; of a network that nobody here knows, all of it."""
    return net.path() if isinstance(net, AtariCNN) else net


def count_parameters(net: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(parameter.numel() for parameter in net.parameters())


def to_unit(obs: Tensor) -> Tensor:
    """uint8 observations to the float pixels in [0, 1] every network here takes."""
    return torch.mul(obs, 1 / 255)
