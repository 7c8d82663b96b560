"""How long the command line takes to answer.

    python benchmarks/startup.py --out runs/bench/startup.json

Whole processes, from start to exit, in turns; medians. The first turn, which may have to read the libraries from
disk, does not count.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from measure import ENVIRONMENT, Row, interleaved, main

GOALS = {"--help": "<= 1", "info pong": "<= 3"}


def run(words: str) -> None:
    """Run the installed command."""
    program = Path(sys.executable).with_name("distill")
    subprocess.run([program, *words.split()], check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)


def measure(args: argparse.Namespace) -> list[Row]:
    programs: dict[str, Callable[[], object]] = {words: functools.partial(run, words) for words in GOALS}
    medians = interleaved(programs, 2 if args.quick else 7)
    return [Row(f"start-up, distill {words}", "the clock", medians[words], "s", goal) for words, goal in GOALS.items()]


if __name__ == "__main__":
    main(measure, __doc__ or "")
