"""Ladders of several games in one picture and one table: the share of the teacher's score that small students keep.

    python benchmarks/ladders.py --games pong,breakout,space_invaders,seaquest --out docs/images/shrink.png

A game's rows are those of ``distill shrink`` (its ``rows.csv``), as ``<results>/shrink-<game>-layers.csv``. Scores of
its teacher and of random play are lines of ``<results>/references.csv``, and count as known. Share = (score - random) /
(teacher - random). Intervals are over seeds, by Student's t; the mean's adds the games' variances up, with Welch and
Satterthwaite's degrees of freedom.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from distill.figures.statistics import t_interval
from distill.report.plots import LIGHT, MARKERS, PALETTE, drawing
from distill.sweep.grid import Row, read_rows
from distill.system.files import write_bytes

PUBLISHED = {"rusu-25": 1.083, "rusu-7": 1.017, "rusu-4": 0.839}
"""Mean over ten games of their own, of Rusu et al. 2016 (Policy Distillation); random play is not taken off."""
Shares = Mapping[str, list[float]]
"""Of a game: every network's, seed by seed."""


def shares_of(game: str, results: Path) -> Shares:
    """Read a game's."""
    teacher, random = (
        float(row["score"])
        for agent in ("teacher", "random")
        for row in read_rows(results / "references.csv")
        if (row["game"], row["agent"]) == (game, agent)
    )
    found: dict[str, list[float]] = {}
    for row in _rows(game, results):
        found.setdefault(row["network"], []).append((float(row["score"]) - random) / (teacher - random))
    return found


def mean_of(games: Mapping[str, Shares], network: str) -> tuple[float, float, float]:
    """The mean over the games, in per cent, and the ends of its interval."""
    seeds = [100 * np.array(shares[network]) for shares in games.values()]
    parts = np.array([each.var(ddof=1) / len(each) for each in seeds])
    freedom = parts.sum() ** 2 / sum(part**2 / (len(each) - 1) for part, each in zip(parts, seeds, strict=True))
    mean, half = float(np.mean([each.mean() for each in seeds])), math.sqrt(parts.sum()) / len(seeds)
    half *= float(stats.t.ppf(0.975, freedom))
    return mean, mean - half, mean + half


def table(games: Mapping[str, Shares]) -> str:
    """In Markdown: a line a network, in per cent."""
    head = ["network", *map(title, games), "mean, 95 % interval"]
    lines = [head, ["---", *["--:"] * (len(head) - 1)]]
    for network in next(iter(games.values())):
        each = [f"{100 * sum(shares[network]) / len(shares[network]):.0f} %" for shares in games.values()]
        mean, low, high = mean_of(games, network)
        lines.append([f"`{network}`", *each, f"{mean:.0f} % ({low:.0f} .. {high:.0f})"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def picture(games: Mapping[str, Shares], weights: Mapping[str, float]) -> bytes:
    """Shares over weights, as PNG."""
    with drawing(LIGHT, 8.4, 4.0) as (figure, png):
        axes = figure.subplots()
        axes.axhline(100, color=LIGHT.faint, lw=1)
        x = list(weights.values())
        for index, (game, shares) in enumerate(games.items()):
            found = [t_interval([100 * share for share in shares[network]]) for network in weights]
            _line(axes, x, found, title(game), PALETTE[index], MARKERS[index])
        _line(axes, x, [mean_of(games, network) for network in weights], "mean", LIGHT.ink, "*", 2.2)
        axes.plot([weights[name] for name in PUBLISHED], [100 * share for share in PUBLISHED.values()], ls="none",
                  marker="x", color=LIGHT.faint, label="Rusu et al. 2016, ten games")  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{name}\n{count / 1000:.0f},000" for name, count in weights.items()])
        axes.minorticks_off()
        axes.set_xlabel("student, and its weights (18 actions; teacher: 1,693,000)")
        axes.set_ylabel("share of the teacher's score\nabove random play, %")
        axes.grid(color=LIGHT.faint, alpha=0.25, lw=0.6)
        figure.legend(frameon=False, fontsize=8, loc="outside right center")
    return png()


def _line(
    axes: Axes, x: list[float], found: Sequence[tuple[float, float, float]], label: str, colour: str, marker: str,
    width: float = 1.2,
) -> None:  # fmt: skip
    """Means with the ends of their intervals."""
    means = [mean for mean, _, _ in found]
    ends = [[mean - low for mean, low, _ in found], [high - mean for mean, _, high in found]]
    axes.errorbar(x, means, yerr=ends, color=colour, marker=marker, ms=9 if marker == "*" else 5, lw=width,
                  elinewidth=1, capsize=2, alpha=0.95, label=label)  # fmt: skip


def title(game: str) -> str:
    """As people read it."""
    return game.replace("_", " ").title()


def _rows(game: str, results: Path) -> list[Row]:
    return read_rows(results / f"shrink-{game}-layers.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", default="pong,breakout,space_invaders,seaquest", help="(%(default)s)")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/players"), help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/images/shrink.png"), help="(%(default)s)")
    args = parser.parse_args()
    names = args.games.split(",")
    games = {game: shares_of(game, args.results) for game in names}
    weights = {row["network"]: float(row["weights"]) for row in _rows(names[-1], args.results)}
    write_bytes(args.out, picture(games, weights))
    print(table(games))


if __name__ == "__main__":
    main()
