"""Population based training against random search and the defaults, at equal total steps. The verdict: docs/scale.md.

python -m studies.population           all of it, over an hour of one core; goes on where it was cut off
python -m studies.population --quick   the same in minutes: shows that it runs, no more
python -m studies.population --games pong   one game
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from distill.sweep.grid import Row
from studies.common import arguments, markdown, ratio_interval, start, write_tables
from studies.population.run import DEFAULT, FULL, METHODS, QUICK, RANDOM, Scale, run

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Train, then write rows and tables."""
    args = arguments(__doc__ or "", RESULTS, _flags)
    scale = QUICK if args.quick else FULL
    scale = dataclasses.replace(scale, games=args.games or scale.games)
    rows = run(scale, args.out / "rows.csv")
    sections = [_about(scale)]
    for game in scale.games:
        mine = [row for row in rows if row["game"] == game]
        sections += [f"## {game}", table(mine, "val_kl"), table(mine, "test_kl")]
    if len(scale.games) > 1:
        sections += ["## All games", table(rows, "val_kl"), table(rows, "test_kl")]
    write_tables(args.out / "tables.md", "Population based training and random search", sections)
    print(f"wrote {args.out}/tables.md")


def table(rows: Sequence[Row], figure: str) -> str:
    """A figure of each method, and its ratio to random search and to the default, paired by game and seed."""
    others = (RANDOM, DEFAULT)
    found = {method: _column(rows, method, figure) for method in METHODS}
    lines = []
    for method, mine in found.items():
        ratios = ["" if other == method else ratio_interval(mine, found[other]).text() for other in others]
        lines.append([method, f"{stats.gmean(mine):.4f}", *ratios])
    return markdown([figure.replace("_kl", " KL"), "geometric mean", *(f"to {other}" for other in others)], lines)


def _column(rows: Sequence[Row], method: str, figure: str) -> list[float]:
    found = sorted((row["game"], int(row["seed"]), float(row[figure])) for row in rows if row["method"] == method)
    return [value for _, _, value in found]


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--games", nargs="+", choices=FULL.games, metavar="GAME", help="by default all")


def _about(scale: Scale) -> str:
    return (
        f"{scale.members} members of {scale.steps:,} steps of 32 states each, in rounds of {scale.interval}; "
        f"{scale.states:,} states to learn from; seeds {', '.join(map(str, scale.seeds))}. A search keeps the student "
        "with the lowest val KL, and the default its best validation. Test KL is of whole games of another recording."
    )


if __name__ == "__main__":
    start(main)
