"""One student of several games against a student of each: the same data, steps a game, seeds and whole games.

    python benchmarks/several_games.py --data data --games pong,breakout,space_invaders --seeds 1,2,3

Data sets are <data>/<game>, of each game's bundled teacher. The student of several games takes as many steps of each
game as a student of one game takes. Rows go to <out>/rows.csv, one for every game, seed and student; those that are
there are not played again. The same command goes on where it was cut off.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from players import distill, figures, parser_of  # first: it sets the process up, before PyTorch is imported

# isort: split

from distill.sweep.grid import read_rows, write_rows

ONE, SEVERAL = "one", "several"
"""A student of one game, and one of several."""


def train(args: argparse.Namespace, seed: int, folder: Path) -> dict[str, Path]:
    """The run folder of every student: by game, and that of all games."""
    games = args.games.split(",")
    shared = ["--seed", str(seed), "--train.batch_size", str(args.batch_size), "--student.name", args.student,
              "--train.hold_data", "disk", "--device", args.device]  # fmt: skip
    for game in games:
        distill("train", "--env", game, "--teacher", game, f"--train.data={args.data / game}", "--train.steps",
                str(args.steps), "--train.out", str(folder / game), *shared)  # fmt: skip
    data = ",".join(str(args.data / game) for game in games)
    distill("multitask", f"--multitask.data=[{data}]", "--multitask.out", str(folder / SEVERAL), "--train.steps",
            str(args.steps * len(games)), *shared)  # fmt: skip
    return {game: folder / game for game in games} | {SEVERAL: folder / SEVERAL}


def main() -> None:
    parser = parser_of(__doc__, "pong,breakout,space_invaders", "runs/bench/several-games")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets (%(default)s)")
    parser.add_argument("--steps", type=int, default=6000, help="of each game (%(default)s)")
    parser.add_argument("--batch_size", type=int, default=64, help="(%(default)s)")
    args = parser.parse_args()
    path = args.out / "rows.csv"
    rows = read_rows(path)
    for seed in map(int, args.seeds.split(",")):
        folder = args.out / f"seed-{seed}"
        runs = train(args, seed, folder)
        for game in args.games.split(","):
            if any((row["game"], row["seed"]) == (game, str(seed)) for row in rows):
                continue
            students = {ONE: runs[game], SEVERAL: runs[SEVERAL] / game}
            for name, found in zip(students, figures(folder, args.played, game, students), strict=True):
                row = {"game": game, "seed": seed, "student": name, "steps": args.steps, **found}
                rows.append({column: str(value) for column, value in row.items()})
            write_rows(path, rows)


if __name__ == "__main__":
    main()
