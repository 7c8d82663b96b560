"""The functions against their known minima, their derivatives against finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from studies.regression.functions import FUNCTIONS, grid, sample

MINIMA = {
    "styblinski_tang": ((-2.903534, -2.903534), -78.33233),
    "ackley": ((1e-9, 0.0), 0.0),
    "beale": ((3.0, 0.5), 0.0),
    "booth": ((1.0, 3.0), 0.0),
    "bukin": ((-10.0, 1.0), 0.0),
    "mccormick": ((-0.54719, -1.54719), -1.9133),
    "rosenbrock": ((1.0, 1.0), 0.0),
}


def normalised(name: str, x: tuple[float, float]) -> torch.Tensor:
    function = FUNCTIONS[name]
    sides = zip(x, function.low, function.high, strict=True)
    return torch.tensor([2 * (t - a) / (b - a) - 1 for t, a, b in sides], dtype=torch.float64)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_minimum_is_the_known_one(name: str) -> None:
    function, (x, lowest) = FUNCTIONS[name], MINIMA[name]
    assert float(function(normalised(name, x))) == pytest.approx(lowest, abs=1e-4)
    assert float(function(grid()).min()) > lowest


def test_a_value_off_the_minimum() -> None:
    """Booth(0, 0) = 49 + 25, Rosenbrock(-2, 3) = 9 + 100, Ackley at a corner from its formula."""
    assert float(FUNCTIONS["booth"](normalised("booth", (0, 0)))) == pytest.approx(74)
    assert float(FUNCTIONS["rosenbrock"](normalised("rosenbrock", (-2, 3)))) == pytest.approx(109)
    corner = float(FUNCTIONS["ackley"](torch.ones(2, dtype=torch.float64)))
    assert corner == pytest.approx(20 - 20 * math.exp(-1))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_differences(name: str) -> None:
    function, h = FUNCTIONS[name], 1e-5
    u = sample(6, seed=3)
    _, gradient, hessian = function.jet(u)
    for axis in range(2):
        step = h * torch.eye(2, dtype=torch.float64)[axis]
        slope = (function(u + step) - function(u - step)) / (2 * h)
        torch.testing.assert_close(gradient[:, axis], slope, rtol=1e-5, atol=1e-5)
        bend = (function.jet(u + step)[1] - function.jet(u - step)[1]) / (2 * h)
        torch.testing.assert_close(hessian[:, axis], bend, rtol=1e-5, atol=1e-4)


def test_grid_covers_the_domain_and_misses_every_cusp() -> None:
    u = grid(64)
    assert u.shape == (4096, 2)
    assert u.min() == -1 + 1 / 64
    assert u.max() == 1 - 1 / 64
    for function in FUNCTIONS.values():
        assert all(part.isfinite().all() for part in function.jet(u))


def test_fewer_points_are_the_first_of_more() -> None:
    assert torch.equal(sample(20, 3), sample(100, 3)[:20])
    assert not torch.equal(sample(20, 3), sample(20, 4))
