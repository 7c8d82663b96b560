"""Timing two programs fairly, and the shape of a result."""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distill.runtime import tune_process

tune_process()

import torch  # noqa: E402

from distill.provenance import command_line, versions  # noqa: E402


@dataclass
class Row:
    """One line of the table."""

    stage: str
    """What was measured."""
    against: str
    """The peer or the bound."""
    value: float
    unit: str
    """``x`` (a ratio), ``%``, ``s`` or ``MB``."""
    goal: str = ""
    """``>= 3`` or ``<= 2.3``; empty for what is told and not aimed at."""
    details: dict[str, Any] = field(default_factory=dict)
    """Medians and sizes behind the value."""

    @property
    def reached(self) -> bool | None:
        """The goal is met; None without one."""
        if not self.goal:
            return None
        sign, number = self.goal.split()
        return self.value >= float(number) if sign == ">=" else self.value <= float(number)


def interleaved(
    programs: dict[str, Callable[[], object]], rounds: int, *, warmups: int = 1, synchronize: bool = False
) -> dict[str, float]:
    """Median seconds of each program; every round runs all of them once (A B C A B C ...)."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(warmups + rounds):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            if synchronize:
                torch.cuda.synchronize()
            if number >= warmups:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def milliseconds(medians: dict[str, float]) -> dict[str, float]:
    """The same in milliseconds, rounded for people."""
    return {name: round(1e3 * seconds, 3) for name, seconds in medians.items()}


def main(measure: Callable[[argparse.Namespace], Sequence[Row]], description: str) -> None:
    """Command line of one program: ``--device``, ``--quick`` (a smoke run) and ``--out``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="few and small repetitions: shows that it runs, no more")
    parser.add_argument("--out", type=Path, default=None, help="write the results as JSON")
    args = parser.parse_args()
    rows = measure(args)
    print(table([asdict(row) | {"reached": row.reached} for row in rows]))
    if args.out is not None:
        record = {
            "command": command_line(),
            "date": datetime.date.today().isoformat(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
            "quick": args.quick,
            "versions": versions(),
            "rows": [asdict(row) | {"reached": row.reached} for row in rows],
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=2) + "\n")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown table of rows as ``main`` writes them."""
    lines = ["| stage | against | measured | goal | reached |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        unit = {"x": "x", "%": " %"}.get(row["unit"], " " + row["unit"])
        goal = row["goal"] + unit if row["goal"] else ""
        reached = {True: "yes", False: "**no**", None: ""}[row["reached"]]
        lines.append(f"| {row['stage']} | {row['against']} | {row['value']:.2f}{unit} | {goal} | {reached} |")
    return "\n".join(lines)
