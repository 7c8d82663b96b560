"""Networks for stacks of Atari frames, by name.

Every network is a description (``NetSpec``) and one module that builds it (``AtariCNN``), so a
checkpoint can say what it is and the fast Sobolev engine can read its layers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from distill.envs.presets import OBS_SHAPE
from distill.errors import UserError, lookup, nearest
from distill.networks.layers.layer import activations
from distill.networks.makeup import makeup
from distill.networks.parts import BandLimited2d, Noise, NoisyConv2d, NoisyLinear, make_convolution, make_dense


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
    band_limit: tuple[float, ...] = ()
    """Share of the frequencies that each convolution leaves out; nothing where all are ordinary ones."""
    noise: str | None = None
    """``white`` or ``coloured``, on every layer but the head; None for none."""
    noise_on: str = "weights"
    """``weights`` or ``activations``."""
    noise_at_play: bool = True
    """It is there after training, too."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form; ``NetSpec.from_dict`` reads it back. What most networks do not have is left out."""
        usual = {field.name: field.default for field in dataclasses.fields(self) if field.name in OPTIONS}
        told = dataclasses.asdict(self)
        return {name: value for name, value in told.items() if name not in usual or value != usual[name]}

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> NetSpec:
        """Rebuild a spec from ``to_dict`` (JSON turns tuples into lists)."""
        convs = tuple((int(c), int(k), int(s)) for c, k, s in fields["convs"])
        hidden, extra = tuple(int(h) for h in fields["hidden"]), fields.get("extra_activation")
        spec = NetSpec(convs, hidden, str(fields["activation"]), None if extra is None else str(extra))
        options = {name: fields[name] for name in OPTIONS if name in fields}
        if "band_limit" in options:
            options["band_limit"] = tuple(float(cut) for cut in options["band_limit"])
        return dataclasses.replace(spec, **options)

    @property
    def draws_at_play(self) -> bool:
        """What it says is another thing every time that it is asked, after training, too."""
        return self.noise is not None and self.noise_at_play

    def fits(self, other: NetSpec) -> bool:
        """The weights of one are weights of the other: none says whether noise is there at play."""
        return dataclasses.replace(self, noise_at_play=other.noise_at_play) == other

    def check(self) -> None:
        """Refuse layers that cannot be built.

        Raises:
            UserError: saying which.
        """
        numbers = [number for conv in self.convs for number in conv]
        if not numbers or any(number < 1 for number in (*numbers, *self.hidden)):
            raise UserError(
                "a network needs at least one convolution, and positive channels, kernels, strides and widths; "
                f"got convs {self.convs} and hidden {self.hidden}"
            )
        cuts = self.band_limit
        if cuts and (len(cuts) != len(self.convs) or not all(0 <= cut < 1 for cut in cuts)):
            raise UserError(
                f"a band limit is a number from 0 to below 1 for each of {len(self.convs)} convolutions; got {cuts}"
            )
        for name, known in (("noise", (None, "white", "coloured")), ("noise_on", ("weights", "activations"))):
            if getattr(self, name) not in known:
                raise UserError(f"{name} of a network must be one of {known}, got {getattr(self, name)!r}")
        if any(cuts) and self.noise is not None and self.noise_on == "activations":
            raise UserError("band-limited convolutions have no noise on activations; put it on weights")

    def words(self) -> str:
        """Its layers for people: ``convs 16x8/4 32x4/2, hidden 256, tanh, white noise on weights at play``."""
        convs = " ".join(f"{channels}x{kernel}/{stride}" for channels, kernel, stride in self.convs)
        parts = [f"convs {convs}", "hidden " + (" ".join(map(str, self.hidden)) or "none")]
        parts += [self.activation] if self.activation != "relu" else []
        parts += [f"{self.extra_activation} after later dense layers"] if self.extra_activation else []
        return ", ".join([*parts, *filter(None, [self.options()])])

    def options(self) -> str:
        """Band limits and noise in words; empty without any."""
        parts = ["band limit " + " ".join(f"{cut:g}" for cut in self.band_limit)] if self.band_limit else []
        if self.noise is not None:
            parts.append(f"{self.noise} noise on {self.noise_on}{' at play' if self.noise_at_play else ''}")
        return ", ".join(parts)


