"""What a Sobolev step costs: against a plain KL step, against autograd's double backward; and the whole plain loop.

    python benchmarks/step.py --out runs/bench/step.json

K = 1, stored int8 targets. The plain step is the fastest of three: the engine's, and autograd's in both memory
layouts, all in one process. The floor is the ratio of the two steps' multiplications: with S of them in a forward
pass, I of these in the first layer, a plain step takes 3 S - I (its first layer needs no input gradient) and a
Sobolev step 6 S - I: forward, two cotangent passes (one of them down to the pixels), a tangent pass, and two weight
gradients. Double backward takes the same 6 S - I.

Autograd's Sobolev step is what one would write instead, so it runs as that would: in a process with PyTorch's own
settings (``peer.py``), in the faster memory layout. The same with our process settings is told beside it.

The naive loop, in such a process too, is what a tutorial would write: stacks in one array, fancy indexing, float
division, the default memory layout, autograd and Adam. Ours is a whole iteration as well: loading, gradient,
clipping, optimizer.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from measure import Elsewhere, Row, interleaved, main, milliseconds  # first: it sets the process up

# isort: split

import numpy as np
import torch
from data import collected, random_batch
from peer import LAYOUTS, autograd
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from distill.config import ObjectiveConfig
from distill.dataset.reader import Dataset
from distill.device import arithmetic, pick_device
from distill.losses.sobolev import Objective
from distill.students.nets import AtariCNN, net_spec
from distill.train.data import Loader, Sampler, batches
from distill.train.step import make_engine, make_step

ACTIONS = 6
TURN = 5
"""Steps in a row of each program."""


def operations(net: AtariCNN, batch: int) -> tuple[float, float]:
    """Floating-point operations of (a plain, a Sobolev) step, by the formula above."""
    x = torch.zeros(batch, 4, 84, 84, device=next(net.parameters()).device)

    def count(module: nn.Module) -> int:
        with FlopCounterMode(display=False) as counter:
            module(x)
        return int(counter.get_total_flops())

    whole, first = count(net), count(next(iter(net.path())))
    return 3 * whole - first, 6 * whole - first


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product."""
    size = 8192 if device.type == "cuda" else 2048
    a = torch.randn(size, size, device=device, dtype=dtype)
    seconds = interleaved({"product": lambda: a @ a}, 5, synchronize=device.type == "cuda")["product"]
    return 2 * size**3 / seconds


def measure_steps(student: str, batch: int, device: torch.device, rounds: int) -> list[Row]:
    """The gradient alone, on a batch that is there."""
    dtype = arithmetic(device, "auto")
    inputs, objective = random_batch(batch, ACTIONS, device), Objective()
    net = AtariCNN(net_spec(student), ACTIONS).to(device)
    step = make_step(net, make_engine(net, dtype))

    def engine(weight: float) -> None:
        net.zero_grad()
        step(inputs.obs, inputs.logits, inputs.targets, weight, objective)

    programs: dict[str, Callable[[], object] | Elsewhere] = {
        "plain, engine": lambda: engine(0.0),
        "Sobolev, engine": lambda: engine(0.01),
    }
    for layout in LAYOUTS:
        programs[f"plain, autograd, {layout}"] = autograd(student, ACTIONS, batch, layout, 0.0, device)
        programs[f"Sobolev, autograd, {layout}"] = autograd(student, ACTIONS, batch, layout, 0.01, device)
    setup = {"program": "autograd", "student": student, "actions": ACTIONS, "batch": batch, "device": str(device)}
    with contextlib.ExitStack() as stack:
        for layout in LAYOUTS:
            peer = stack.enter_context(Elsewhere(**setup, layout=layout, weight=0.01))
            programs[f"peer: Sobolev, autograd, {layout}"] = peer
        medians = interleaved(programs, rounds, calls=TURN, synchronize=device.type == "cuda")

    def fastest(start: str) -> float:
        return min(seconds for name, seconds in medians.items() if name.startswith(start))

    plain, ours = fastest("plain"), medians["Sobolev, engine"]
    first, second = operations(net, batch)
    floor, rate = second / first, second / ours
    what = f"Sobolev step, {student}, batch {batch}"
    return [
        Row(what, "plain KL step, the fastest", ours / plain, "x", "<= 2.3", {"ms": milliseconds(medians)}),
        Row(what, f"its floor by operations, {floor:.2f}x plain", 100 * floor / (ours / plain), "%"),
        Row(what, "autograd, create_graph", fastest("peer") / ours, "x", ">= 2"),
        Row(what, "the same with our process settings", fastest("Sobolev, autograd") / ours, "x"),
        Row(what, "rate of a large matrix product", 100 * rate / peak(device, dtype), "%",
            details={"GFLOP/s": rate / 1e9}),
    ]  # fmt: skip


def ours(dataset: Dataset, net: AtariCNN, batch: int, device: torch.device) -> Iterator[None]:
    """What ``distill train`` does for a plain student."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    step = make_step(net, make_engine(net, arithmetic(device, "auto")))
    loader, sampler = Loader(dataset, ObjectiveConfig(), device, 1, None), Sampler(np.arange(len(dataset)), batch, 1)
    for one in batches(loader, sampler, 0, 10**9, derivatives=False):
        optimizer.zero_grad()
        step(one.obs, one.logits, one.targets, 0.0, Objective())
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        yield


def measure_loop(dataset: Dataset, student: str, batch: int, device: torch.device, rounds: int) -> Row:
    """Whole iterations of plain distillation."""
    net = AtariCNN(net_spec(student), dataset.logits.shape[1]).to(device)
    mine = functools.partial(next, ours(dataset, net, batch, device))
    setup = {"program": "naive", "student": student, "batch": batch, "data": str(dataset.folder)}
    with Elsewhere(**setup, device=str(device)) as peer:
        medians = interleaved({"naive": peer, "ours": mine}, rounds, calls=TURN, synchronize=device.type == "cuda")
    return Row(
        f"plain KL iteration, {student}, batch {batch}",
        "naive PyTorch loop",
        medians["naive"] / medians["ours"],
        "x",
        ">= 1.5",
        {"ms": milliseconds(medians), "states": len(dataset)},
    )


def measure(args: argparse.Namespace) -> Sequence[Row]:
    device = pick_device(args.device)
    cases = [(student, batch) for student in ("mnih2013", "nature") for batch in (64, 256)]
    rows = [row for student, batch in cases for row in measure_steps(student, batch, device, 2 if args.quick else 7)]
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset(collected(Path(folder) / "data", 512 if args.quick else 8_192))
        return rows + [measure_loop(dataset, *case, device, 2 if args.quick else 7) for case in cases]


if __name__ == "__main__":
    main(measure, "Ratios of one training step's cost")
