"""Pictures: a sheet for each function, and the ratios of all in one."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, PowerNorm
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from distill.system.files import write_bytes
from studies.common import ratio_interval
from studies.regression.fit import ACTIVATIONS, Data, fit, make_data, make_net, predict
from studies.regression.functions import FUNCTIONS, Function, grid
from studies.regression.run import METRICS, Rows, surface
from studies.regression.tables import PLAIN, SOBOLEV

PALETTE = ("#2E86D1", "#D55E00", "#009E73", "#CC79A7")  # told apart by colour-blind readers
ARROWS = 4
"""An arrow on every fourth point of the grid."""


def sheet(path: Path, name: str, points: Sequence[int], steps: int, seed: int = 0) -> None:
    """The function and what ReLU networks make of it: values, errors, gradients."""
    function, (value, gradient) = FUNCTIONS[name], surface(name)
    figure = Figure((13, 7.6), layout="constrained")
    axes = figure.subplots(3, 5, sharex=True, sharey=True)
    data = {count: make_data(function, count, seed) for count in points}
    levels = PowerNorm(0.5, float(value.min()), float(value.max()))
    slopes = PowerNorm(0.5, 0, float(gradient.norm(dim=1).quantile(0.99)))
    faults = LogNorm(0.01, 1)
    shown = _image(axes[0, 0], function, value, levels, "viridis")
    steep = _field(axes[2, 0], function, gradient, slopes)
    _points(axes[1, 0], function, data)
    axes[0, 0].set_title(function.title)
    for column, (count, weight) in enumerate(((n, w) for n in points for w in (0.0, 1.0)), 1):
        net = make_net("relu", seed)
        fit(net, data[count], int(weight > 0), weight, steps, seed)
        guess, slope = predict(net, data[count], grid())
        _image(axes[0, column], function, guess, levels, "viridis")
        wrong = _image(axes[1, column], function, (guess - value).abs() / value.std(), faults, "magma")
        _field(axes[2, column], function, slope, slopes)
        axes[0, column].set_title(f"{'Sobolev' if weight else 'values only'}, {count} points")
    for axis in axes[2]:
        axis.set_xlabel("x")
    for axis in axes[:, 0]:
        axis.set_ylabel("y")
    figure.colorbar(shown, ax=axes[0], label="value", extend="both", pad=0.01)
    figure.colorbar(wrong, ax=axes[1], label="|error| / spread", extend="both", pad=0.01)
    figure.colorbar(steep, ax=axes[2], label="|gradient| per half domain", extend="max", pad=0.01)
    _save(path, figure)


def ratios(path: Path, rows: Rows) -> None:
    """Sobolev's error over that of values only, a row a function and a colour an activation."""
    names = rows.scale.functions
    figure = Figure((11, 2 + 0.8 * len(names)), layout="constrained")
    axes = figure.subplots(len(rows.scale.points), len(METRICS), sharex=True, sharey=True, squeeze=False)
    for line, points in zip(axes, rows.scale.points, strict=True):
        for axis, metric in zip(line, METRICS, strict=True):
            for index, activation in enumerate(ACTIVATIONS):
                which: dict[str, Any] = {"points": points, "activation": activation}
                found = [
                    ratio_interval(
                        rows.pick(metric, function=name, **which, **SOBOLEV),
                        rows.pick(metric, function=name, **which, **PLAIN),
                    )
                    for name in names
                ]
                axis.errorbar(
                    [one.mean for one in found],
                    np.arange(len(names)) + 0.18 * (index - 1.5),
                    xerr=[[one.mean - one.low for one in found], [one.high - one.mean for one in found]],
                    fmt="o", ms=4, lw=1.2, color=PALETTE[index], label=activation,
                )  # fmt: skip
            axis.axvline(1, color="#1b1f24", lw=1)
            axis.set_title(f"error of {metric}, {points} points", fontsize=10)
            axis.grid(axis="x", color="#e4e7ea")
    axes[0, 0].set_xscale("log")
    axes[0, 0].set_yticks(np.arange(len(names)), [FUNCTIONS[name].title for name in names])
    axes[0, 0].invert_yaxis()
    figure.supxlabel("Sobolev's error / that of values only, 95 % interval over seeds; left of 1 Sobolev is better")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=4, frameon=False)
    _save(path, figure)


def _extent(function: Function) -> tuple[float, float, float, float]:
    return function.low[0], function.high[0], function.low[1], function.high[1]


def _square(values: Tensor) -> npt.NDArray[np.float64]:
    """Numbers of the grid as an image: rows are y, upwards."""
    side = round(len(values) ** 0.5)
    return values.reshape(side, side, *values.shape[1:]).transpose(0, 1).numpy()


def _image(axis: Axes, function: Function, values: Tensor, norm: Normalize, colours: str) -> Any:
    return axis.imshow(
        _square(values), norm=norm, cmap=colours, origin="lower", extent=_extent(function), aspect="auto"
    )


def _field(axis: Axes, function: Function, gradient: Tensor, norm: Normalize) -> Any:
    """Length of the gradient in colour, its direction as arrows of one length."""
    shown = _image(axis, function, gradient.norm(dim=1), norm, "cividis")
    x0, x1, y0, y1 = _extent(function)
    u, g = (_square(part)[ARROWS // 2 :: ARROWS, ARROWS // 2 :: ARROWS] for part in (grid(), gradient))
    unit = g / np.maximum(np.linalg.norm(g, axis=-1, keepdims=True), 1e-12)
    x, y = x0 + (u[..., 0] + 1) / 2 * (x1 - x0), y0 + (u[..., 1] + 1) / 2 * (y1 - y0)
    axis.quiver(x, y, unit[..., 0], unit[..., 1], color="white", pivot="mid", scale=22, width=0.006)
    return shown


def _points(axis: Axes, function: Function, data: dict[int, Data]) -> None:
    """Where the function was seen."""
    x0, x1, y0, y1 = _extent(function)
    for (count, one), marker in zip(sorted(data.items(), reverse=True), ("o", "x"), strict=True):
        u = one.u.numpy()
        axis.scatter(
            x0 + (u[:, 0] + 1) / 2 * (x1 - x0), y0 + (u[:, 1] + 1) / 2 * (y1 - y0),
            s=12, marker=marker, lw=1, color="#1b1f24" if marker == "x" else "#c3c9cf", label=f"{count} points",
        )  # fmt: skip
    axis.legend(fontsize=7, loc="upper right")


def _save(path: Path, figure: Figure) -> None:
    """Write a PNG of few colours, which makes it a third as large."""
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=72)
    Image.open(buffer).convert("RGB").quantize(256).save(small, "PNG", optimize=True)
    write_bytes(path, small.getvalue())
