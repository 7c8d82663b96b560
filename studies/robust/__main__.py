"""Which students are robust? Teacher, KL, Sobolev and defences under attacks: docs/robustness.md has the tables.

python -m studies.robust                      all of it: over an hour of one core; goes on where it was cut off
python -m studies.robust --parts record train   some parts; --seeds 1 for one seed, --games for other games than Pong
python -m studies.robust --parts tables       tables from the rows in the results folder
python -m studies.robust --quick              a small form in minutes: shows that it runs, no more
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from distill.api import UserError
from studies.common import arguments, start, write_tables
from studies.robust import plan, tables
from studies.robust.run import PARTS, finished, record, run_part

RESULTS = Path(__file__).parent / "results"
WHAT = {
    "record": "games of the teacher and of a first student",
    "train": "students of every kind",
    "attack": "attacks on recorded states",
    "play": "whole games, clean and under attack",
    "tables": "tables of what is there",
}


def main() -> None:
    """Run the parts that were asked for, seed after seed, so that what is there early can be compared."""
    args = arguments(__doc__ or "", RESULTS, _flags)
    scale = dataclasses.replace(plan.QUICK if args.quick else plan.FULL, device=args.device)
    for game in args.games:
        if "record" in args.parts:
            record(game, scale)
        for seed in args.seeds or scale.seeds:
            for part in PARTS:
                if part in args.parts:
                    run_part(part, game, seed, scale, args.out)
    if "tables" in args.parts:
        write(scale, args.out)


def write(scale: plan.Scale, out: Path) -> None:
    """Tables of all rows in the results folder.

    Raises:
        UserError: there are none.
    """
    sections = []
    for game in plan.GAMES:
        rows = {part: finished(part, game, scale, out) for part in PARTS}
        found = tables.sections(rows, game, scale)
        sections += [f"## {game.capitalize()}", *found] if found else []
    if not sections:
        raise UserError(f"{out} has no rows yet; run the parts record and train first")
    write_tables(out / "tables.md", "Robust students", sections)
    print(f"wrote {out}/tables.md")


def _flags(parser: argparse.ArgumentParser) -> None:
    listed = "; ".join(f"{name}: {what}" for name, what in WHAT.items())
    parser.add_argument("--parts", nargs="+", choices=WHAT, default=list(WHAT), metavar="PART", help=listed)
    games = ", ".join(plan.GAMES)
    parser.add_argument("--games", nargs="+", choices=plan.GAMES, default=["pong"], metavar="GAME", help=games)
    parser.add_argument("--seeds", nargs="+", type=int, help="by default all")
    parser.add_argument("--device", default="cpu", help="cpu or cuda: of teacher and students (%(default)s)")


if __name__ == "__main__":
    start(main)