OPTIONS = ("band_limit", "noise", "noise_on", "noise_at_play")
"""Fields of a NetSpec that it tells only where they are not as usual."""


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
        spec.check()
        told = spec.to_dict()
        for index, (out, kernel, stride) in enumerate(spec.convs):
            if kernel > size:
                raise UserError(
                    f"a {kernel}x{kernel} convolution does not fit a {size}x{size} input; take a smaller kernel, or "
                    "smaller strides before it"
                )
            layers += [make_convolution(told, index, (channels, out, kernel, stride), size), activation()]
            channels, size = out, (size - kernel) // stride + 1
        layers.append(nn.Flatten())
        width = channels * size * size
        for index, out in enumerate(spec.hidden):
            layers += [make_dense(told, (width, out)), extra() if index else activation()]
            width = out
        self.features = nn.Sequential(*layers)
        self.policy = nn.Linear(width, num_actions)
        self.value = nn.Linear(width, 1) if value else None
        self._init_weights()

    def _init_weights(self) -> None:
        """Orthogonal weights, zero biases, a small head: stable-baselines3's choice for policies."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | BandLimited2d):
                nn.init.orthogonal_(module.weight, 2**0.5)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # our layers all have one
            if isinstance(module, NoisyConv2d | NoisyLinear | BandLimited2d):
                weight, noise = module.weight, module.noise
                if noise is not None and noise.shape == weight.shape:  # else it is on what nobody has seen yet
                    noise.begin_with(weight)
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


def described(net: nn.Module) -> TypeGuard[AtariCNN]:
    """Whether its ``NetSpec`` tells all of it.

    A class derived from ``AtariCNN`` may compute another thing, and so may one whose layers were changed afterwards.
    """
    if type(net) is not AtariCNN:
        return False
    spec = NetSpec.from_dict(net.spec.to_dict())  # tuples, whatever they were given as
    return makeup(net) == _makeup_of(spec, net.num_actions, net.value is not None)


@functools.lru_cache(maxsize=64)
def _makeup_of(spec: NetSpec, num_actions: int, value: bool) -> dict[str, tuple[Any, ...]]:
    """That of the network that a spec describes, built without numbers."""
    with torch.device("meta"):
        return makeup(AtariCNN(spec, num_actions, value=value))


def spec_of(net: nn.Module) -> NetSpec | None:
    """Its layers, where they are described."""
    return net.spec if described(net) else None


def same_network(one: nn.Module, other: nn.Module) -> bool:
    """True where the weights of one mean the same in the other, but for a value head."""
    if described(one) and described(other):
        return one.spec.fits(other.spec)
    if type(one) is type(other) is AtariCNN and makeup(one.features) != makeup(other.features):
        return False
    shapes = [{name: tensor.shape for name, tensor in net.state_dict().items()} for net in (one, other)]
    return type(one) is type(other) and shapes[0] == shapes[1]


def take_weights(net: nn.Module, start: nn.Module, setting: str, name: str, *, same: bool) -> None:
    """Give ``net`` the weights of an agent to begin with. A value head that only that has is left out.

    Args:
        net: as ``student.name`` asks for; changed in place.
        start: the agent's network.
        setting: what names the agent, with its value.
        name: ``student.name``.
        same: whether they are the same network.

    Raises:
        UserError: they are not.
    """
    if not same:
        raise other_network(setting, name, spec_of(start), spec_of(net))
    given = start.state_dict()
    net.load_state_dict({part: given[part] for part in net.state_dict()})


def other_network(setting: str, name: str, found: NetSpec | None, asked: NetSpec | None) -> UserError:
    """What to say of an agent to begin with that has other layers than were asked for.

    Args:
        setting: what names it, with its value.
        name: ``student.name``.
        found: its layers, where they are described.
        asked: likewise.
    """
    layers = f": {found.words()}, not {asked.words()}" if found is not None and asked is not None else ""
    return UserError(f"{setting} is another network than --student.name={name} asks for{layers}; change one of them")


@contextlib.contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """In eval mode, for networks whose output depends on it."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


def draws_at_play(net: nn.Module) -> bool:
    """What it says in eval mode is another thing every time, as far as its layers are known."""
    return any(isinstance(module, Noise) and module.at_play for module in net.modules())


def policy_part(net: nn.Module) -> nn.Module:
    """The layers from pixels to logits, without a value head; of a network that nobody here knows, all of it."""
    return net.path() if described(net) else net


def count_parameters(net: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(parameter.numel() for parameter in net.parameters())


def to_unit(obs: Tensor) -> Tensor:
    """uint8 observations to the float pixels in [0, 1] every network here takes."""
    return torch.mul(obs, 1 / 255)
