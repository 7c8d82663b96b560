"""The picture that a deployer decides by: score against weights, bytes and microseconds, beside the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes

from distill.report.plots import LIGHT, MARKERS, PALETTE, drawing
from distill.shrink.ladder import Rung
from distill.shrink.settings import FLOAT32, INT8
from distill.shrink.speed import TEACHER

THEME = LIGHT
SIZE = (210, 220)
"""Of a panel, about, in points; and the room that a name takes."""
NAME = (36, 9)


@dataclass(frozen=True)
class Series:
    """Points of one look."""

    label: str
    precision: str
    measure: str
    """The field of a rung that the axis shows."""
    colour: str
    marker: str
    hollow: bool = False


PYTORCH = Series("float32 (PyTorch)", FLOAT32, "pytorch_us", PALETTE[0], MARKERS[0])
RUNTIME = Series("float32 (onnxruntime)", FLOAT32, "onnxruntime_us", PALETTE[0], MARKERS[0], hollow=True)
QUANTISED = Series("int8 (onnxruntime)", INT8, "onnxruntime_us", PALETTE[1], MARKERS[1])


def picture(rungs: Sequence[Rung], random: float, what: str) -> bytes:
    """The three panels, as PNG.

    Args:
        rungs: the teacher first.
        random: score of random play.
        what: the title.
    """
    with drawing(THEME, 10.4, 3.9) as (figure, png):
        panels = figure.subplots(1, 3, sharey=True)
        for axes, measure, label in zip(
            panels, ("weights", "bytes", ""), ("weights", "bytes on disk", "µs a call (batch 1, one core)"), strict=True
        ):
            _panel(axes, rungs, random, measure)
            axes.set_xlabel(label)
        panels[0].set_ylabel("mean score of whole games")
        _shares(panels[-1], rungs[0], random)
        looks = dict(zip(*reversed(panels[-1].get_legend_handles_labels()), strict=True))
        labels = sorted(looks, key=lambda label: (label == TEACHER, *label.partition(" ")))
        figure.legend(
            [looks[label] for label in labels],
            labels,
            loc="outside upper right",
            ncols=len(labels),
            frameon=False,
            fontsize=8,
        )
        figure.suptitle(what, x=0.01, ha="left", fontsize=10)
    return png()


def _panel(axes: Axes, rungs: Sequence[Rung], random: float, measure: str) -> None:
    teacher, students = rungs[0], rungs[1:]
    axes.axhspan(teacher.score_low, teacher.score_high, color=THEME.faint, alpha=0.2, lw=0)
    axes.axhline(teacher.score, color=THEME.faint, lw=1)
    axes.axhline(random, color=THEME.faint, lw=1, ls=(0, (4, 3)))
    axes.annotate(
        "random", (0.99, random), xycoords=("axes fraction", "data"), xytext=(0, -10), textcoords="offset points",
        color=THEME.faint, fontsize=8, ha="right",
    )  # fmt: skip
    for series in (PYTORCH, RUNTIME, QUANTISED):
        if series is RUNTIME and measure:
            continue  # the same point
        _points(axes, [one for one in students if one.precision == series.precision], measure or series.measure, series)
        if series.precision == FLOAT32:
            black = Series(TEACHER, FLOAT32, series.measure, THEME.ink, "*", series.hollow)
            _points(axes, [teacher], measure or series.measure, black)
    scores = [random, *(one.score for one in rungs)]
    span = max(scores) - min(scores)
    axes.set_ylim(
        min(scores) - 0.15 * span, max(scores) + 0.2 * span
    )  # intervals of two seeds may be ten times as wide
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low / 1.1, high * (high / low) ** 0.12)  # room for the teacher's name
    subs = (1, 2, 5) if high < 300 * low else (1, 3)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: _short(value)))
    _names(axes, [one for one in rungs if one.precision == FLOAT32], measure or PYTORCH.measure)
    axes.grid(color=THEME.faint, alpha=0.25, lw=0.6)


def _points(axes: Axes, rungs: Sequence[Rung], measure: str, series: Series) -> None:
    """Points with their intervals, and a line through them."""
    rungs = sorted((one for one in rungs if getattr(one, measure)), key=lambda one: one.weights)
    if not rungs:
        return
    x, y = (np.array([getattr(one, name) for one in rungs], float) for name in (measure, "score"))
    ends = [[getattr(one, f"score_{end}") for one in rungs] for end in ("low", "high")]
    wide = None
    if measure.endswith("_us"):
        spread = [[getattr(one, f"{measure}_{end}") for one in rungs] for end in ("low", "high")]
        wide = _around(x, spread)
    size = 11 if series.marker == "*" else 5.5
    axes.errorbar(
        x, y, yerr=_around(y, ends), xerr=wide, color=series.colour,
        marker=series.marker, ms=size, mfc=THEME.background if series.hollow else series.colour, lw=1.2,
        elinewidth=1, capsize=2, alpha=0.95, label=None if series.marker == "*" and series.hollow else series.label,
    )  # fmt: skip


def _around(values: Any, ends: Sequence[Sequence[float]]) -> Any:
    """Distances down and up to the ends of intervals; matplotlib refuses negative ones, which rounding may leave."""
    low, high = map(np.array, ends)
    return np.maximum([values - low, high - values], 0)


def _names(axes: Axes, rungs: Sequence[Rung], measure: str) -> None:
    """Names of networks right below their points in float32, pushed down where they would lie on one another."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    placed: list[tuple[float, float]] = []
    for one in sorted((one for one in rungs if getattr(one, measure)), key=lambda one: -one.score):
        x = SIZE[0] * np.log(getattr(one, measure) / left) / np.log(right / left)
        y = SIZE[1] * (one.score - bottom) / (top - bottom) - 12
        down = 0
        while any(abs(x - other) < NAME[0] and abs(y - down - height) < NAME[1] for other, height in placed):
            down += 1
        placed.append((x, y - down))
        axes.annotate(
            one.network, (getattr(one, measure), one.score), xytext=(4, -12 - down), textcoords="offset points",
            fontsize=7.5, color=THEME.ink,
        )  # fmt: skip


def _shares(axes: Axes, teacher: Rung, random: float) -> None:
    """A second scale on the right: the share of the teacher's score above random."""
    span = teacher.score - random
    if span <= 0:
        return

    def share(score: Any) -> Any:
        return 100 * (score - random) / span

    def score(share: Any) -> Any:
        return random + share * span / 100

    right = axes.secondary_yaxis("right", functions=(share, score))
    right.set_ylabel("share of the teacher above random, %")


def _short(value: float) -> str:
    """10k for 10,000."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
