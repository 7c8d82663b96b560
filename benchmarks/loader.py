"""What shuffled batches of stacks and derivatives cost the training step they are made for.

    python benchmarks/loader.py --out benchmarks/results/loader.json

A step that trains on batches from a dataset of 100,000 states, made by a thread beside it, against the same
step on one batch that is already there; and how long the loader takes for a batch on its own. The states are
4,096 real ones of Pong, 25 times over (hard links), so that every derivative is in the page cache: reading from
a cold disk is the disk's speed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from measure import Row, interleaved, main, milliseconds  # first: it sets the process up

# isort: split

import numpy as np
import torch
from data import collected, tiled

from distill.batches.loader import Batch, Loader, batches
from distill.batches.sampler import Sampler
from distill.dataset.reader import Dataset
from distill.engine.engine import Engine
from distill.losses.settings import ObjectiveConfig
from distill.losses.sobolev import Objective
from distill.networks.nets import AtariCNN, net_spec
from distill.system.device import pick_device

STEPS = 20
"""Steps a turn: long enough that the batch made during the other's turn does not count."""


def measure(args: argparse.Namespace) -> Sequence[Row]:
    states, rounds = (4_096, 3) if args.quick else (100_000, 9)
    device = pick_device(args.device)
    with tempfile.TemporaryDirectory() as folder:
        source = collected(Path(folder) / "once", 512 if args.quick else 4_096)
        dataset = Dataset(tiled(Path(folder) / "tiled", source, states))
        return [_row(dataset, student, batch, rounds, device) for student, batch in (("mnih2013", 64), ("nature", 256))]


def _row(dataset: Dataset, student: str, batch: int, rounds: int, device: torch.device) -> Row:
    net = AtariCNN(net_spec(student), dataset.logits.shape[1]).to(device)
    engine, objective = Engine(net.path()), Objective(scale=dataset.jacobian_scale)
    loader = Loader(dataset, ObjectiveConfig(jacobian_weight=0.01), device, 1, None)
    sampler = Sampler(np.arange(len(dataset)), batch, 1)
    stream = batches(loader, sampler, 0, 10**9)
    fixed = loader.load(sampler.batch(0), 0)

    def train(one: Batch) -> None:
        net.zero_grad()
        engine.step(one.obs, one.logits, one.targets, 0.01, objective)

    def with_loader() -> None:
        for _ in range(STEPS):
            train(next(stream))

    def without() -> None:
        for _ in range(STEPS):
            train(fixed)

    medians = interleaved({"loader": with_loader, "fixed": without}, rounds, synchronize=device.type == "cuda")
    start = time.perf_counter()
    for number in range(STEPS):
        loader.load(sampler.batch(number), number)
    alone = (time.perf_counter() - start) / STEPS
    step = {name: seconds / STEPS for name, seconds in medians.items()}
    return Row(
        f"loader beside a Sobolev step, {student}, batch {batch}",
        "the step alone",
        100 * (step["loader"] / step["fixed"] - 1),
        "%",
        "<= 5",
        {
            "states": len(dataset),
            "step with loader, step alone, ms": list(milliseconds(step).values()),
            "loader alone, ms a batch": round(1e3 * alone, 3),
            "loader alone, states/s": round(batch / alone),
        },
    )


if __name__ == "__main__":
    main(measure, "The loader's share of a training step")
