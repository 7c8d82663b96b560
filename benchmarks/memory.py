"""How a trainer's memory grows from 100,000 to a million states, with the data in memory and on disk.

    python benchmarks/memory.py --out runs/bench/memory.json

A process of its own opens the data set as ``distill train`` does, takes Sobolev steps of a small student, and says
what it holds in the end: anonymous memory, which is its own; pages of mapped files, which the kernel may drop, are
told beside it. States are 4,096 real ones of Pong many times over (hard links), so that derivatives take no disk.
The first row compares the growth with that of the frame store (7,056 bytes a state; beside it come 672 bytes of
row scales of the derivatives and about 100 of everything else), the second with the same for
``train.hold_data=disk``, where frames and scales stay in mapped files.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Row, main  # first: it sets the process up, before PyTorch is imported

# isort: split

import numpy as np
import torch
from data import collected, tiled

from distill.batches.loader import Loader, batches
from distill.batches.sampler import Sampler
from distill.batches.source import make_source
from distill.dataset.reader import Dataset
from distill.engine.step import make_engine, make_step
from distill.losses.settings import ObjectiveConfig
from distill.losses.sobolev import Objective
from distill.networks.nets import AtariCNN, net_spec
from distill.system.device import pick_device

FRAME = 84 * 84
STEPS = 50


def trainer(folder: str, hold_data: str, device_name: str) -> dict[str, int]:
    """Train a little; bytes of memory that this process then holds."""
    device = pick_device(device_name)
    dataset = Dataset(folder, mapped=hold_data == "disk")
    net = AtariCNN(net_spec("mnih2013"), dataset.logits.shape[1]).to(device)
    step, objective = make_step(net, make_engine(net)), Objective(scale=dataset.jacobian_scale)
    source = make_source(dataset, device, hold_data, derivatives=True)
    loader = Loader(dataset, ObjectiveConfig(jacobian_weight=0.01), device, 1, None, source)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    for one in batches(loader, Sampler(np.arange(len(dataset)), 64, 1), 0, STEPS):
        optimizer.zero_grad()
        step(one.obs, one.logits, one.targets, 0.01, objective)
        optimizer.step()
    status = Path("/proc/self/status").read_text()
    found = {name: re.search(rf"{name}:\s+(\d+) kB", status) for name in ("RssAnon", "RssFile")}
    return {"states": len(dataset), **{name: 1024 * int(match[1]) for name, match in found.items() if match}}


def measure(args: argparse.Namespace) -> list[Row]:
    if sys.platform != "linux":
        return []
    few, many = (8_192, 65_536) if args.quick else (100_000, 1_000_000)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source = collected(Path(folder) / "once", 512 if args.quick else 4_096)
        for hold_data, goal in (("memory", "<= 1.15"), ("disk", "<= 0.1")):
            held = []
            for states in (few, many):
                data = tiled(Path(folder) / f"{hold_data}-{states}", source, states)
                command = [sys.executable, __file__, "--trainer", str(data), hold_data, args.device]
                held.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            states = held[1]["states"] - held[0]["states"]
            grown = (held[1]["RssAnon"] - held[0]["RssAnon"]) / states
            details = {
                "bytes_per_state": round(grown),
                "frame_bytes_per_state": FRAME,
                "own_MB": [round(one["RssAnon"] / 1e6) for one in held],
                "mapped_MB": [round(one["RssFile"] / 1e6) for one in held],
            }
            stage = f"trainer's memory, {few:,} to {many:,} states, hold_data={hold_data}"
            rows.append(Row(stage, "growth of the frame store", grown / FRAME, "x", goal, details))
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--trainer"]:
        print(json.dumps(trainer(*sys.argv[2:])))
    else:
        main(measure, __doc__ or "")
