"""Fitting a small network to a function: its values, or its values and derivatives.

The gradient of values and slopes comes from the library's engine. Second derivatives, an option, are one more term
by plain autograd, since the engine knows first ones only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.api import Engine, Objective, ReCU, Targets
from studies.regression.functions import Function, sample

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "softplus": nn.Softplus, "recu": ReCU}
WIDTH = 256
RATE = 3e-3
"""Adam's learning rate at the start; it falls to zero along a half cosine."""
BATCH = 100
"""Points a step, all of them where there are no more."""


@dataclass(frozen=True)
class Data:
    """What a network learns from: points with the function's value and derivatives, standardised by these points."""

    u: Tensor
    """Float (B, 2) in [-1, 1]."""
    value: Tensor
    """Float (B, 1), mean 0 and variance 1."""
    gradient: Tensor
    """Float (B, 2), in the same units."""
    hessian: Tensor
    """Float (B, 2, 2), likewise."""
    mean: float
    std: float


def make_data(function: Function, points: int, seed: int) -> Data:
    """Points drawn uniformly from the domain; the same for every method."""
    u = sample(points, seed)
    value, gradient, hessian = function.jet(u)
    mean, std = float(value.mean()), float(value.std())
    standard = (value.unsqueeze(1) - mean) / std
    return Data(u.float(), standard.float(), (gradient / std).float(), (hessian / std).float(), mean, std)


def make_net(activation: str, seed: int) -> nn.Sequential:
    """Two hidden layers (Czarnecki et al. 2017, section 4.1), with PyTorch's initial weights."""
    torch.manual_seed(seed)
    phi = ACTIVATIONS[activation]
    return nn.Sequential(nn.Linear(2, WIDTH), phi(), nn.Linear(WIDTH, WIDTH), phi(), nn.Linear(WIDTH, 1))


def fit(net: nn.Sequential, data: Data, order: int, weight: float, steps: int, seed: int) -> None:
    """Minimise |f - m|^2 + weight * |f' - m'|^2 / s_1 + weight * |f'' - m''|^2 / s_2, up to the derivative ``order``.

    s is the mean square of the target over the points, so each term is 1 for a network that is constant.

    Args:
        net: changed in place.
        data: points to learn from.
        order: 0 for values only, 1 with gradients, 2 with Hessians along random directions as well.
        weight: lambda.
        steps: of Adam.
        seed: of batches and directions.
    """
    engine, generator = Engine(net), torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(net.parameters(), RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    objective = Objective("squared", scale=float(data.gradient.square().sum(1).mean()))
    bend = float(data.hessian.square().sum((1, 2)).mean())
    for _ in range(steps):
        rows = torch.arange(len(data.u))
        if len(rows) > BATCH:
            rows = torch.randint(len(data.u), (BATCH,), generator=generator)
        u = data.u[rows]
        adam.zero_grad()
        slopes = Targets(torch.ones(len(u), 1, 1), data.gradient[rows].unsqueeze(1))
        engine.step(u, data.value[rows], slopes, weight if order else 0.0, objective)
        if order == 2:
            angle = 2 * torch.pi * torch.rand(len(u), generator=generator)
            direction = torch.stack([angle.cos(), angle.sin()], 1)
            # E |H v|^2 = |H|^2 / 2 for directions v of the plane.
            loss = 2 * hessian_loss(net, u, direction, data.hessian[rows])
            (weight / bend * loss).backward()  # type: ignore[no-untyped-call]
        adam.step()
        schedule.step()


def hessian_loss(net: nn.Module, u: Tensor, direction: Tensor, hessian: Tensor) -> Tensor:
    """Mean of |H_m v - H_f v|^2 over points ``u`` (B, 2), one direction v (B, 2) each; differentiable.

    This is stochastic Sobolev training of order 2 (Czarnecki et al. 2017, figure 1b).
    """
    u = u.detach().requires_grad_()
    (slope,) = torch.autograd.grad(net(u).sum(), u, create_graph=True)
    (product,) = torch.autograd.grad((slope * direction).sum(), u, create_graph=True)
    wanted = (hessian @ direction.unsqueeze(2)).squeeze(2)
    return (product - wanted).square().sum(1).mean()


def predict(net: nn.Sequential, data: Data, u: Tensor) -> tuple[Tensor, Tensor]:
    """The network's value (B,) and gradient (B, 2) at points ``u`` (B, 2), float64, in the function's units."""
    value, gradient = Engine(net, frozen=True).vjp(u.float(), torch.ones(len(u), 1, 1))
    return value[:, 0].double() * data.std + data.mean, gradient[:, 0].double() * data.std


def errors(guess: tuple[Tensor, Tensor], true: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """RMSE of (value, gradient), as shares of the true ones' spread: 1 is what their mean over the points reaches."""
    return _share(guess[0], true[0]), _share(guess[1], true[1])


def _share(guess: Tensor, true: Tensor) -> float:
    return float(((guess - true).square().sum() / (true - true.mean(0)).square().sum()).sqrt())
