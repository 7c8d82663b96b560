"""One affine layer with its activation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from distill.networks.layers.layer import Activation, Affine, activation_of, affine_of, known


@dataclass
class Stage:
    """One affine layer and the activation behind it."""

    layer: Affine
    """Its products."""
    flatten: bool
    """The input is flattened first."""
    activation: tuple[Activation, nn.Module] | None = None
    """What it is, and the module."""

    def activate(self, a: Tensor, out: Tensor | None = None) -> Tensor:
        """Activation of a pre-activation that nobody else needs. ``out``: where to put it."""
        if self.activation is None:
            return a if out is None else out.copy_(a)
        kind, module = self.activation
        return kind.activate(module, a, out)

    def slope(self, h: Tensor, g: Tensor) -> Tensor:
        """phi'(a) * g for the output h = phi(a), maybe in place."""
        return g if self.activation is None else self.activation[0].slope(h, g)

    def curvature(self, h: Tensor, tangent: Tensor, g: Tensor) -> Tensor | None:
        """phi''(a) * a_dot * g for a smooth activation, else None."""
        curvature = None if self.activation is None else self.activation[0].curvature
        return None if curvature is None else curvature(h, tangent).mul_(g)


def stages(path: nn.Sequential, *, frozen: bool = False) -> list[Stage]:
    """The affine layers of a network that ``known`` accepts, in order."""
    if not known(path):
        raise ValueError("the engine knows only sequences of Conv2d, Linear and known activations")
    found: list[Stage] = []
    flatten = False
    for module in path:
        kind, activation = affine_of(module), activation_of(module)
        if kind is not None:
            found.append(Stage(kind(module, frozen=frozen), flatten))
            flatten = False
        elif activation is not None:
            found[-1].activation = activation, module
        else:
            flatten = True
    return found
