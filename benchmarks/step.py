"""What a Sobolev step costs, against a plain KL step and against autograd's double backward.

    python benchmarks/step.py --out benchmarks/results/step.json

Every figure is a ratio of medians from one interleaved run (A B C A B C ...), so a machine whose
speed drifts does not change it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from distill.runtime import tune_process

tune_process()

import torch  # noqa: E402

from distill.losses.engine import Engine  # noqa: E402
from distill.losses.projection import sample  # noqa: E402
from distill.losses.sobolev import Objective, Targets, sobolev_loss  # noqa: E402
from distill.provenance import versions  # noqa: E402
from distill.students.nets import AtariCNN, net_spec, to_unit  # noqa: E402

ACTIONS = 6


def interleaved(programs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each program; every round runs all of them once."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for program in programs.values():
        program()
    for _ in range(rounds):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(student: str, batch: int, rounds: int) -> dict[str, object]:
    """Time one student at one batch size, K = 1, stored int8 targets."""
    generator = torch.Generator().manual_seed(0)
    net = AtariCNN(net_spec(student), ACTIONS)
    obs = torch.randint(0, 256, (batch, 4, 84, 84), generator=generator, dtype=torch.uint8)
    logits = torch.randn(batch, ACTIONS, generator=generator)
    codes = torch.randint(-127, 128, (batch, 1, 4, 84, 84), generator=generator).to(torch.int8)
    scale = 1e-4 * torch.rand(batch, 1, 4, 84, generator=generator)
    targets = Targets(sample("sphere", logits, 1, generator), codes, scale)
    engine, objective = Engine(net.path()), Objective()

    def autograd(weight: float) -> None:
        net.zero_grad()
        sobolev_loss(net, to_unit(obs), logits, targets, weight, objective).total.backward()

    def fast(weight: float) -> None:
        net.zero_grad()
        engine.step(obs, logits, targets, weight, objective)

    medians = interleaved(
        {
            "plain, autograd": lambda: autograd(0.0),
            "plain, engine": lambda: fast(0.0),
            "Sobolev, engine": lambda: fast(0.01),
            "Sobolev, autograd": lambda: autograd(0.01),
        },
        rounds,
    )
    plain = min(medians["plain, autograd"], medians["plain, engine"])
    return {
        "student": student,
        "batch": batch,
        "milliseconds": {name: round(1e3 * seconds, 2) for name, seconds in medians.items()},
        "sobolev_over_fastest_plain": round(medians["Sobolev, engine"] / plain, 2),
        "autograd_over_fastest_plain": round(medians["Sobolev, autograd"] / plain, 2),
        "autograd_over_engine": round(medians["Sobolev, autograd"] / medians["Sobolev, engine"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratios of one training step's cost")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=None, help="also write the results as JSON")
    args = parser.parse_args()
    rows = [measure(student, batch, args.rounds) for student in ("mnih2013", "nature") for batch in (64, 256)]
    print("| student | batch | Sobolev / plain | autograd / plain | autograd / Sobolev |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row['student']} | {row['batch']} | {row['sobolev_over_fastest_plain']} | "
              f"{row['autograd_over_fastest_plain']} | {row['autograd_over_engine']} |")  # fmt: skip
    if args.out is not None:
        record = {
            "command": f"python benchmarks/step.py --rounds {args.rounds}",
            "date": datetime.date.today().isoformat(),
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "rows": rows,
        }
        args.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
