"""Functions of time and space, their errors, and the study as a user runs it."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distill.sweep.grid import read_rows
from studies.spacetime.__main__ import FULL, QUICK, Fits
from studies.spacetime.fit import ACTIVATIONS, FUNCTIONS, errors, fit, front, heat, in_space, make_net, of_points


def test_the_functions_solve_their_equations() -> None:
    points = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t, x = points[:, 0].requires_grad_(), (2 * points[:, 1] - 1).detach().requires_grad_()
    for function, flux, viscosity in ((heat, 0.0, 0.2), (front, 1.0, 0.08)):
        u = function(t, x)
        by_t, by_x = torch.autograd.grad(u.sum(), (t, x), create_graph=True)
        (by_xx,) = torch.autograd.grad(by_x.sum(), x)
        torch.testing.assert_close(by_t + flux * u * by_x, viscosity * by_xx, atol=1e-9, rtol=1e-6)


def test_errors_are_shares_of_the_functions_norm() -> None:
    nothing = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0))
    with torch.no_grad():
        for parameter in nothing.parameters():
            parameter.zero_()
    for name in FUNCTIONS:
        assert errors(nothing, name) == {"l2h1": pytest.approx(1.0), "l2": pytest.approx(1.0)}
        exact = of_points(name)
        assert errors(exact, name)["l2h1"] == pytest.approx(0.0)  # type: ignore[arg-type]


def test_only_the_derivative_in_space_is_taken() -> None:
    points = torch.tensor([[0.5, 0.25]])
    value, slope = in_space(lambda p: 7 * p[:, 0] + p[:, 1] ** 2, points)
    assert (float(value), float(slope)) == (3.5625, 0.5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_derivatives_help_where_they_are_learned(activation: str) -> None:
    found = []
    for weight in (0.0, 1.0):
        net = make_net(activation, 8, seed=0)
        fit(net, "front", weight, steps=150, seed=0)
        found.append(errors(net, "front"))
    assert found[0] != found[1]
    assert all(value < 0.9 for one in found for value in one.values())


def test_a_slope_over_width(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Fits, "_run", staticmethod(lambda cell: {"l2h1": 3 * cell["width"] ** -1.5, "weights": 1}))
    fits = Fits(QUICK, tmp_path / "rows.csv")
    slopes = fits.slopes(function="heat", activation="recu", weight=1.0)
    assert slopes.tolist() == pytest.approx([-1.5] * QUICK.seeds)
    assert math.prod((2, 3, 2, len(FULL.widths), FULL.seeds)) == 144


@pytest.mark.slow
def test_quick(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "studies.spacetime", "--quick", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    assert len(read_rows(tmp_path / "rows.csv")) == 2 * 3 * 2 * 2 * 2
    assert "nan" not in (tmp_path / "tables.md").read_text()
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")
    again = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    assert "cell" not in again.stdout
