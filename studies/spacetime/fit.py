"""Fitting a small network to u(t, x), by its values, or by its values and its derivative in space.

The theory of ReCU networks (Abdeljawad & Grohs, arXiv 2101.06115) is in Bochner-Sobolev norms, with time and space
apart: L2(H1) is the mean over time of the H1 norm in space. Of the derivatives only that in x is learned, so the loss
is plain autograd's: the library's engine compares derivatives by all inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from distill.api import ReCU

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "recu": ReCU}
POINTS, GRID = 512, 64
RATE = 5e-3
"""Adam's learning rate at the start; it falls to zero along a half cosine."""


def heat(t: Tensor, x: Tensor) -> Tensor:
    """Two waves of the heat equation, which die away at rates of their own."""
    rate = 0.2 * math.pi**2
    slow = (-rate * t).exp() * (math.pi * x).sin()
    return slow + 0.5 * (-9 * rate * t).exp() * (3 * math.pi * x).sin()


def front(t: Tensor, x: Tensor) -> Tensor:
    """A front of the viscous Burgers equation, which travels to the right."""
    viscosity, speed = 0.08, 0.5
    return speed * (1 - torch.tanh((x + 0.3 - speed * t) * speed / (2 * viscosity)))


FUNCTIONS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"heat": heat, "front": front}
"""Of t in [0, 1] and x in [-1, 1]."""


def in_space(function: Callable[[Tensor], Tensor], points: Tensor, *, graph: bool = False) -> tuple[Tensor, Tensor]:
    """(values (B,), derivatives by x (B,)) at points (t, x), (B, 2); ``graph``: to be differentiated again."""
    points = points.detach().requires_grad_()
    value = function(points)
    (slope,) = torch.autograd.grad(value.sum(), points, create_graph=graph)
    return value if graph else value.detach(), slope[:, 1]


def of_points(name: str) -> Callable[[Tensor], Tensor]:
    """A function of points (B, 2)."""
    return lambda points: FUNCTIONS[name](points[:, 0], points[:, 1])


def make_net(activation: str, width: int, seed: int) -> nn.Sequential:
    """Two hidden layers with PyTorch's initial weights; as many of them whatever the activation."""
    torch.manual_seed(seed)
    phi = ACTIVATIONS[activation]
    return nn.Sequential(nn.Linear(2, width), phi(), nn.Linear(width, width), phi(), nn.Linear(width, 1), nn.Flatten(0))


def fit(net: nn.Sequential, name: str, weight: float, steps: int, seed: int) -> None:
    """Minimise |m - u|^2 / mean u^2 + weight * |m_x - u_x|^2 / mean u_x^2 over points that are drawn once."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(POINTS, 2, generator=generator) * torch.tensor([1.0, 2.0]) - torch.tensor([0.0, 1.0])
    value, slope = in_space(of_points(name), points)
    adam = torch.optim.Adam(net.parameters(), RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        if weight:
            guess, lean = in_space(net, points, graph=True)
            loss = _share(guess, value) + weight * _share(lean, slope)
        else:
            loss = _share(net(points), value)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        schedule.step()


def errors(net: nn.Sequential, name: str) -> dict[str, float]:
    """Errors over a grid as shares of the function's own norm: in L2(H1), and in L2(L2)."""
    t, x = torch.linspace(0, 1, GRID), torch.linspace(-1, 1, GRID)
    points = torch.cartesian_prod(t, x)
    (value, slope), (guess, lean) = in_space(of_points(name), points), in_space(net, points)
    h1 = (guess - value).square().mean() + (lean - slope).square().mean()
    whole = value.square().mean() + slope.square().mean()
    return {"l2h1": float((h1 / whole).sqrt()), "l2": math.sqrt(float(_share(guess, value)))}


def _share(guess: Tensor, true: Tensor) -> Tensor:
    return (guess - true).square().mean() / true.square().mean()
