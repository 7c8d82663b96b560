"""Fits small networks to functions of time and space, with and without derivatives in space.

python -m studies.spacetime           all of it, a few minutes of one core; goes on where it was cut off
python -m studies.spacetime --quick   the same in seconds: shows that it runs, no more
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from distill.api import product, run_grid
from distill.sweep.grid import Cell, Row
from distill.system.files import write_bytes
from studies.common import arguments, markdown, mean_interval, ratio_interval, start, write_tables
from studies.spacetime.fit import ACTIVATIONS, FUNCTIONS, errors, fit, make_net

RESULTS = Path(__file__).parent / "results"
COLOURS = ("#2E86D1", "#D55E00", "#009E73")  # told apart by colour-blind readers
WEIGHTS = (0.0, 1.0)
"""Of the derivative's part: values only, and Sobolev."""


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    widths: Sequence[int]
    steps: int
    seeds: int


FULL = Scale((8, 16, 32, 64), steps=1000, seeds=3)
QUICK = Scale((4, 8), steps=30, seeds=2)
Values = npt.NDArray[np.float64]


class Fits:
    """Rows of all fits; the same seed has the same points and initial weights in all of them."""

    def __init__(self, scale: Scale, path: Path) -> None:
        self.scale = scale
        axes = {"function": list(FUNCTIONS), "activation": list(ACTIVATIONS), "weight": WEIGHTS,
                "width": scale.widths, "steps": [scale.steps], "seed": range(scale.seeds)}  # fmt: skip
        self._rows: list[Row] = run_grid(product(axes), self._run, path, say=print)

    def pick(self, figure: str, **settings: Any) -> Values:
        """A figure of the fits with these settings, in order of seeds."""
        wanted = {name: str(value) for name, value in settings.items()}
        return np.array([float(row[figure]) for row in self._rows if wanted.items() <= row.items()])

    def slopes(self, **settings: Any) -> Values:
        """Slope of log error over log width, one a seed."""
        logs = np.log([self.pick("l2h1", width=width, **settings) for width in self.scale.widths])
        return np.asarray(np.polyfit(np.log(self.scale.widths), logs, 1)[0])

    @staticmethod
    def _run(cell: Cell) -> Mapping[str, Any]:
        net = make_net(cell["activation"], cell["width"], cell["seed"])
        fit(net, cell["function"], cell["weight"], cell["steps"], cell["seed"])
        weights = sum(part.numel() for part in net.parameters())
        return {**errors(net, cell["function"]), "weights": weights}


def table(fits: Fits, function: str) -> str:
    """L2(H1) error at the largest width, with and without derivatives, and slopes over width."""
    widest, lines = fits.scale.widths[-1], []
    for activation in ACTIVATIONS:
        which = {"function": function, "activation": activation}
        plain, sobolev = (fits.pick("l2h1", width=widest, weight=weight, **which) for weight in WEIGHTS)
        slopes = [mean_interval(fits.slopes(weight=weight, **which)).text(2) for weight in WEIGHTS]
        errors = [ratio_interval(part, np.ones_like(part)).text() for part in (plain, sobolev)]
        lines.append([activation, *errors, ratio_interval(sobolev, plain).text(), *slopes])
    head = ["activation", "values only", "Sobolev", "ratio", "slope, values only", "slope, Sobolev"]
    return markdown(head, lines)


def against_recu(fits: Fits, function: str) -> str:
    """ReCU's error over that of the others, at every width, with derivatives."""
    lines = []
    for width in fits.scale.widths:
        which = {"function": function, "width": width, "weight": 1.0}
        mine = fits.pick("l2h1", activation="recu", **which)
        others = [ratio_interval(mine, fits.pick("l2h1", activation=name, **which)).text() for name in ("relu", "tanh")]
        lines.append([str(width), str(int(fits.pick("weights", activation="recu", **which)[0])), *others])
    return markdown(["width", "weights", "ReCU / ReLU", "ReCU / tanh"], lines)


def picture(path: Path, fits: Fits) -> None:
    """Error over width; a panel a function, a colour an activation, dashed without derivatives."""
    figure = Figure((10, 4), layout="constrained")
    for axis, function in zip(figure.subplots(1, len(FUNCTIONS), sharey=True), FUNCTIONS, strict=True):
        for activation, colour in zip(ACTIVATIONS, COLOURS, strict=True):
            for weight, style in zip(WEIGHTS, ("--", "-"), strict=True):
                which = {"function": function, "activation": activation, "weight": weight}
                means = [np.exp(np.log(fits.pick("l2h1", width=width, **which)).mean()) for width in fits.scale.widths]
                label = f"{activation}, {'Sobolev' if weight else 'values only'}"
                axis.loglog(fits.scale.widths, means, style, color=colour, marker="o", ms=4, label=label)
        axis.set_title(function)
        axis.set_xlabel("width")
        axis.set_xticks(fits.scale.widths, [str(width) for width in fits.scale.widths])
        axis.minorticks_off()
        axis.grid(color="#e4e7ea")
    figure.axes[0].set_ylabel("error in L²(H¹)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_bytes(path, buffer.getvalue())


def main() -> None:
    """Fit, then write rows, tables and a picture."""
    args = arguments(__doc__ or "", RESULTS)
    scale = QUICK if args.quick else FULL
    fits = Fits(scale, args.out / "rows.csv")
    about = (
        f"Errors in L2(H1) over a grid, as shares of the function's own norm, at width {scale.widths[-1]}; geometric "
        f"means over {scale.seeds} seeds with 95 % intervals, {scale.steps} steps of Adam on all points. The ratio is "
        "Sobolev's error over that of values only, paired by seed; a slope is that of log error over log width."
    )
    sections = [about]
    for function in FUNCTIONS:
        sections += [f"## {function}", table(fits, function), "ReCU against the others, with derivatives:"]
        sections += [against_recu(fits, function)]
    write_tables(args.out / "tables.md", "Functions of time and space", sections)
    picture(args.out / "errors.png", fits)
    print(f"wrote {args.out}/tables.md and errors.png")


if __name__ == "__main__":
    start(main)
