"""What the fast engine needs of a layer, and the registry of those that it knows.

One more is one more file in this folder that ends in a ``LAYER``, or a ``register_layer`` in a package of anyone's
(docs/extending.md). What is in no file here trains by autograd.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from distill.errors import UserError, first_line
from distill.system.registry import Registry


def _activated(module: nn.Module, a: Tensor, out: Tensor | None) -> Tensor:
    h: Tensor = module(a)
    return h if out is None else out.copy_(h)


@dataclass(frozen=True)
class Activation:
    """An activation h = phi(a), element by element. Its derivatives are functions of h: no pass computes phi again."""

    name: str
    """What ``student.activation`` calls it."""
    module: type[nn.Module]
    """Exactly this class; a derived one may compute something else."""
    slope: Callable[[Tensor, Tensor], Tensor]
    """phi'(a) * g of (h, g), the same for tangents and cotangents; may be in place in g."""
    curvature: Callable[[Tensor, Tensor], Tensor] | None = None
    """phi''(a) * g of (h, g), anew; None where it is zero wherever it is anything."""
    activate: Callable[[nn.Module, Tensor, Tensor | None], Tensor] = _activated
    """phi(a) of (module, a, where to put it), for an ``a`` that nobody else needs."""
    suits: Callable[[Any], bool] = lambda module: True
    """Whether a module of that class has the settings that this is for."""

    @property
    def is_torchs(self) -> bool:
        """It is a class of ``torch.nn``, which every library that uses PyTorch has."""
        return getattr(nn, self.module.__name__, None) is self.module

    @property
    def text(self) -> str:
        """Python that defines its module's class under the class's name, given PyTorch alone.

        Raises:
            OSError, TypeError: nobody knows the text, as of a class that was typed at a prompt.
        """
        if self.is_torchs:
            return f"{self.module.__name__} = torch.nn.{self.module.__name__}\n"
        return f"from torch import Tensor, nn\n\n\n{inspect.getsource(self.module)}\n"

    def fits(self, module: nn.Module) -> bool:
        """Whether this is what ``module`` computes."""
        return type(module) is self.module and self.suits(module)


