"""Do students that also match their teacher's derivatives come closer to it? The verdict: docs/paper.md.

python -m studies.atari                             all of it: hours on 2 cores; goes on where it was cut off
python -m studies.atari --games pong --parts grid   one part of one game; run several beside each other, one a core
python -m studies.atari --parts tables              tables and pictures from the rows in the results folder
python -m studies.atari --quick                     a small form in minutes: shows that it runs, no more
"""

from __future__ import annotations

import argparse
from pathlib import Path

from distill.api import DivergedError, UserError
from studies.atari import plan, tables
from studies.atari.choose import best_by_others, defaults, longer_than, own_best
from studies.atari.plots import headline, others
from studies.atari.run import finished, play, record, train_longer, train_part
from studies.common import arguments, start, write_tables

RESULTS = Path(__file__).parent / "results"
PARTS = {
    "record": "games of the teacher, for training and for testing",
    "grid": "both methods at every percentage",
    "longer": "plain distillation with Sobolev's time",
    "ablation": "what each setting does, in Pong",
    "much_data": "what helps where data is no longer scarce, in Pong",
    "play": "whole games of teacher and students",
    "tables": "tables and pictures of what is there",
}


def main() -> None:
    """Run the parts that were asked for, then write the tables."""
    args = arguments(__doc__ or "", RESULTS, _flags)
    scale = plan.QUICK if args.quick else plan.FULL
    diverged = []
    for part in args.parts:
        for game in args.games:
            if part not in plan.ABLATIONS or game == plan.GAMES[0]:
                try:
                    run_part(part, game, scale, args.out)
                except DivergedError as error:
                    diverged.append(f"{part} of {game}: {error}")
    if "tables" in args.parts:
        write(scale, args.out)
    if diverged:
        raise DivergedError("; ".join(diverged))


def run_part(part: str, game: str, scale: plan.Scale, out: Path) -> None:
    """One part of one game."""
    if part == "record":
        for recording in plan.recordings(scale, game):
            record(game, recording, scale)
    elif part == "grid":
        train_part(part, game, plan.grid(scale, game), scale)
    elif part == "longer":
        train_longer(game, scale, out)
    elif part in plan.ABLATIONS:
        train_part(part, game, plan.ablated(part, scale, game), scale)
    elif part == "play":
        play(game, scale, out)


def write(scale: plan.Scale, out: Path) -> None:
    """Tables and pictures of all rows in the results folder; a game without rows is left out."""
    rows = {
        part: {game: finished(part, game, scale, out) for game in plan.GAMES}
        for part in ("grid", "longer", "play", *plan.ABLATIONS)
    }
    grids = {game: own_best(found) for game, found in rows["grid"].items() if found}
    if not grids:
        raise UserError(f"{out} has no rows of the grid yet; run that part first")
    sections = []
    for game, grid in grids.items():
        sections += [f"## {tables.TITLES[game]}", *tables.comparison(grid, scale), tables.cosines(grid, scale)]
        sections += ["### Both with the default learning rate, 0.001"]
        sections += tables.comparison(defaults(rows["grid"][game]), scale)[:2]
        sections += ["### Every seed with the settings that the other seeds chose"]
        sections += tables.comparison(best_by_others(rows["grid"][game]), scale)[:2]
        sections += ["### Perturbed pixels: disagreement with the teacher at clean ones, %"]
        sections += [f"Clean: on {scale.tested:,} test states; the others: on {scale.perturbed:,}, drawn apart."]
        sections += [tables.perturbed(grid, scale)]
        if rows["longer"][game]:
            sections += ["### Plain distillation with Sobolev's time"]
            sections += [tables.wall_clock(grid, longer_than(grid, rows["longer"][game]), scale)]
        if rows["play"][game]:
            agents = {"teacher", *(row["run"] for row in grid)}
            played = [row for row in rows["play"][game] if row["agent"] in agents]
            sections += ["### Whole games, points", tables.scores(played, scale)]
    game = plan.GAMES[0]
    for part, questions in plan.ABLATIONS.items():
        if rows[part][game]:
            title = PARTS[part][0].upper() + PARTS[part][1:]
            sections += [f"## {title}", *tables.ablated(rows[part][game], questions(scale, game))]
    write_tables(out / "tables.md", "Policy distillation on Atari", sections)
    headline(out / "headline.png", grids, scale)
    others(out / "others.png", grids, scale)
    print(f"wrote {out}/tables.md, headline.png and others.png")


def _flags(parser: argparse.ArgumentParser) -> None:
    listed = "; ".join(f"{name}: {what}" for name, what in PARTS.items())
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=listed)
    games = ", ".join(plan.GAMES)
    parser.add_argument("--games", nargs="+", choices=plan.GAMES, default=list(plan.GAMES), metavar="GAME", help=games)


if __name__ == "__main__":
    start(main)
