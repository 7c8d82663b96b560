"""What Ray costs a collection: writers on Ray's workers against one process, on the same cores.

    python benchmarks/ray_collection.py --out runs/bench/ray_collection.json

States per second on Pong with the bundled teacher, 8 games in a process, one derivative a state. Everything takes
turns: one process, then 2, 4 and 8 workers of a cluster on this machine, each into a new dataset of as many states. The
clock runs from the first step to the last commit (``Summary.wall``); workers are started before.

More workers than cores cannot be faster: what 4 and 8 show is what a further worker costs, per state and core.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from measure import Row, main  # first: it sets the process up, before PyTorch is imported

# isort: split

from distill.collect.settings import CollectConfig
from distill.config.config import Config
from distill.config.stages import collect
from distill.system.ray_cluster import cluster

WORKERS = (1, 2, 4, 8)


def rate(states: int, folder: Path, device: str, workers: int) -> float:
    """States per second of one collection into a new folder; ``workers`` 0 is this process."""
    settings = CollectConfig(out=str(folder), states=states)
    if workers:
        settings = CollectConfig(out=str(folder), states=states, workers="ray", num_workers=workers)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bar and table
        summary = collect(Config(env="pong", teacher="pong-ppo", device=device, collect=settings))
    assert summary.added == states
    shutil.rmtree(folder)
    return summary.added / summary.wall


def measure(args: argparse.Namespace) -> list[Row]:
    rounds, states = (1, 2_048) if args.quick else (5, 32_768)
    found: dict[int, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch, cluster("ray_collection", None, max(WORKERS)):
        for number in range(1 + rounds):
            for workers in (0, *WORKERS):
                one = rate(states if number else states // 8, Path(scratch) / "data", args.device, workers)
                if number:  # the first round warms up
                    found[workers].append(one)
    rates = {workers: statistics.median(values) for workers, values in found.items()}
    ratios = {
        workers: statistics.median(mine / alone for mine, alone in zip(values, found[0], strict=True))
        for workers, values in found.items()
    }
    details: dict[str, object] = {
        "states_per_second": {workers: round(value) for workers, value in rates.items()},
        "turns": {workers: [round(value) for value in values] for workers, values in found.items()},
        "states": states, "rounds": rounds, "cores": os.cpu_count(),
    }  # fmt: skip
    return [
        Row(f"collection, {workers} Ray workers", "one process, the same cores", ratios[workers], "x",
            ">= 0.9" if workers == 2 else "", details if workers == 2 else {})
        for workers in WORKERS
    ]  # fmt: skip


if __name__ == "__main__":
    main(measure, __doc__ or "")
