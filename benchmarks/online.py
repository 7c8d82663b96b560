"""Derivatives where states cost nothing: online students with and without them, at equal time.

    python benchmarks/online.py --games pong,space_invaders --seeds 1,2,3

``distill rounds`` for so many minutes: by the divergence alone, at two learning rates, and with fresh derivatives on a
quarter of each batch until half of the time. The students of a seed are trained one after the other, so keep the
machine's load steady; then they play whole games. A row for each goes to <out>/rows.csv, with what ``curve.csv`` says
of the way; those that are there are not made again, and the same command goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from players import distill, figures, parser_of  # first: it sets the process up, before PyTorch is imported

# isort: split

from distill.students.folder import load_student
from distill.sweep.grid import read_rows, write_rows

RATE = "--imitate.learning_rate"
DERIVATIVES = (
    "--rounds.derivatives=true", "--objective.jacobian_share=0.25", "--objective.jacobian_until=0.5",
    "--rounds.early_learning_rate=0.001", f"{RATE}=0.003",
)  # fmt: skip
ARMS = {"plain-0.003": (f"{RATE}=0.003",), "plain-0.001": (f"{RATE}=0.001",), "derivatives": DERIVATIVES}


def learn(args: argparse.Namespace, game: str, seed: int, arm: str) -> Path:
    """The run folder of a student."""
    folder: Path = args.out / f"{game}-{seed}-{arm}"
    distill("rounds", "--env", game, "--teacher", game, "--seed", str(seed), "--student.name", args.student,
            "--imitate.minutes", str(args.minutes), "--imitate.states=null", "--imitate.out", str(folder),
            "--device", args.device, *ARMS[arm])  # fmt: skip
    return folder


def on_the_way(folder: Path) -> Mapping[str, Any]:
    """States, and scores while learning, ``seconds:score``."""
    with (folder / "curve.csv").open() as file:
        points = list(csv.DictReader(file))
    way = " ".join(f"{float(point['seconds']):.0f}:{float(point['score']):g}" for point in points if point["score"])
    metrics = load_student(folder).training.metrics
    return {"states": points[-1]["states"], "val_kl": metrics["val_kl"], "way": way}


def rows_of(args: argparse.Namespace, game: str, seed: int) -> list[dict[str, str]]:
    """Rows of a seed's students: trained, and scored in the same whole games."""
    runs = {arm: learn(args, game, seed, arm) for arm in ARMS}
    rows = []
    for arm, found in zip(runs, figures(args.out / f"{game}-{seed}", args.played, game, runs), strict=True):
        cell = {"game": game, "seed": seed, "student": arm, "minutes": args.minutes, **on_the_way(runs[arm]), **found}
        rows.append({column: str(value) for column, value in cell.items()})
    return rows


def main() -> None:
    parser = parser_of(__doc__, "pong,space_invaders", "runs/bench/online")
    parser.add_argument("--minutes", type=float, default=4, help="of each training (%(default)s)")
    args = parser.parse_args()
    path = args.out / "rows.csv"
    rows = read_rows(path)
    done = {(row["game"], row["seed"]) for row in rows}
    for game in args.games.split(","):
        for seed in map(int, args.seeds.split(",")):
            if (game, str(seed)) not in done:
                rows += rows_of(args, game, seed)
                write_rows(path, rows)


if __name__ == "__main__":
    main()
