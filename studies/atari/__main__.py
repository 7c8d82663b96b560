"""Do students that also match their teacher's derivatives come closer to it? The verdict: docs/paper.md.

python -m studies.atari                             all of it: hours on 2 cores; goes on where it was cut off
python -m studies.atari --games pong --parts grid   one part of one game; run several beside each other, one a core
python -m studies.atari --parts tables              tables and pictures from the rows in the results folder
python -m studies.atari --quick                     a small form in minutes: shows that it runs, no more
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.api import DivergedError, UserError
from distill.sweep.grid import Row
from studies.atari import plan, tables
from studies.atari.choose import best_by_others, defaults, faster, longer_than, own_best
from studies.atari.plots import headline, others
from studies.atari.ratios import of_one_test
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
    parts = {game: _parts(game, scale, out) for game in plan.GAMES}
    grids = {game: own_best(rows["grid"]) for game, rows in parts.items() if rows["grid"]}
    if not grids:
        raise UserError(f"{out} has no rows of the grid yet; run that part first")
    sections = []
    for game, grid in grids.items():
        sections += [f"## {tables.TITLES[game]}", *_game(grid, parts[game], scale)]
    sections += ["## Test games against validation games"]
    sections += ["Every student of the grid, whatever its settings."]
    sections += [tables.against_validation({game: parts[game]["grid"] for game in grids})]
    game = plan.GAMES[0]
    for part, questions in plan.ABLATIONS.items():
        if parts[game][part]:
            title = PARTS[part][0].upper() + PARTS[part][1:]
            sections += [f"## {title}", *tables.ablated(parts[game][part], questions(scale, game))]
    write_tables(out / "tables.md", "Policy distillation on Atari", sections)
    headline(out / "headline.png", grids, scale)
    others(out / "others.png", grids, scale)
    print(f"wrote {out}/tables.md, headline.png and others.png")


def _parts(game: str, scale: plan.Scale, out: Path) -> dict[str, list[Row]]:
    """A game's rows by part, of students that were tested on the same states."""
    names = ("grid", "longer", "play", *plan.ABLATIONS)
    parts, left_out = of_one_test({part: finished(part, game, scale, out) for part in names})
    if left_out:
        print(f"{game}: {left_out} students were tested on other states than the newest, and are not in the tables")
    return parts


def _game(grid: Sequence[Row], parts: Mapping[str, Sequence[Row]], scale: plan.Scale) -> list[str]:
    """A game's tables: ``grid`` has each method's best rows, ``parts`` all."""
    sections = [tables.set_of_test(grid), *tables.comparison(grid, scale), tables.cosines(grid, scale)]
    for title, rows in {
        "Both with the default learning rate, 0.001": defaults(parts["grid"]),
        "Both with learning rate 0.003": faster(parts["grid"]),
        "Every seed with the settings that the other seeds chose": best_by_others(parts["grid"]),
    }.items():
        sections += [f"### {title}", *tables.comparison(rows, scale)[:2]]
    sections += ["### Perturbed pixels: disagreement with the teacher at clean ones, %"]
    sections += [f"Clean: on the states named above; the others: on {scale.perturbed:,}, drawn apart."]
    sections += [tables.perturbed(grid, scale)]
    if parts["longer"]:
        sections += ["### Plain distillation with Sobolev's time"]
        sections += [tables.wall_clock(grid, longer_than(grid, parts["longer"]), scale)]
    if parts["play"]:
        agents = {"teacher", *(row["run"] for row in grid)}
        played = [row for row in parts["play"] if row["agent"] in agents]
        sections += ["### Whole games, points", tables.scores(played, scale)]
    return sections


def _flags(parser: argparse.ArgumentParser) -> None:
    listed = "; ".join(f"{name}: {what}" for name, what in PARTS.items())
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=listed)
    games = ", ".join(plan.GAMES)
    parser.add_argument("--games", nargs="+", choices=plan.GAMES, default=list(plan.GAMES), metavar="GAME", help=games)


if __name__ == "__main__":
    start(main)
