"""Rows to tables: errors over the domain, their paired ratios, and what activation, lambda and order do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from studies.common import markdown, ratio_interval
from studies.regression.fit import ACTIVATIONS
from studies.regression.functions import FUNCTIONS
from studies.regression.run import METRICS, Rows

PLAIN: dict[str, Any] = {"order": 0, "weight": 0.0}
SOBOLEV: dict[str, Any] = {"order": 1, "weight": 1.0}
COMPARED = [f"{metric}: {column}" for metric in METRICS for column in ("values only", "Sobolev", "ratio")]


def sections(rows: Rows) -> list[str]:
    """The whole page."""
    about = (
        f"Errors are root mean squares over a 64 x 64 grid of the domain as shares of the true spread there: 1 is what "
        f"the mean reaches. Geometric means over {rows.scale.seeds} seeds, {rows.scale.steps} steps of Adam; ratios "
        "are Sobolev's error over that of values only, paired by seed (same points, same initial weights), with 95 % "
        "intervals over seeds. Below 1 Sobolev is better."
    )
    fewest = rows.scale.points[0]
    everything = [
        f"## {points} points, ReLU\n\n" + by_function(rows, points) for points in (*rows.scale.points, *rows.scale.many)
    ]
    return [
        about,
        *everything,
        "## Activations, all functions together\n\n" + by_activation(rows),
        *(
            f"## Activations, error of {metric} with Sobolev, {points} points\n\n" + by_both(rows, metric, points)
            for points in rows.scale.points
            for metric in METRICS
        ),
        f"## λ, all functions together, {fewest} points, ReLU\n\n" + by_weight(rows),
        f"## Second derivatives, {fewest} points, tanh\n\n" + by_order(rows),
    ]


def by_function(rows: Rows, points: int) -> str:
    """Both methods' errors and their ratio, a line a function."""
    which: dict[str, Any] = {"points": points, "activation": "relu"}
    lines = [
        [FUNCTIONS[name].title, *_compared(partial(rows.pick, function=name, **which))] for name in rows.scale.functions
    ]
    lines.append(["all", *_compared(partial(rows.overall, **which))])
    return markdown(["function", *COMPARED], lines)


def by_activation(rows: Rows) -> str:
    """Geometric means over the functions, a line an activation."""
    lines = [
        [f"{points}, {name}", *_compared(partial(rows.overall, points=points, activation=name))]
        for points in rows.scale.points
        for name in ACTIVATIONS
    ]
    return markdown(["points, activation", *COMPARED], lines)


def by_both(rows: Rows, metric: str, points: int) -> str:
    """Sobolev's error, a line a function and a column an activation."""
    lines = [
        [
            FUNCTIONS[name].title,
            *(
                spread(rows.pick(metric, function=name, points=points, activation=activation, **SOBOLEV))
                for activation in ACTIVATIONS
            ),
        ]
        for name in rows.scale.functions
    ]
    return markdown(["function", *ACTIVATIONS], lines)


def by_weight(rows: Rows) -> str:
    """Geometric means over the functions, a line a lambda; ReLU and the fewest points."""
    which: dict[str, Any] = {"points": rows.scale.points[0], "activation": "relu"}
    lines = []
    for weight in sorted([SOBOLEV["weight"], *rows.scale.weights]):
        lines.append([f"{weight:g}"])
        for metric in METRICS:
            plain, sobolev = (rows.overall(metric, **which, order=o, weight=w) for o, w in ((0, 0.0), (1, weight)))
            lines[-1] += [centre(sobolev), ratio_interval(sobolev, plain).text()]
    return markdown(["λ", *(f"{m}: {column}" for m in METRICS for column in ("Sobolev", "ratio"))], lines)


def by_order(rows: Rows) -> str:
    """Errors by the highest derivative that was fitted; tanh and the fewest points."""
    names = ("values only", "gradients", "Hessians", "Hessians / gradients")
    lines = []
    for name in rows.scale.bent:
        which = {"function": name, "points": rows.scale.points[0], "activation": "tanh"}
        lines.append([FUNCTIONS[name].title])
        for metric in METRICS:
            plain, first = (rows.pick(metric, **which, **method) for method in (PLAIN, SOBOLEV))
            second = rows.pick(metric, **which, order=2, weight=1.0)
            lines[-1] += [centre(plain), centre(first), centre(second), ratio_interval(second, first).text()]
    return markdown(["function", *(f"{m}: {c}" for m in METRICS for c in names)], lines)


def _compared(pick: Callable[..., npt.NDArray[np.float64]]) -> list[str]:
    """The cells of ``COMPARED``."""
    found = []
    for metric in METRICS:
        plain, sobolev = pick(metric, **PLAIN), pick(metric, **SOBOLEV)
        found += [centre(plain), centre(sobolev), ratio_interval(sobolev, plain).text()]
    return found


def centre(values: npt.NDArray[np.float64]) -> str:
    """Geometric mean over seeds."""
    return spread(values).split(" ")[0]


def spread(values: npt.NDArray[np.float64]) -> str:
    """Geometric mean over seeds with its interval."""
    return ratio_interval(values, np.ones_like(values)).text()
