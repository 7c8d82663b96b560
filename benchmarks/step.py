"""What a Sobolev step costs: against a plain KL step, against autograd's double backward; and the whole plain loop.

    python benchmarks/step.py --out benchmarks/results/cpu/step.json

K = 1, stored int8 targets. The plain step is the fastest of three: the engine's, and autograd's in both memory
layouts; so is autograd's Sobolev step. The floor is the ratio of the two steps' multiplications: with S of them
in a forward pass, I of these in the first layer, a plain step takes 3 S - I (its first layer needs no input
gradient) and a Sobolev step 6 S - I: forward, two cotangent passes (one of them down to the pixels), a tangent
pass, and two weight gradients.

The naive loop is what a tutorial would write: stacks in one array, fancy indexing, float division, the default
memory layout, autograd and Adam. Ours is a whole iteration too: loading, gradient, clipping, optimizer.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Row, interleaved, main, milliseconds  # first: it sets the process up

# isort: split

import numpy as np
import torch
import torch.nn.functional as F
from data import collected
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from distill.config import ObjectiveConfig
from distill.dataset.reader import Dataset
from distill.device import arithmetic, pick_device
from distill.losses.projection import sample
from distill.losses.sobolev import Objective, Targets, sobolev_loss
from distill.students.nets import AtariCNN, net_spec, to_unit
from distill.train.data import Loader, Sampler, batches
from distill.train.step import make_engine, make_step

ACTIONS = 6
TURN = 5
"""Steps in a row of each program, because training finds its own data in the caches, not another program's."""


@dataclass
class Inputs:
    """One batch of random numbers: speed does not depend on what they are."""

    obs: Tensor
    logits: Tensor
    targets: Targets


def random_inputs(batch: int, device: torch.device) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    obs = torch.randint(0, 256, (batch, 4, 84, 84), generator=generator, dtype=torch.uint8)
    logits = torch.randn(batch, ACTIONS, generator=generator)
    codes = torch.randint(-127, 128, (batch, 1, 4, 84, 84), generator=generator).to(torch.int8)
    scale = 1e-4 * torch.rand(batch, 1, 4, 84, generator=generator)
    v = sample("sphere", logits, 1, generator)
    return Inputs(obs.to(device), logits.to(device), Targets(v.to(device), codes.to(device), scale.to(device)))


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


def repeated(programs: dict[str, Callable[[], object]]) -> dict[str, Callable[[], object]]:
    """``TURN`` steps at a time."""

    def turn(program: Callable[[], object]) -> None:
        for _ in range(TURN):
            program()

    return {name: functools.partial(turn, program) for name, program in programs.items()}


def measure_steps(student: str, batch: int, device: torch.device, rounds: int) -> list[Row]:
    """The gradient alone, on a batch that is there."""
    dtype = arithmetic(device, "auto")
    inputs, objective = random_inputs(batch, device), Objective()
    nets = {layout: AtariCNN(net_spec(student), ACTIONS).to(device, memory_format=layout)
            for layout in (torch.contiguous_format, torch.channels_last)}  # fmt: skip
    nchw, nhwc = nets.values()
    step = make_step(nchw, make_engine(nchw, dtype))

    def engine(weight: float) -> None:
        nchw.zero_grad()
        step(inputs.obs, inputs.logits, inputs.targets, weight, objective)

    def autograd(layout: torch.memory_format, weight: float) -> None:
        nets[layout].zero_grad()
        x = to_unit(inputs.obs).contiguous(memory_format=layout)
        sobolev_loss(nets[layout], x, inputs.logits, inputs.targets, weight, objective).total.backward()  # type: ignore[no-untyped-call]

    programs: dict[str, Callable[[], object]] = {
        "plain, engine": lambda: engine(0.0),
        "Sobolev, engine": lambda: engine(0.01),
    }
    for layout, weight in itertools.product(nets, (0.0, 0.01)):
        name = f"{'Sobolev' if weight else 'plain'}, autograd, {str(layout).removeprefix('torch.')}"
        programs[name] = lambda layout=layout, weight=weight: autograd(layout, weight)  # type: ignore[misc]
    medians = interleaved(repeated(programs), rounds, synchronize=device.type == "cuda")
    medians = {name: seconds / TURN for name, seconds in medians.items()}
    plain = min(seconds for name, seconds in medians.items() if name.startswith("plain"))
    double = min(seconds for name, seconds in medians.items() if name.startswith("Sobolev, autograd"))
    ours = medians["Sobolev, engine"]
    first, second = operations(nhwc, batch)
    floor, rate = second / first, second / ours
    what = f"Sobolev step, {student}, batch {batch}"
    return [
        Row(what, "plain KL step, the fastest", ours / plain, "x", "<= 2.3", {"ms": milliseconds(medians)}),
        Row(what, f"its floor by operations, {floor:.2f}x plain", 100 * floor / (ours / plain), "%"),
        Row(what, "autograd, create_graph", double / ours, "x", ">= 2", {"autograd over plain": double / plain}),
        Row(what, "rate of a large matrix product", 100 * rate / peak(device, dtype), "%",
            details={"GFLOP/s": rate / 1e9}),
    ]  # fmt: skip


def naive(stacks: np.ndarray, logits: np.ndarray, net: nn.Module, batch: int, device: torch.device) -> Iterator[None]:
    """A plain distillation loop as one would write it down."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    while True:
        for index in np.split(rng.permutation(len(stacks))[: len(stacks) // batch * batch], len(stacks) // batch):
            x = torch.from_numpy(stacks[index]).to(device).float() / 255
            target = torch.from_numpy(logits[index]).to(device)
            loss = F.kl_div(net(x).log_softmax(1), target.log_softmax(1), log_target=True, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimizer.step()
            yield


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
    actions = dataset.logits.shape[1]
    nets = [AtariCNN(net_spec(student), actions).to(device) for _ in range(2)]
    stacks = dataset.stacks(np.arange(len(dataset)))
    loops = {
        "naive": naive(stacks, dataset.logits, nets[0], batch, device),
        "ours": ours(dataset, nets[1], batch, device),
    }
    programs: dict[str, Callable[[], object]] = {name: functools.partial(next, loop) for name, loop in loops.items()}
    medians = interleaved(repeated(programs), rounds, synchronize=device.type == "cuda")
    medians = {name: seconds / TURN for name, seconds in medians.items()}
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
    arithmetic(device, "auto")
    cases = [(student, batch) for student in ("mnih2013", "nature") for batch in (64, 256)]
    rows = [row for student, batch in cases for row in measure_steps(student, batch, device, 2 if args.quick else 11)]
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset(collected(Path(folder) / "data", 512 if args.quick else 8_192))
    return rows + [measure_loop(dataset, *case, device, 2 if args.quick else 15) for case in cases]


if __name__ == "__main__":
    main(measure, "Ratios of one training step's cost")
