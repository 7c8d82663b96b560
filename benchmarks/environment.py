"""How fast games are played with random actions: ours, EnvPool, and stable-baselines3's environments.

    make bench-peer   # once: EnvPool in an environment of its own
    python benchmarks/environment.py --out runs/bench/environment.json

Each in a process of its own, taking turns; the same game, lanes and steps, every side with as many threads as it
chooses. EnvPool (C++) takes the maximum of two frames already gray, as our preset ``sb3-fast`` does; ``sb3`` gives what
SB3's wrappers give, pixel by pixel. SB3 is ``make_atari_env`` with SubprocVecEnv and ``VecFrameStack``.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from pathlib import Path

from measure import Elsewhere, Row, interleaved, main, milliseconds

GAMES, LANES = ("pong", "breakout"), (8, 32)
GOALS = {"sb3": ">= 0.85", "sb3-fast": ">= 1"}
PYTHON = Path(sys.prefix) / "envpool" / "bin" / "python"
"""Where ``make bench-peer`` puts it."""


def compare(game: str, lanes: int, args: argparse.Namespace) -> list[Row]:
    """All sides in one game with so many lanes."""
    rounds, lane_steps = (1, 256) if args.quick else (9, 2_048)
    common = {"game": game, "lanes": lanes, "steps": lane_steps // lanes}
    ours = {"program": "environment", "device": args.device, **common}
    with contextlib.ExitStack() as stack:
        programs = {preset: stack.enter_context(Elsewhere(**ours, env=preset, tuned=True)) for preset in GOALS}
        programs["EnvPool"] = stack.enter_context(
            Elsewhere(script="envpool_peer.py", python=str(args.envpool), **common)
        )
        programs["SB3"] = stack.enter_context(Elsewhere(**ours, env="SubprocVecEnv"))
        seconds = interleaved(programs, rounds)
        cpu = {name: round(1e6 * program.result["cpu"] / lane_steps) for name, program in programs.items()}
    del cpu["SB3"]  # plays in other processes
    rates = {name: round(lane_steps / spent) for name, spent in seconds.items()}
    details = {"steps_per_second": rates, "ms": milliseconds(seconds), "cpu_us_per_step": cpu, "rounds": rounds}
    details["envpool"] = version(args)
    what = f"playing {game}, {lanes} lanes, preset "
    rows = [Row(what + p, "EnvPool", seconds["EnvPool"] / seconds[p], "x", goal, details) for p, goal in GOALS.items()]
    return [*rows, Row(what + "sb3", "SB3, SubprocVecEnv", seconds["SB3"] / seconds["sb3"], "x")]


def version(args: argparse.Namespace) -> str:
    """Of EnvPool."""
    code = "import importlib.metadata; print(importlib.metadata.version('envpool'))"
    return subprocess.run([str(args.envpool), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def measure(args: argparse.Namespace) -> list[Row]:
    args.envpool = PYTHON
    if not PYTHON.exists():
        sys.exit(f"{PYTHON} is missing: make bench-peer")
    return [row for game in GAMES for lanes in LANES for row in compare(game, lanes, args)]


if __name__ == "__main__":
    main(measure, __doc__ or "")
