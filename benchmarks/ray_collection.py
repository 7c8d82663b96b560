"""What Ray costs a collection: writers on Ray's workers against one process, on the same cores.

    python benchmarks/ray_collection.py --out runs/bench/ray_collection.json
    python benchmarks/ray_collection.py --workers 2,4

Pong with the bundled teacher, 8 games in a process, one derivative a state. Everything takes turns: one process, then
1, 2, 4 and 8 workers of a cluster on this machine. Every process records as many states, so that what it takes to get
going weighs the same. One process has a PyTorch thread for each core, unless ``OMP_NUM_THREADS`` says otherwise, and a
worker has one. Two figures:

* States per second of wall-clock, from the first step to the last commit (``Summary.wall``); workers are started
  before. On a busy machine two processes get more of the cores than one, and this says nothing.
* Processor seconds per state (``Summary.cpu``), which others' load hardly moves: what a state costs, whoever records
  it. Of Ray only what runs in the workers is in it.
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

Found = dict[int, list[float]]


def turn(each: int, folder: Path, device: str, workers: int) -> tuple[float, float]:
    """States per second and processor seconds a state of a collection into a new folder; 0 workers: this process.

    ``each``: states that a process records.
    """
    states = each * max(1, workers)
    settings = CollectConfig(out=str(folder), states=states, shard_states=512)
    if workers:
        on_ray = {"workers": "ray", "num_workers": workers}
        settings = CollectConfig(out=str(folder), states=states, shard_states=512, **on_ray)  # type: ignore[arg-type]
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bar and table
        summary = collect(Config(env="pong", teacher="pong-ppo", device=device, collect=settings))
    assert summary.added == states
    shutil.rmtree(folder)
    return summary.added / summary.wall, summary.cpu / summary.added


def over_alone(found: Found, workers: int) -> float:
    """Median over turns of a figure's ratio to that of one process in the same turn."""
    return statistics.median(mine / alone for mine, alone in zip(found[workers], found[0], strict=True))


def measure(args: argparse.Namespace) -> list[Row]:
    rounds, each = (1, 512) if args.quick else (3, 8_192)
    rates: Found = defaultdict(list)
    costs: Found = defaultdict(list)
    numbers = [int(number) for number in args.workers.split(",")]
    with tempfile.TemporaryDirectory() as scratch, cluster("ray_collection", None, max(numbers)):
        for number in range(1 + rounds):
            for workers in (0, *numbers):
                rate, cost = turn(each if number else 512, Path(scratch) / "data", args.device, workers)
                if number:  # the first round warms up
                    rates[workers].append(rate)
                    costs[workers].append(cost)
    details: dict[str, object] = {
        "states_per_second": {workers: [round(value) for value in values] for workers, values in rates.items()},
        "cpu_ms_per_state": {workers: [round(1e3 * v, 3) for v in values] for workers, values in costs.items()},
        "states_of_each": each, "rounds": rounds, "cores": os.cpu_count(),
    }  # fmt: skip
    rows = []
    for workers in numbers:
        what, two = f"collection, {workers} Ray worker{'s' if workers > 1 else ''}", workers == 2
        goal, told = (">= 0.9", details) if two else ("", {})
        rows.append(Row(what, "one process, states/s, the same cores", over_alone(rates, workers), "x", goal, told))
        rows.append(Row(what, "one process, CPU seconds a state", over_alone(costs, workers), "x", "<= 1.1"))
    return rows


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", default="1,2,4,8", help="numbers of workers, with commas between (%(default)s)")


if __name__ == "__main__":
    main(measure, __doc__ or "", _flags)