class Affine:
    """The products of one affine layer that first-order passes are made of: override those that say so.

    Weights are given to them, since a pass may fold or scale them: a product must be linear in its weight.

    Args:
        layer: the module, with a ``weight`` and a ``bias``, which may be None.
        frozen: the weight never changes, so prepare it once.
    """

    name: ClassVar[str]
    """In a word."""
    module: ClassVar[type[nn.Module]]
    """Exactly this class; a derived one may compute something else."""
    images: ClassVar[bool]
    """It takes (B, C, H, W), else (B, n)."""

    def __init__(self, layer: Any, *, frozen: bool = False) -> None:
        self.layer, self.frozen = layer, frozen
        self.fold = 1
        """First layer only: input and weight are folded by this factor (space to depth)."""
        self._ready: tuple[int, torch.dtype, Tensor] | None = None

    @property
    def learns(self) -> bool:
        """A parameter of it does: else nobody wants its gradient."""
        return any(parameter.requires_grad for parameter in self.layer.parameters())

    @classmethod
    def fits(cls, module: nn.Module) -> bool:
        """Whether these are the products of ``module``; a parametrized one has no plain weight. Extend."""
        return type(module) is cls.module and isinstance(module.weight, nn.Parameter)

    def foldable(self, x: Tensor) -> int:
        """By how much it may be folded as a first layer that sees ``x``; override where it may."""
        return 1

    def plain(self) -> Tensor:
        """The weight, without a graph; override where it is made of several parameters, with ``take``."""
        weight: Tensor = self.layer.weight.detach()
        return weight

    def take(self, gradient: Tensor) -> None:
        """Add the gradient by ``plain`` to the parameters' ``.grad``."""
        accumulate(self.layer.weight, gradient)

    def prepared(self, dtype: torch.dtype) -> Tensor:
        """The weight as the products want it; override for another form, in ``add_gradient`` too."""
        return self.plain().to(dtype)

    def seen(self, x: Tensor) -> Tensor:
        """What of its input ``affine`` and ``weight_gradient`` are given: all of it; override for a linear part."""
        return x

    def affine(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """W x + b, of what is ``seen`` of x. Override."""
        raise NotImplementedError

    def transpose(self, g: Tensor, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """W^T g, of the given shape, by the whole input. Override."""
        raise NotImplementedError

    def weight_gradient(self, x: Tensor, g: Tensor, weight: Tensor, into: Tensor | None = None) -> Tensor:
        """Gradient of <g, W x> by the prepared weight, of what is ``seen`` of x. Override.

        ``into``: it is added to that in place, and that returned.
        """
        raise NotImplementedError

    def add_gradient(self, weight: Tensor, bias: Tensor) -> None:
        """Add gradients, the weight's by the prepared weight, to the parameters' ``.grad``."""
        self.take(weight)
        if self.layer.bias is not None:
            accumulate(self.layer.bias, bias)

    def weight(self, dtype: torch.dtype) -> Tensor:
        """The prepared weight."""
        if self._ready is not None and self._ready[:2] == (self.fold, dtype):
            return self._ready[2]
        weight = self.prepared(dtype)
        if self.frozen:
            self._ready = (self.fold, dtype, weight)
        return weight

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        """The bias."""
        return None if self.layer.bias is None else self.layer.bias.detach().to(dtype)


class Made(Affine):
    """Products of a layer that makes its weight of parameters, maybe with noise: by ``made()``; ``changes`` says so.

    One pass has one weight: a forward pass makes it, and the passes that follow have it from there.
    """

    def plain(self) -> Tensor:
        """See ``Affine``."""
        with torch.set_grad_enabled(not self.frozen):
            made: Tensor = self.layer.made()
        self._made = made
        return made.detach()

    def take(self, gradient: Tensor) -> None:
        """See ``Affine``."""
        named = self.layer.named_parameters()
        parameters = [part for name, part in named if name != "bias" and part.requires_grad]
        if not parameters:
            return
        found = torch.autograd.grad(
            self._made, parameters, gradient.to(self._made.dtype), retain_graph=True, allow_unused=True
        )
        for parameter, part in zip(parameters, found, strict=True):
            if part is not None:  # noise that is off has no part in it
                accumulate(parameter, part)

    def weight(self, dtype: torch.dtype) -> Tensor:
        """See ``Affine``; nothing is prepared once that changes."""
        return self.prepared(dtype) if self.layer.changes else super().weight(dtype)


Layer = Activation | type[Affine]


def _is_layer(thing: object) -> bool:
    return isinstance(thing, Activation) or (isinstance(thing, type) and issubclass(thing, Affine))


LAYERS: Registry[Layer] = Registry(
    "layer",
    "an Activation, or a class derived from distill.api.Affine",
    _is_layer,
    own=("distill.networks.layers", "LAYER"),
)


def register_layer(layer: Layer) -> Layer:
    """Let the fast engine differentiate networks with this layer, and ``student.activation`` name an activation.

    Raises:
        UserError: its name is taken, or it is neither.
    """
    return LAYERS.register(layer.name, layer)


def check_text(activation: Activation) -> None:
    """Refuse, before a student is trained with it, what student.zip could not carry.

    Raises:
        UserError: its class does not stand alone.
    """
    space: dict[str, Any] = {"torch": torch, "__name__": "alone"}
    try:
        exec(activation.text, space)
        space[activation.module.__name__]()(torch.ones(2, 3))
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(
            f"activation {activation.name!r}: student.zip carries the text of {activation.module.__name__}, which does "
            f"not stand alone ({why}); let it use PyTorch only, and import what else it needs within its methods"
        ) from error


def activations() -> dict[str, Activation]:
    """All activations by name."""
    return {name: layer for name, layer in LAYERS.items() if isinstance(layer, Activation)}


def activation_of(module: nn.Module) -> Activation | None:
    """What ``module`` computes; None for what is no activation that is known."""
    return next((layer for layer in activations().values() if layer.fits(module)), None)


def affine_of(module: nn.Module) -> type[Affine] | None:
    """Who has the products of ``module``; None for what is no affine layer that is known."""
    kinds = [layer for layer in LAYERS.values() if not isinstance(layer, Activation)]
    return next((kind for kind in kinds if kind.fits(module)), None)


def known(path: nn.Sequential) -> bool:
    """True where every layer is one that the engine can differentiate by hand."""
    kinds = [affine_of(module) for module in path]
    if not kinds or kinds[0] is None or kinds[-1] is None or kinds[-1].images:
        return False
    images, active = kinds[0].images, False
    for module, kind in zip(path, kinds, strict=True):
        if kind is not None and kind.images == images:
            active = False
        elif isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            images = False
        elif activation_of(module) is not None and not active:  # a stage has room for one activation
            active = True
        else:
            return False
    return True


def accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Add to a parameter's ``.grad``."""
    if not parameter.requires_grad:
        return
    gradient = gradient.to(parameter.dtype)
    if gradient.stride() != parameter.stride():
        # PyTorch's fused optimizers read both as flat memory: another layout would silently train something else.
        gradient = torch.empty_like(parameter).copy_(gradient)
    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
