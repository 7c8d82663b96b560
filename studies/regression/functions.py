"""Seven classical test functions of optimisation on the plane, with exact derivatives.

They are those of Czarnecki et al. 2017 (section 4.1). Everything here is in normalised coordinates: the usual domain
of each function is the square [-1, 1]^2, so that derivatives of different functions, and along both axes, compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Formula = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Function:
    """A function of two variables on a rectangle."""

    title: str
    formula: Formula
    low: tuple[float, float]
    """Lower left corner of the domain, in the formula's own coordinates."""
    high: tuple[float, float]
    """Upper right corner."""

    def __call__(self, u: Tensor) -> Tensor:
        """Values at ``u``: (..., 2) in [-1, 1] to (...)."""
        low, high = u.new_tensor(self.low), u.new_tensor(self.high)
        x = (low + high) / 2 + u * (high - low) / 2
        return self.formula(x[..., 0], x[..., 1])

    def jet(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Value, gradient and Hessian at points ``u`` (B, 2): (B,), (B, 2) and (B, 2, 2), all by ``u``."""
        return self(u), torch.func.vmap(torch.func.grad(self))(u), torch.func.vmap(torch.func.hessian(self))(u)


def styblinski_tang(x: Tensor, y: Tensor) -> Tensor:
    """A quartic with four valleys; separable."""
    return sum(t**4 - 16 * t**2 + 5 * t for t in (x, y)) / 2  # type: ignore[return-value]


def ackley(x: Tensor, y: Tensor) -> Tensor:
    """A funnel covered by ten by ten bumps; a cusp at the origin."""
    funnel = -20 * torch.exp(-0.2 * ((x**2 + y**2) / 2).sqrt())
    return funnel - torch.exp((torch.cos(2 * math.pi * x) + torch.cos(2 * math.pi * y)) / 2) + math.e + 20


def beale(x: Tensor, y: Tensor) -> Tensor:
    """A polynomial of degree eight: flat but for its corners."""
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def booth(x: Tensor, y: Tensor) -> Tensor:
    """A quadratic form."""
    return (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2


def bukin(x: Tensor, y: Tensor) -> Tensor:
    """Bukin's sixth: the root of the distance from a curve; the slope there is infinite and not square integrable."""
    return 100 * (y - 0.01 * x**2).abs().sqrt() + 0.01 * (x + 10).abs()


def mccormick(x: Tensor, y: Tensor) -> Tensor:
    """A quadratic form with one wave over it."""
    return torch.sin(x + y) + (x - y) ** 2 - 1.5 * x + 2.5 * y + 1


def rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    """A quartic with a curved valley."""
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


FUNCTIONS: dict[str, Function] = {
    "styblinski_tang": Function("Styblinski–Tang", styblinski_tang, (-5, -5), (5, 5)),
    "ackley": Function("Ackley", ackley, (-5, -5), (5, 5)),
    "beale": Function("Beale", beale, (-4.5, -4.5), (4.5, 4.5)),
    "booth": Function("Booth", booth, (-10, -10), (10, 10)),
    "bukin": Function("Bukin N.6", bukin, (-15, -3), (-5, 3)),
    "mccormick": Function("McCormick", mccormick, (-1.5, -3), (4, 4)),
    "rosenbrock": Function("Rosenbrock", rosenbrock, (-2, -1), (2, 3)),
}


def sample(points: int, seed: int) -> Tensor:
    """Uniform points of the domain, float64 (points, 2); a seed's first points are the same for any number."""
    return 2 * torch.rand(points, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 1


def grid(side: int = 64) -> Tensor:
    """Centres of side x side equal cells of the domain, float64 (side * side, 2): no point on a cusp or ridge."""
    axis = (torch.arange(side, dtype=torch.float64) + 0.5) * 2 / side - 1
    return torch.cartesian_prod(axis, axis)
