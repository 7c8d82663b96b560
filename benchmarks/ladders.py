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
from scipy import stats

from distill.figures.statistics import t_interval
from distill.report.plots import LIGHT, MARKERS, PALETTE, drawing
from distill.sweep.grid import Row, read_rows
from distill.system.files import write_bytes

PUBLISHED = {"rusu-25": 108.3, "rusu-7": 101.7, "rusu-4": 83.9}
"""Per cent, mean over ten games, of Rusu et al. 2016 (Policy Distillation); random play is not taken off."""
MEAN = "mean"
MEAN_LOOK = {"color": LIGHT.ink, "marker": "*", "ms": 9, "lw": 2.2}
Interval = tuple[float, float, float]
"""Mean and the ends of its 95 % interval, in per cent."""
Shares = Mapping[str, list[float]]
"""Of a game: every network's, seed by seed, in per cent."""


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
        share = 100 * (float(row["score"]) - random) / (teacher - random)
        found.setdefault(row["network"], []).append(share)
    return found


def mean_of(games: Sequence[Shares], network: str) -> Interval:
    """The mean over the games."""
    seeds = [np.array(shares[network]) for shares in games]
    parts = np.array([each.var(ddof=1) / len(each) for each in seeds])
    freedom = parts.sum() ** 2 / sum(part**2 / (len(each) - 1) for part, each in zip(parts, seeds, strict=True))
    mean, half = float(np.mean([each.mean() for each in seeds])), math.sqrt(parts.sum()) / len(seeds)
    half *= float(stats.t.ppf(0.975, freedom))
    return mean, mean - half, mean + half


def lines_of(games: Mapping[str, Shares]) -> dict[str, list[Interval]]:
    """What is told of each game, and last of their mean: an interval for every network."""
    networks = list(next(iter(games.values())))
    each = {
        game.replace("_", " ").title(): [t_interval(shares[name]) for name in networks]
        for game, shares in games.items()
    }
    return each | {MEAN: [mean_of([*games.values()], name) for name in networks]}


def table(lines: Mapping[str, Sequence[Interval]], networks: Sequence[str]) -> str:
    """In Markdown: a line a network, in per cent."""
    rows = [["network", *lines, "95 % interval"], ["---", *["--:"] * (len(lines) + 1)]]
    for network, *found in zip(networks, *lines.values(), strict=True):
        _, low, high = found[-1]
        rows.append([f"`{network}`", *(f"{mean:.0f} %" for mean, _, _ in found), f"{low:.0f} .. {high:.0f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def picture(lines: Mapping[str, Sequence[Interval]], weights: Mapping[str, float]) -> bytes:
    """Shares over weights, as PNG."""
    with drawing(LIGHT, 8.4, 4.0) as (figure, png):
        axes = figure.subplots()
        axes.axhline(100, color=LIGHT.faint, lw=1)
        x = list(weights.values())
        looks = [{"color": colour, "marker": marker, "ms": 5, "lw": 1.2}
                 for colour, marker in zip(PALETTE, MARKERS, strict=True)]  # fmt: skip
        for (label, found), look in zip(lines.items(), looks, strict=False):
            shown = MEAN_LOOK if label == MEAN else look
            mean, low, high = np.array(found).T
            axes.errorbar(x, mean, yerr=[mean - low, high - mean], elinewidth=1, capsize=2, label=label, **shown)
        axes.plot([weights[name] for name in PUBLISHED], list(PUBLISHED.values()), ls="none", marker="x",
                  color=LIGHT.faint, label="Rusu et al. 2016, ten games")  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{name}\n{count / 1000:.0f},000" for name, count in weights.items()])
        axes.minorticks_off()
        axes.set_xlabel("student, and its weights (18 actions; teacher: 1,693,000)")
        axes.set_ylabel("share of the teacher's score\nabove random play, %")
        axes.grid(color=LIGHT.faint, alpha=0.25, lw=0.6)
        figure.legend(frameon=False, fontsize=8, loc="outside right center")
    return png()


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
    lines = lines_of(games)
    write_bytes(args.out, picture(lines, weights))
    print(table(lines, list(weights)))


if __name__ == "__main__":
    main()
