"""Do students that also match their teacher's derivatives come closer to it? The verdict: docs/paper.md.

python -m studies.atari                             all of it: hours on 2 cores; goes on where it was cut off
python -m studies.atari --games pong --parts grid   one part of one game; run several beside each other, one a core
python -m studies.atari --parts tables              tables and pictures from the rows in the results folder
python -m studies.atari --quick                     a small form in minutes: shows that it runs, no more
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from distill.api import DivergedError, UserError
from distill.sweep.grid import Row
from studies.atari import plan, tables
from studies.atari.ablation import ablated, ideas_table
from studies.atari.choose import METHODS, best_by_others, by_auto, method, own_best, scored
from studies.atari.ideas.run import train_ideas
from studies.atari.layers import layers_table
from studies.atari.plots import headline, others
from studies.atari.ratios import ended_alone
from studies.atari.run import finished, play, record, score, train_layers, train_part, train_same_steps, with_tests
from studies.common import arguments, start, write_tables

RESULTS = Path(__file__).parent / "results"
PARTS = {
    "record": "games of the teacher, for training and for testing",
    "grid": "all methods at every percentage, at equal cost",
    "steps": "Sobolev with as many steps as plain distillation",
    "test": "figures on test games of the settings that validation games chose",
    "ablation": "what each setting does, on validation games of Pong and Breakout",
    "ideas": "what else might help, on validation games of Pong and Breakout",
    "layers": "students on their teacher's first layer, on test games",
    "play": "whole games of teacher and students",
    "tables": "tables and pictures of what is there",
}


def main() -> None:
    """Run the parts that were asked for, then write the tables."""
    args = arguments(__doc__ or "", RESULTS, _flags)
    scale = dataclasses.replace(plan.QUICK if args.quick else plan.FULL, device=args.device)
    diverged = []
    for part in args.parts:
        for game in args.games:
            if part not in ("ablation", "ideas") or game in plan.ABLATED:
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
    elif part == "steps":
        train_same_steps(game, scale, out)
    elif part == "test":
        score(game, scale, out)
    elif part == "ablation":
        train_part(part, game, plan.ablated(scale), scale)
    elif part == "ideas":
        train_ideas(game, scale)
        finished(part, game, scale, out)
    elif part == "layers":
        train_layers(game, scale)
        finished("tested-layers", game, scale, out)
    elif part == "play":
        play(game, scale, out)


def write(scale: plan.Scale, out: Path) -> None:
    """Tables and pictures of all rows in the results folder; a game without tested rows is left out."""
    found = {game: with_tests("grid", game, scale, out) for game in plan.GAMES}
    grids = {game: rows for game, rows in found.items() if scored(rows)}
    if not grids:
        raise UserError(f"{out} has no rows of the grid that were tested yet; run the parts grid and test first")
    best = {game: scored(own_best(rows)) for game, rows in grids.items()}
    columns = {}
    for game, rows in best.items():
        columns[tables.TITLES[game]] = rows
        if ended := ended_alone(rows):
            columns[f"{tables.TITLES[game]}, games that ended"] = ended
    sections = ["## All games", *tables.headline(columns, scale)]
    for game, rows in grids.items():
        sections += [f"## {tables.TITLES[game]}", *_game(game, rows, scale, out)]
    sections += ["## Test games against validation games", "Every student that was tested, whatever its settings."]
    sections += [tables.against_validation({game: scored(rows) for game, rows in grids.items()})]
    for game in plan.ABLATED:
        rows = finished("ablation", game, scale, out)
        if rows:
            sections += [f"## What each setting does: {tables.TITLES[game]}, a tenth of the data, validation games"]
            sections += ablated(rows, plan.questions(scale))
        rows = finished("ideas", game, scale, out)
        if rows:
            sections += [f"## Ideas on top: {tables.TITLES[game]}, a tenth of the data, validation games, last weights"]
            sections += [ideas_table(rows)]
    write_tables(out / "tables.md", "Policy distillation on Atari", sections)
    headline(out / "headline.png", columns, scale)
    others(out / "others.png", {tables.TITLES[game]: rows for game, rows in best.items()}, scale)
    print(f"wrote {out}/tables.md, headline.png and others.png")


def _game(game: str, rows: Sequence[Row], scale: plan.Scale, out: Path) -> list[str]:
    """A game's tables."""
    best = scored(own_best(rows))
    sections = [tables.set_of_test(best), *tables.comparison(best, scale), tables.cosines(best, scale)]
    if ended := ended_alone(best):
        sections += ["### Without the games that the frame limit ended", tables.set_of_test(ended)]
        sections += tables.comparison(ended, scale)
    sections += ["### What validation games chose", tables.choices(best, scale)]
    for title, part in {
        "Both with what `auto` stands for": by_auto(rows),
        "Every seed with the settings that the other seeds chose": best_by_others(rows),
    }.items():
        sections += [f"### {title}", *tables.comparison(scored(part), scale)[:2]]
        if ended := ended_alone(scored(part)):
            sections += ["Without the games that the frame limit ended:", *tables.comparison(ended, scale)[:2]]
    plain = [row for row in best if method(row) == METHODS[0]]
    sections += ["### Sobolev to the end of the training, at equal cost"]
    sections += tables.comparison(best, scale, METHODS[2])[:2]
    steps = scored(with_tests("steps", game, scale, out))
    if steps:
        sections += ["### At equal steps", *tables.comparison([*plain, *steps], scale)[:2]]
    sections += ["### Perturbed pixels: disagreement with the teacher at clean ones, %"]
    sections += [f"Clean: on the states named above; the others: on {scale.perturbed:,} of them."]
    sections += [tables.perturbed(best, scale)]
    if layers := finished("tested-layers", game, scale, out):
        sections += ["### On the teacher's first layer", layers_table(layers, scale)]
        if ended := ended_alone(layers):
            sections += ["Without the games that the frame limit ended:", layers_table(ended, scale)]
    agents = {"teacher", *(row["run"] for row in best)}
    played = [row for row in finished("play", game, scale, out) if row["agent"] in agents]
    return sections + (["### Whole games, points", tables.scores(played, scale)] if played else [])


def _flags(parser: argparse.ArgumentParser) -> None:
    listed = "; ".join(f"{name}: {what}" for name, what in PARTS.items())
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=listed)
    games = ", ".join(plan.GAMES)
    parser.add_argument("--games", nargs="+", choices=plan.GAMES, default=list(plan.GAMES), metavar="GAME", help=games)
    parser.add_argument("--device", default="cpu", help="cpu or cuda: of teacher and students (%(default)s)")


if __name__ == "__main__":
    start(main)
