"""What is compared, and what is kept of each: one row a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from distill.api import product, run_grid
from distill.sweep.grid import Cell, Row
from studies.digits.fit import accuracies, digits, fit, make_net

METHODS: Mapping[str, tuple[dict[str, object], bool]] = {
    "plain": ({}, False),
    "adversarial": ({}, True),
    "white, weights": ({"noise": "white"}, True),
    "coloured, weights": ({"noise": "coloured"}, True),
    "white, activations": ({"noise": "white", "noise_on": "activations"}, True),
    "coloured, activations": ({"noise": "coloured", "noise_on": "activations"}, True),
}
"""Layers, and whether training is adversarial."""


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    steps: int
    seeds: Sequence[int]
    cuts: Sequence[float]
    draws: int
    """Of the noise, in each slope of an attack (expectation over transformation)."""


FULL = Scale(steps=1500, seeds=(1, 2, 3), cuts=(0.0, 0.1, 0.25, 0.5, 0.75, 0.9), draws=16)
QUICK = Scale(steps=20, seeds=(1, 2), cuts=(0.0, 0.5), draws=2)


def run(scale: Scale, out: Path) -> tuple[list[Row], list[Row]]:
    """(rows of defences, rows of band limits); what has a row is not done again."""

    def defended(cell: Cell) -> Mapping[str, Any]:
        options, adversarial = METHODS[cell["method"]]
        return _row(options, cell, scale, adversarial=adversarial)

    def limited(cell: Cell) -> Mapping[str, Any]:
        return _row({"band_limit": [cell["cut"]] * 2}, cell, scale, adversarial=False)

    defences = product({"method": list(METHODS), "steps": [scale.steps], "seed": scale.seeds})
    limits = product({"cut": scale.cuts, "steps": [scale.steps], "seed": scale.seeds})
    return (
        run_grid(defences, defended, out / "defences.csv", say=print),
        run_grid(limits, limited, out / "band-limits.csv", say=print),
    )


def _row(options: dict[str, object], cell: Cell, scale: Scale, *, adversarial: bool) -> dict[str, Any]:
    net, data = make_net(options, cell["seed"]), digits(cell["seed"])
    fit(net, data, cell["steps"], cell["seed"], adversarial=adversarial)
    noisy = "noise" in options
    found = accuracies(net, data, scale.draws if noisy else 1, 8 if noisy else 1, cell["seed"])
    return {**found, "weights": _stored(net)}


def _stored(net: nn.Module) -> int:
    """Numbers of convolutions and dense layers, those of noise aside."""
    return sum(part.numel() for name, part in net.named_parameters() if "noise" not in name)
