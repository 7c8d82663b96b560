"""The study's pictures: the headline (how close students come), and what else changes with the derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy import stats

from distill.sweep.grid import Row
from distill.system.files import replacing
from studies.atari.choose import METHODS
from studies.atari.plan import Scale
from studies.atari.tables import Values, pick

COLOURS = {"KL": "#d55e00", "Sobolev": "#0072b2"}
LABELS = {"KL": "KL (plain distillation)", "Sobolev": "KL + Sobolev, at the same cost"}


def headline(path: Path, rows: Mapping[str, Sequence[Row]], scale: Scale) -> None:
    """The paper's two figures for every column: held-out KL and top-action disagreement over the share of the data."""
    figure, axes = pyplot.subplots(2, len(rows), figsize=(4.2 * len(rows), 5.6), layout="constrained", squeeze=False)
    for column, (title, found) in enumerate(rows.items()):
        _curves(axes[0, column], found, "test_kl", scale, 1, stats.gmean)
        _curves(axes[1, column], found, "test_action_error", scale, 100, stats.gmean)
        axes[0, column].set_title(title)
        _plain_log(axes[0, column])
        axes[1, column].set(ylim=(0, None), xlabel=f"% of {scale.states:,} recorded states")
    axes[0, 0].set_ylabel("test KL(teacher ‖ student), nats")
    axes[1, 0].set_ylabel("top-action disagreement, %")
    axes[1, 0].legend(frameon=False, loc="lower left")
    _save(figure, path)


def others(path: Path, rows: Mapping[str, Sequence[Row]], scale: Scale) -> None:
    """Cosine with the teacher's derivatives, and disagreement at noisy and at shifted pixels."""
    shown = {"test_jacobian_cosine": ("cosine of derivatives", 1), "noise8_error": ("disagreement at noise 8, %", 100),
             "shift1_error": ("disagreement at shift 1, %", 100)}  # fmt: skip
    size = (4.2 * len(rows), 3.0 * len(shown))
    figure, axes = pyplot.subplots(len(shown), len(rows), figsize=size, layout="constrained", squeeze=False)
    for column, (title, found) in enumerate(rows.items()):
        axes[0, column].set_title(title)
        for line, (name, (label, unit)) in enumerate(shown.items()):
            _curves(axes[line, column], found, name, scale, unit, np.mean)
            axes[line, column].set_ylim(0, None)
            axes[line, 0].set_ylabel(label)
        axes[-1, column].set_xlabel(f"% of {scale.states:,} recorded states")
    axes[0, 0].legend(frameon=False)
    _save(figure, path)


def _curves(
    axes: Axes, rows: Sequence[Row], name: str, scale: Scale, unit: float, mean: Callable[[Values], float]
) -> None:
    """A mean over seeds, every seed as a dot, and their range as a band; intervals are in the tables."""
    for method in METHODS[:2]:
        values = {p: unit * pick(rows, name, states=scale.share(p), method=method) for p in scale.percentages}
        values = {p: found for p, found in values.items() if len(found)}
        colour, places = COLOURS[method], list(values)
        axes.plot(places, [mean(found) for found in values.values()], color=colour, label=LABELS[method])
        low, high = ([edge(found) for found in values.values()] for edge in (min, max))
        axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        for percentage, found in values.items():
            axes.scatter(np.full(len(found), percentage), found, s=12, color=colour, linewidths=0)
    axes.set_xscale("log")
    axes.set_xticks(list(scale.percentages), [str(p) for p in scale.percentages])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _plain_log(axes: Axes) -> None:
    """A log axis with numbers as one writes them."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)
