"""The report's pictures: PNG bytes, in a light and a dark version, sharp on dense screens."""

from __future__ import annotations

import contextlib
import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from distill.envs.games import REFERENCE_SCORES
from distill.figures.saliency import Saliency
from distill.records.scores import AgentScores, Scores
from distill.report.headline import number
from distill.system.streams import generator

DPI = 240
MAX_BYTES = 300_000
# Okabe and Ito's colours, told apart by colour-blind readers: without the yellow, and with a lighter blue that
# shows on a dark background too.
PALETTE = ("#2E86D1", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "D", "^", "v", "P")


@dataclass(frozen=True)
class Theme:
    """Colours of a page that a picture must fit."""

    background: str
    ink: str
    faint: str


LIGHT = Theme("#ffffff", "#1b1f24", "#8a929c")
DARK = Theme("#171b21", "#e8ebef", "#7d8691")


@dataclass(frozen=True)
class Curve:
    """One student's learning curve."""

    steps: Sequence[int]
    """Optimizer steps."""
    values: Sequence[float]
    """The metric there."""
    best_step: int
    """Step whose weights became the student."""


def colours(agents: Mapping[str, AgentScores], theme: Theme) -> dict[str, str]:
    """A colour for every agent: students from the palette in order, teachers in the colour of text."""
    students = [name for name, agent in agents.items() if agent.kind == "student"]
    chosen = {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(students)}
    return {name: chosen.get(name, theme.ink) for name in agents}


def wrapped(name: str, width: int) -> str:
    """A long agent name over several lines, broken where run folders join their parts."""
    lines = textwrap.wrap(name.replace("__", " · "), width, break_long_words=True)
    return "\n".join(lines) or name


def returns(record: Scores, theme: Theme) -> bytes:
    """Every game's return as a dot, with each agent's mean and its 95 % interval, as PNG.

    Args:
        record: the scores.
        theme: colours.
    """
    agents = record.agents
    colour = colours(agents, theme)
    with drawing(theme, 5.2, 0.9 + 0.56 * len(agents)) as (figure, png):
        axes = figure.add_subplot()
        rng = generator("jitter")
        for row, (name, agent) in enumerate(agents.items()):
            scores = np.asarray(agent.returns, float)
            height = row + rng.uniform(0.02, 0.3, len(scores))
            axes.scatter(scores, height, s=14, color=colour[name], alpha=0.7, linewidths=0)
            low, high = agent.ci95
            axes.plot([low, high], [row - 0.16] * 2, color=colour[name], lw=5, alpha=0.45, solid_capstyle="butt")
            axes.plot(agent.mean, row - 0.16, "|", color=colour[name], ms=10, mew=2)
            axes.annotate(
                number(agent.mean), (agent.mean, row - 0.16), xytext=(0, 7), textcoords="offset points",
                ha="center", fontsize=8, color=theme.ink, bbox={"fc": theme.background, "ec": "none", "pad": 0.8},
            )  # fmt: skip
        names = [wrapped(name, 20) for name in agents]
        axes.set_yticks(range(len(agents)), names)
        axes.set_ylim(len(agents) - 0.55, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("return of one game (points, unclipped)")
        axes.spines["left"].set_visible(False)
        _references(axes, record.game, theme)
    return png()


def _references(axes: Axes, game: str, theme: Theme) -> None:
    """Published scores of random play and of a person, where they do not squeeze the data."""
    if game not in REFERENCE_SCORES:
        return
    low, high = axes.get_xlim()
    for label, score in zip(("random", "human"), REFERENCE_SCORES[game], strict=True):
        if low - (high - low) <= score <= high + (high - low):
            axes.axvline(score, color=theme.faint, lw=1, ls=(0, (4, 3)), zorder=0)
            axes.annotate(
                label, (score, 1), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
                ha="center", va="bottom", color=theme.faint, fontsize=8,
            )  # fmt: skip


def learning_curve(
    curves: Mapping[str, Curve], colour: Mapping[str, str], label: str, theme: Theme, *, log: bool = False,
    percent: bool = False,
) -> bytes:  # fmt: skip
    """One validation metric against training step for every student, as PNG.

    Args:
        curves: by student.
        colour: by student.
        label: of the vertical axis, with its unit.
        theme: colours.
        log: logarithmic vertical axis; a linear one otherwise, starting at zero.
        percent: the values are shares.
    """
    columns = 1 if len(curves) == 1 or max(map(len, curves)) > 20 else 2
    names = {name: wrapped(name, 44 if columns == 1 else 20) for name in curves}
    legend = 0.17 * sum(text.count("\n") + 1 for text in names.values()) / columns
    with drawing(theme, 3.5, 2.55 + legend) as (figure, png):
        axes = figure.add_subplot()
        for index, (name, curve) in enumerate(curves.items()):
            marker = MARKERS[index % len(MARKERS)]
            values = np.asarray(curve.values) * (100 if percent else 1)
            every = max(1, len(values) // 10)
            axes.plot(
                curve.steps, values, marker=marker, markevery=every, ms=3.5, lw=1.6, color=colour[name],
                label=names[name],
            )  # fmt: skip
            for step, value in zip(curve.steps, values, strict=True):
                if step == curve.best_step:
                    axes.plot(step, value, marker, ms=9, mfc="none", mec=colour[name], mew=1.4)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(label)
        axes.set_xlim(left=0)
        if log:
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            subs = (1, 2, 3, 4, 6, 8) if high < 12 * low else (1, 2, 5)
            axes.yaxis.set_major_locator(ticker.LogLocator(subs=subs))
            axes.yaxis.set_minor_locator(ticker.NullLocator())
            axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        else:
            low, high = axes.get_ylim()
            axes.set_ylim(min(0.0, low), high + 0.05 * (high - min(0.0, low)))  # no point on the edge
        axes.grid(axis="y", color=theme.faint, alpha=0.25, lw=0.6)
        figure.legend(loc="outside upper left", ncols=columns, frameon=False, fontsize=8)
    return png()


def saliency_grid(result: Saliency, theme: Theme) -> bytes:
    """Rows: states. Columns: newest frame, teacher (where known), every student. As PNG."""
    columns: list[tuple[str, npt.NDArray[np.float32] | None]] = [("newest frame", None)]
    columns += [("teacher", result.teacher)] if result.teacher is not None else []
    columns += list(result.students.items())
    rows = len(result.frames)
    cell = min(1.5, 9.6 / len(columns))
    width = cell * len(columns)
    titles = [wrapped(name, max(10, round(13 * cell))) for name, _ in columns]
    heading = 0.12 + 0.15 * max(title.count("\n") + 1 for title in titles)
    with drawing(theme, width, (cell + 0.19) * rows + heading, dpi=min(DPI, 1400 / width)) as (figure, png):
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.02, wspace=0, hspace=0))
        grid = figure.subplots(rows, len(columns), squeeze=False)
        for column, (name, maps) in enumerate(columns):
            grid[0, column].set_title(titles[column], fontsize=8.5, pad=5)
            for row in range(rows):
                axes: Axes = grid[row, column]
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
                shown = None if maps is None else maps[row]
                axes.imshow(_overlay(result.frames[row], shown), interpolation="nearest")
                axes.set_xlabel(_below(result, row, name, maps is None), fontsize=8, labelpad=2, color=theme.ink)
    return png(palette=True)


