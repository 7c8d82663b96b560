"""What benchmarks of players share: the command, and scores of students beside their teacher."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import ENVIRONMENT  # first: it sets the process up, before PyTorch is imported


def distill(*words: str) -> None:
    """Run the command."""
    root = str(Path(__file__).parents[1])
    subprocess.run([sys.executable, "-m", "distill.cli", *words], check=True, env=ENVIRONMENT | {"PYTHONPATH": root})


def parser_of(description: str | None, games: str, out: str) -> argparse.ArgumentParser:
    """Flags that all of them have, with a benchmark's own default games and folder."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", default=games, help="(%(default)s)")
    parser.add_argument("--student", default="mnih2013", help="network (%(default)s)")
    parser.add_argument("--seeds", default="1,2,3", help="with commas between them (%(default)s)")
    parser.add_argument("--played", type=int, default=64, help="whole games of each student (%(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path(out), help="(%(default)s)")
    return parser


def figures(folder: Path, games: int, game: str, runs: dict[str, Path]) -> Iterator[dict[str, Any]]:
    """The scores of a game's students beside their teacher, in the same games: the end of each one's row."""
    agents = ",".join(["teacher", *(f"'{name}={run}'" for name, run in runs.items())])
    out = folder / f"scores-{game}"
    lanes = str(min(16, games))
    distill("evaluate", "--env", game, "--teacher", game, f"--evaluate.agents=[{agents}]", "--evaluate.games",
            str(games), "--evaluate.num_envs", lanes, "--evaluate.out", str(out))  # fmt: skip
    scores = json.loads((out / "scores.json").read_text())["agents"]
    for name in runs:
        mine, (low, high) = scores[name], scores[name]["ci95"]
        yield {"score": mine["mean"], "low": low, "high": high, "teacher": scores["teacher"]["mean"],
               "returns": " ".join(map(str, mine["returns"]))}  # fmt: skip
