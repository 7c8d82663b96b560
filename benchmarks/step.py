"""What a Sobolev step costs: against a plain KL step, against autograd's double backward; and the whole plain loop.

    python benchmarks/step.py --out runs/bench/step.json

K = 1, stored int8 targets. Each program runs in a process of its own, as a training does, and they take turns.
The plain step is the fastest of three: the engine's, and autograd's in both memory layouts, all with our process
settings. The floor is the ratio of the two steps' multiplications: with S of them in a forward pass, I of these in
the first layer, a plain step takes 3 S - I (its first layer needs no input gradient) and a Sobolev step 6 S - I:
forward, two cotangent passes (one of them down to the pixels), a tangent pass, and two weight gradients. Double
backward takes the same 6 S - I. With derivatives on a share m of the batch it is 3 S - I + 3 m S.

A whole training with derivatives on a quarter of each batch until 30 % of its steps is measured as its two kinds of
iterations, loading and optimizer included, each as often as it occurs.

Autograd's Sobolev step is what one would write instead, with PyTorch's own process settings, in the faster memory
layout. The same with our process settings is told beside it.

The naive loop, with PyTorch's own settings too, is what a tutorial would write: stacks in one array, fancy
indexing, float division, the default memory layout, autograd and Adam. Ours is a whole iteration as well: loading,
gradient, clipping, optimizer.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import Elsewhere, Row, interleaved, main, milliseconds  # first: it sets the process up

# isort: split

import torch
from data import collected
from peer import LAYOUTS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from distill.networks.nets import AtariCNN, net_spec
from distill.system.device import arithmetic, pick_device

ACTIONS = 6
TURN = 5
"""Steps in a row of each program."""
SHARES = (1.0, 0.5, 0.25, 0.125)
EARLY_SHARE, UNTIL = 0.25, 0.3
"""Of the whole training that is measured."""


def operations(net: AtariCNN, batch: int, share: float = 1.0) -> tuple[float, float]:
    """Floating-point operations of (a plain, a Sobolev) step, by the formula above.

    ``share``: of the batch that carries derivatives.
    """
    x = torch.zeros(batch, 4, 84, 84, device=next(net.parameters()).device)

    def count(module: nn.Module) -> int:
        with FlopCounterMode(display=False) as counter:
            module(x)
        return int(counter.get_total_flops())

    whole, first = count(net), count(next(iter(net.path())))
    return 3 * whole - first, (3 + 3 * share) * whole - first


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the fastest of several large matrix products, square and tall."""
    shapes = [(4096, 4096), (8192, 8192)] if device.type == "cuda" else [(1024, 1024), (2048, 2048), (8192, 512)]
    rates = []
    for rows, inner in shapes:
        a = torch.randn(rows, inner, device=device, dtype=dtype)
        b = torch.randn(inner, inner, device=device, dtype=dtype)
        product = functools.partial(torch.mm, a, b)
        seconds = interleaved({"product": product}, 9, synchronize=device.type == "cuda")["product"]
        rates.append(2 * rows * inner**2 / seconds)
    return max(rates)


def measure_steps(student: str, batch: int, device: torch.device, rounds: int) -> list[Row]:
    """The gradient alone, on a batch that is there."""
    common = {"student": student, "actions": ACTIONS, "batch": batch, "device": str(device)}
    setups: dict[str, dict[str, Any]] = {}
    for kind, weight in (("plain", 0.0), ("Sobolev", 0.01)):
        setups[f"{kind}, engine"] = {"program": "engine", "share": 1.0 if weight else 0.0, "tuned": True}
        for layout in LAYOUTS:
            autograd = {"program": "autograd", "weight": weight, "layout": layout}
            setups[f"{kind}, autograd, {layout}"] = {**autograd, "tuned": True}
            if kind == "Sobolev":
                setups[f"untuned {kind}, autograd, {layout}"] = autograd
    with contextlib.ExitStack() as stack:
        programs = {name: stack.enter_context(Elsewhere(**common, **setup)) for name, setup in setups.items()}
        medians = interleaved(programs, rounds, calls=TURN)

    def fastest(start: str) -> float:
        return min(seconds for name, seconds in medians.items() if name.startswith(start))

    plain, ours = fastest("plain"), medians["Sobolev, engine"]
    first, second = operations(AtariCNN(net_spec(student), ACTIONS).to(device), batch)
    floor, rate = second / first, second / ours
    what = f"Sobolev step, {student}, batch {batch}"
    return [
        Row(what, "plain KL step, the fastest", ours / plain, "x", "<= 2.3", {"ms": milliseconds(medians)}),
        Row(what, f"its floor by operations, {floor:.2f}x plain", 100 * floor / (ours / plain), "%"),
        Row(what, "autograd, create_graph", fastest("untuned") / ours, "x", ">= 2"),
        Row(what, "the same with our process settings", fastest("Sobolev, autograd") / ours, "x"),
        Row(what, "rate of a large matrix product", 100 * rate / peak(device, arithmetic(device, "auto")), "%",
            details={"GFLOP/s": rate / 1e9}),
    ]  # fmt: skip


