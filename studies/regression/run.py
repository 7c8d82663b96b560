"""Which networks are fitted to which functions, and what is kept of each: one row a fit."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from distill.api import product, run_grid
from studies.regression.fit import ACTIVATIONS, errors, fit, make_data, make_net, predict
from studies.regression.functions import FUNCTIONS, grid

METRICS = ("value", "gradient")


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    functions: Sequence[str]
    bent: Sequence[str]
    """Functions that are fitted with second derivatives as well; tanh and the fewest points."""
    steps: int
    seeds: int
    points: Sequence[int] = (20, 100)
    many: Sequence[int] = (1000,)
    """Points where data is no longer scarce, in batches; ReLU only."""
    weights: Sequence[float] = (0.1, 10.0)
    """Other lambdas than 1; ReLU and the fewest points."""


FULL = Scale(list(FUNCTIONS), ("styblinski_tang", "mccormick", "rosenbrock"), steps=800, seeds=10)
QUICK = Scale(("styblinski_tang", "ackley"), ("styblinski_tang",), steps=60, seeds=2)


class Rows:
    """Results of every fit; the same seed has the same points and the same initial weights in all of them."""

    def __init__(self, scale: Scale, path: Path) -> None:
        self.scale = scale
        self._rows = run_grid(cells(scale), run, path, say=print)

    def pick(self, metric: str, **settings: Any) -> npt.NDArray[np.float64]:
        """The metric of the fits that have these settings, in order of seeds."""
        wanted = {name: str(value) for name, value in settings.items()}
        return np.array([float(row[metric]) for row in self._rows if wanted.items() <= row.items()])

    def overall(self, metric: str, **settings: Any) -> npt.NDArray[np.float64]:
        """Geometric mean over the functions, in order of seeds."""
        logs = [np.log(self.pick(metric, function=name, **settings)) for name in self.scale.functions]
        return np.asarray(np.exp(np.mean(logs, 0)))


def cells(scale: Scale) -> list[dict[str, Any]]:
    """Settings of every fit. Values only is order 0 and weight 0; Sobolev is order 1 (or 2) and lambda, mostly 1."""

    def block(
        order: int,
        weights: Sequence[float],
        points: Sequence[int] = scale.points,
        activations: Sequence[str] = ("relu",),
        functions: Sequence[str] = scale.functions,
    ) -> list[dict[str, Any]]:
        axes = {"function": functions, "points": points, "activation": activations, "order": [order]}
        return product({**axes, "weight": weights, "steps": [scale.steps], "seed": range(scale.seeds)})

    everywhere = [*scale.points, *scale.many]
    others = [name for name in ACTIVATIONS if name != "relu"]
    return [
        *block(0, [0.0], everywhere),
        *block(1, [1.0], everywhere),
        *block(1, scale.weights, scale.points[:1]),
        *block(2, [1.0], scale.points[:1], ["tanh"], scale.bent),
        *block(0, [0.0], activations=others),
        *block(1, [1.0], activations=others),
    ]


def run(cell: dict[str, Any]) -> dict[str, float]:
    """Fit one network; its errors over the domain and at the points it learned from."""
    function = FUNCTIONS[cell["function"]]
    data = make_data(function, cell["points"], cell["seed"])
    net = make_net(cell["activation"], cell["seed"])
    fit(net, data, cell["order"], cell["weight"], cell["steps"], cell["seed"])
    value, gradient = errors(predict(net, data, grid()), surface(cell["function"]))
    u = data.u.double()
    train_value, train_gradient = errors(predict(net, data, u), function.jet(u)[:2])
    return {"value": value, "gradient": gradient, "train_value": train_value, "train_gradient": train_gradient}


@functools.cache
def surface(name: str) -> tuple[Tensor, Tensor]:
    """A function's true values and gradients over the grid."""
    return FUNCTIONS[name].jet(grid())[:2]
