"""Attacks and training on digits, and the study as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from distill.networks.parts import BandLimited2d, NoisyConv2d, NoisyLinear, draws_from
from distill.sweep.grid import read_rows
from studies.digits.fit import EPS, accuracies, digits, fgsm, fit, make_net, pgd, slope
from studies.digits.run import METHODS, QUICK


def test_the_split_has_every_image_once() -> None:
    data = digits(1)
    assert len(data.x) + len(data.test_x) == 1797
    assert len(data.test_x) == pytest.approx(0.3 * 1797, abs=1)
    assert (float(data.x.min()), float(data.x.max())) == (0.0, 1.0)


def test_layers_are_what_the_methods_say() -> None:
    kinds = {name: [type(layer) for layer in make_net(options, 1)] for name, (options, _) in METHODS.items()}
    assert NoisyConv2d not in kinds["adversarial"]
    for name in ("white, weights", "coloured, activations"):
        assert kinds[name].count(NoisyConv2d) == 2
        assert kinds[name].count(NoisyLinear) == 1
    assert [type(layer) for layer in make_net({"band_limit": [0.5, 0.5]}, 1)].count(BandLimited2d) == 2


def test_attacks_stay_within_their_size_and_raise_the_loss() -> None:
    net, data = make_net({}, 1), digits(1)
    fit(net, data, 60, 1, adversarial=False)
    x, y = data.test_x[:64], data.test_y[:64]
    loss = [F.cross_entropy(net(part), y).item() for part in (x, fgsm(net, x, y, 1), pgd(net, x, y, 10, 1))]
    for moved in (fgsm(net, x, y, 1), pgd(net, x, y, 10, 1)):
        assert float((moved - x).abs().max()) <= EPS + 1e-6
        assert (float(moved.min()), float(moved.max())) == (0.0, 1.0)
    assert loss[0] < loss[1] - 0.1
    assert loss[0] < loss[2] - 0.1


def test_slopes_are_means_over_draws() -> None:
    net, data = make_net({"noise": "white"}, 1), digits(1)
    x, y = data.test_x[:4], data.test_y[:4]
    with draws_from(torch.Generator().manual_seed(1)):
        together = slope(net, x, y, 3)
    with draws_from(torch.Generator().manual_seed(1)):
        apart = sum(slope(net, x, y, 1) for _ in range(3))
    torch.testing.assert_close(together, apart)


def test_a_network_is_trained_the_same_way_again() -> None:
    found = []
    for _ in range(2):
        net = make_net({"noise": "coloured"}, 1)
        torch.manual_seed(5)
        fit(net, digits(1), 5, 1, adversarial=True)
        found.append(accuracies(net, digits(1), 2, 2, 1))
    assert found[0] == found[1]


@pytest.mark.slow
def test_quick(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "studies.digits", "--quick", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    assert len(read_rows(tmp_path / "defences.csv")) == len(METHODS) * len(QUICK.seeds)
    assert len(read_rows(tmp_path / "band-limits.csv")) == len(QUICK.cuts) * len(QUICK.seeds)
    assert "nan" not in (tmp_path / "tables.md").read_text()
