"""Ten million states: opening, step time and memory of a training, against 100,000 states.

    python benchmarks/scale.py --out runs/bench/scale.json

Processes of their own, one for each size, open the data as ``distill train --train.window_shards=16`` does and take
Sobolev steps of a small student, by turns; a turn crosses a window. Memory is what a process holds in the end, mapped
files included. States are 16,384 real ones of Pong many times over: rewards and first actions differ from copy to copy,
so that shards and games are different ones; derivatives, of a sixteenth of the states, are hard links. Ten million
states take 2 GB of disk and are deleted afterwards.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Row, main  # first: it sets the process up, before PyTorch is imported

# isort: split

import torch
from data import collected, tiled

from distill.config.config import Config
from distill.config.validate import validated
from distill.losses.settings import ObjectiveConfig
from distill.networks.settings import StudentConfig
from distill.system.device import pick_device
from distill.train.lesson import Lesson
from distill.train.settings import TrainConfig
from distill.train.setup import make_student, open_data, scale_of

SHARD, SHARDS = 4_096, 4
WINDOW, STEPS = 16, 600
"""Shards of a window, and steps of a turn: more than a window has."""


def settings(folder: str) -> Config:
    """Of a small student's training."""
    train = TrainConfig(data=folder, steps=10**6, batch_size=64, window_shards=WINDOW, verify=False)
    objective = ObjectiveConfig(jacobian_weight=0.01, jacobian_schedule="constant", jacobian_until=1.0)
    return validated(Config(env="pong", device="cpu", seed=1, student=StudentConfig(name="mnih2013"), train=train,
                            objective=objective))  # fmt: skip


def trainer(folder: str) -> None:
    """Open the data; for each line of standard input train for a turn. Seconds and megabytes, as JSON."""
    config, device = settings(folder), pick_device("cpu")
    started = time.perf_counter()
    data = open_data(config, device)
    opened = time.perf_counter() - started
    lesson = Lesson(config, make_student(config, data.dataset), data, scale_of(config, data))
    first = time.perf_counter() - started - opened
    optimizer = torch.optim.AdamW(lesson.net.parameters(), lr=1e-3, fused=True)
    stream = enumerate(lesson.batches(0, 10**6, 10**6))
    tell(opened=opened, scale=first)
    for _ in sys.stdin:
        clock = time.process_time()
        for step, batch in itertools.islice(stream, STEPS):
            optimizer.zero_grad()
            lesson.gradient(batch, lesson.weights(step, 10**6))
            optimizer.step()
        tell(step=(time.process_time() - clock) / STEPS, **held())


def tell(**found: float) -> None:
    print(json.dumps(found), flush=True)


def held() -> dict[str, int]:
    """Bytes that this process holds, mapped files included, and held at most."""
    status = Path("/proc/self/status").read_text()
    found = {name: re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM")}
    return {name: 1024 * int(match[1]) for name, match in found.items() if match}


class Trainer:
    """A trainer in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, __file__, "--trainer", str(folder)]
        started = time.perf_counter()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened = self._answer()
        self.seconds = time.perf_counter() - started
        self.turns: list[dict[str, float]] = []

    def turn(self) -> None:
        """Have it train for a turn."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.turns.append(self._answer())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found


def measure(args: argparse.Namespace) -> list[Row]:
    if sys.platform != "linux":
        return []
    sizes = (20_000, 60_000) if args.quick else (100_000, 1_000_000, 10_000_000)
    trainers = {}
    with tempfile.TemporaryDirectory() as folder:
        source = collected(Path(folder) / "once", SHARDS * SHARD, SHARDS, 1 / 16)
        for states in sizes:
            data = tiled(Path(folder) / str(states), source, states)
            made = time.perf_counter()
            open_data(settings(str(data)), pick_device("cpu"))  # makes the index
            made = time.perf_counter() - made
            trainers[states] = Trainer(data)
            trainers[states].opened["index"] = made
        for _ in range(2 if args.quick else 7):
            for one in trainers.values():
                one.turn()
        for one in trainers.values():
            one.close()
    few = trainers.pop(sizes[0])
    return [row for states, many in trainers.items() for row in compared(f"{sizes[0]:,} to {states:,}", few, many)]


def compared(sizes: str, few: Trainer, many: Trainer) -> list[Row]:
    step = [statistics.median(turn["step"] for turn in one.turns[1:]) for one in (few, many)]
    memory = [max(turn["VmRSS"] for turn in one.turns) for one in (few, many)]
    started = [one.seconds for one in (few, many)]
    opened = [one.opened["opened"] for one in (few, many)]
    details = {
        "opening, s": [round(seconds, 2) for seconds in opened],
        "making the index once, s": round(many.opened["index"], 1),
        "from start to first step, s": [round(seconds, 1) for seconds in started],
    }
    peak = [round(max(turn["VmHWM"] for turn in one.turns) / 1e6) for one in (few, many)]
    what = f"data in windows, {sizes} states"
    return [
        Row(f"{what}: opening", "a bound", opened[1], "s", "<= 5", details),
        Row(f"{what}: from start to first step", "the fewer", started[1] / started[0], "x", "<= 2"),
        Row(f"{what}: step", "the fewer", step[1] / step[0], "x", "<= 1.05",
            {"ms": [round(1e3 * seconds, 2) for seconds in step]}),
        Row(f"{what}: memory", "the fewer", memory[1] / memory[0], "x", "<= 1.2",
            {"MB": [round(size / 1e6) for size in memory], "peak_MB": peak}),
    ]  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--trainer"]:
        trainer(sys.argv[2])
    else:
        main(measure, __doc__ or "")