def _below(result: Saliency, row: int, name: str, is_frame: bool) -> str:
    if is_frame:
        return f"{result.actions[row]} {result.probabilities[row]:.2f}"
    if name in result.cosines:
        return f"cosine {result.cosines[name][row]:.2f}".replace("-", "−")
    return " "


def _overlay(frame: npt.NDArray[np.uint8], shown: npt.NDArray[np.float32] | None) -> npt.NDArray[np.uint8]:
    """A gray frame, uint8 RGB (84, 84, 3), under a map in colour, opaque where the map is strong."""
    gray = np.repeat(frame[..., None].astype(np.float64), 3, -1)
    if shown is not None:
        heat = np.asarray(mpl.colormaps["inferno"](0.25 + 0.7 * shown))[..., :3] * 255
        weight = np.clip(1.3 * shown, 0, 0.95)[..., None]
        gray = (1 - weight) * 0.75 * gray + weight * heat
    return gray.round().astype(np.uint8)


class _Png:
    """Renders a finished figure."""

    def __init__(self, figure: Figure, dpi: float) -> None:
        self._figure, self._dpi = figure, dpi
        self._bytes = b""

    def render(self) -> None:
        buffer = io.BytesIO()
        self._figure.savefig(buffer, format="png", dpi=self._dpi)
        self._bytes = buffer.getvalue()

    def __call__(self, *, palette: bool = False) -> bytes:
        """The PNG; with ``palette`` in at most 256 colours, fewer where it would be larger than ``MAX_BYTES``."""
        if not palette:
            return self._bytes
        picture = Image.open(io.BytesIO(self._bytes)).convert("RGB")
        for count in (256, 128, 64, 32):
            buffer = io.BytesIO()
            picture.quantize(count).save(buffer, "PNG", optimize=True)
            if buffer.tell() <= MAX_BYTES:
                break
        return buffer.getvalue()


@contextlib.contextmanager
def drawing(theme: Theme, width: float, height: float, dpi: float = DPI) -> Iterator[tuple[Figure, _Png]]:
    """A figure in the theme's colours, (width, height) in inches, rendered when the block ends."""
    style: dict[Any, Any] = {
        "font.size": 9, "text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False,
        "figure.facecolor": theme.background, "axes.facecolor": theme.background, "savefig.facecolor": theme.background,
        "text.color": theme.ink, "axes.labelcolor": theme.ink, "axes.edgecolor": theme.faint,
        "xtick.color": theme.faint, "ytick.color": theme.faint,
        "xtick.labelcolor": theme.ink, "ytick.labelcolor": theme.ink,
    }  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        png = _Png(figure, dpi)
        yield figure, png
        png.render()
