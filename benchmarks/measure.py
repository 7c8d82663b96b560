"""Timing two programs fairly, and the shape of a result."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distill.system.runtime import tune_process

ENVIRONMENT = dict(os.environ)
"""Before ``tune_process``: what a process of a user's own would start with."""
tune_process()

import torch  # noqa: E402

from distill.system.provenance import command_line, versions  # noqa: E402


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


class Elsewhere:
    """A program of ``peer.py`` in a process of its own.

    Args:
        script: another file of programs that keeps to its protocol.
        python: the Python that runs it.
        setup: ``program`` and its arguments; ``tuned=True`` gives the process the settings that ``distill`` sets.
    """

    def __init__(self, *, script: str = "peer.py", python: str = sys.executable, **setup: Any) -> None:
        command = [python, str(Path(__file__).with_name(script)), json.dumps(setup)]
        self.result: Any = None
        """What the last call returned."""
        self._process = subprocess.Popen(
            command,
            env=dict(os.environ) if setup.get("tuned") else ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def turn(self, calls: int) -> float:
        """Seconds of so many calls; where there are several, one more comes first and is not timed.

        What is repeated finds its own data in the caches, not another program's.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{calls}\n")
        stdin.flush()
        seconds, self.result = json.loads(stdout.readline())
        return float(seconds)

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate()


@dataclass
class Here:
    """A program in this process."""

    program: Callable[[], object]
    synchronize: bool = False
    """Wait for the GPU before the clock is read."""

    def turn(self, calls: int) -> float:
        """As ``Elsewhere.turn``."""
        if calls > 1:
            self.program()
        self._wait()
        start = time.perf_counter()
        for _ in range(calls):
            self.program()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.synchronize:
            torch.cuda.synchronize()


def interleaved(
    programs: Mapping[str, Callable[[], object] | Elsewhere], rounds: int, *, calls: int = 1, synchronize: bool = False
) -> dict[str, float]:
    """Median seconds of a call of each program; every round gives each a turn (A B C A B C ...).

    Args:
        programs: what to time, by name.
        rounds: turns of each that count, after one that does not.
        calls: of a turn.
        synchronize: wait for the GPU before the clock is read.
    """
    turns = {name: p if isinstance(p, Elsewhere) else Here(p, synchronize) for name, p in programs.items()}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(1 + rounds):
        for name, program in turns.items():
            seconds = program.turn(calls) / calls
            if number:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def processor() -> str:
    """Model of the CPU, and the widest vectors that PyTorch uses on it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()} ({torch.backends.cpu.get_cpu_capability()})"


def milliseconds(medians: dict[str, float]) -> dict[str, float]:
    """The same in milliseconds, rounded for people."""
    return {name: round(1e3 * seconds, 3) for name, seconds in medians.items()}


def main(
    measure: Callable[[argparse.Namespace], Sequence[Row]],
    description: str,
    flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> None:
    """Command line of one program: ``--device``, ``--quick`` (a smoke run), ``--out`` and its own ``flags``."""
    parser = argparse.ArgumentParser(description=description)
    flags(parser)
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
            "load_average": [round(load, 1) for load in os.getloadavg()],  # above the cores: others computed meanwhile
            "device": torch.cuda.get_device_name() if args.device == "cuda" else processor(),
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