def measure_shares(student: str, batch: int, device: torch.device, rounds: int) -> list[Row]:
    """The gradient alone, with derivatives on a share of the batch."""
    common = {"student": student, "actions": ACTIONS, "batch": batch, "device": str(device), "tuned": True}
    setups = {"plain": {"share": 0.0}} | {f"share {share:g}": {"share": share} for share in SHARES}
    with contextlib.ExitStack() as stack:
        programs = {
            name: stack.enter_context(Elsewhere(**common, program="engine", **setup)) for name, setup in setups.items()
        }
        medians = interleaved(programs, rounds, calls=TURN)
    net = AtariCNN(net_spec(student), ACTIONS).to(device)
    rows = []
    for share in SHARES:
        first, second = operations(net, batch, share)
        took = medians[f"share {share:g}"] / medians["plain"]
        against = f"our plain KL step; its floor by operations is {second / first:.2f}"
        details = {"ms": milliseconds(medians), "of the floor": round(second / first / took, 3)}
        rows.append(
            Row(f"step, {student}, batch {batch}, derivatives on {share:g} of it", against, took, "x", "", details)
        )
    return rows


def measure_training(data: Path, student: str, batch: int, device: torch.device, rounds: int) -> Row:
    """Whole iterations with derivatives on a quarter of each batch, and without, as a training mixes them."""
    common = {"student": student, "batch": batch, "data": str(data), "device": str(device), "tuned": True}
    with Elsewhere(**common, program="ours") as plain, Elsewhere(**common, program="ours", share=EARLY_SHARE) as early:
        medians = interleaved({"plain": plain, "early": early}, rounds, calls=TURN)
    return Row(
        f"training, {student}, batch {batch}, derivatives on {EARLY_SHARE:g} of it until {UNTIL:.0%}",
        "plain distillation, as many steps",
        UNTIL * medians["early"] / medians["plain"] + 1 - UNTIL,
        "x",
        f"<= {1.2 if batch == 32 else 1.15}",
        {"ms": milliseconds(medians)},
    )


def measure_loop(data: Path, states: int, student: str, batch: int, device: torch.device, rounds: int) -> Row:
    """Whole iterations of plain distillation."""
    common = {"student": student, "batch": batch, "data": str(data), "device": str(device)}
    with Elsewhere(**common, program="naive") as naive, Elsewhere(**common, program="ours", tuned=True) as ours:
        medians = interleaved({"naive": naive, "ours": ours}, rounds, calls=TURN)
    return Row(
        f"plain KL iteration, {student}, batch {batch}",
        "naive PyTorch loop",
        medians["naive"] / medians["ours"],
        "x",
        ">= 1.5",
        {"ms": milliseconds(medians), "states": states},
    )


def measure(args: argparse.Namespace) -> Sequence[Row]:
    device = pick_device(args.device)
    cases = [(student, batch) for student in ("mnih2013", "nature") for batch in (64, 256)]
    rounds, states = (2, 512) if args.quick else (7, 8_192)
    rows = [row for student, batch in cases for row in measure_steps(student, batch, device, rounds)]
    rows += [row for batch in (32, 64) for row in measure_shares("mnih2013", batch, device, rounds)]
    with tempfile.TemporaryDirectory() as folder:
        data = collected(Path(folder) / "data", states)
        rows += [measure_loop(data, states, *case, device, rounds) for case in cases]
        return rows + [measure_training(data, "mnih2013", batch, device, rounds) for batch in (32, 64)]


if __name__ == "__main__":
    main(measure, "Ratios of one training step's cost")
