"""What one would write instead, in a process of its own with PyTorch's own settings.

A benchmark starts it (``measure.Elsewhere``) with a JSON object on the command line and asks for turns: a line
with a number of calls on standard input is answered by a line with their seconds.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from data import random_batch
from torch import nn

from distill.dataset.reader import Dataset
from distill.device import arithmetic, pick_device
from distill.losses.sobolev import Objective, sobolev_loss
from distill.students.nets import AtariCNN, net_spec, to_unit

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def autograd(
    student: str, actions: int, batch: int, layout: str, weight: float, device: torch.device
) -> Callable[[], object]:
    """A step's gradient by ``create_graph``; a plain KL step where ``weight`` is 0."""
    memory_format = LAYOUTS[layout]
    net = AtariCNN(net_spec(student), actions).to(device, memory_format=memory_format)
    inputs, objective = random_batch(batch, actions, device), Objective()

    def step() -> None:
        net.zero_grad()
        x = to_unit(inputs.obs).contiguous(memory_format=memory_format)
        sobolev_loss(net, x, inputs.logits, inputs.targets, weight, objective).total.backward()  # type: ignore[no-untyped-call]

    return step


def naive(student: str, batch: int, data: str, device: torch.device) -> Callable[[], object]:
    """An iteration of a plain distillation loop as a tutorial would write it."""
    dataset = Dataset(data, jacobian=False)
    stacks, logits = dataset.stacks(np.arange(len(dataset))), dataset.logits
    net = AtariCNN(net_spec(student), logits.shape[1]).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)

    def loop() -> Iterator[None]:
        while True:
            order = rng.permutation(len(stacks))[: len(stacks) // batch * batch]
            for index in np.split(order, len(stacks) // batch):
                x = torch.from_numpy(stacks[index]).to(device).float() / 255
                target = torch.from_numpy(logits[index]).to(device)
                loss = F.kl_div(net(x).log_softmax(1), target.log_softmax(1), log_target=True, reduction="batchmean")
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(net.parameters(), 10.0)
                optimizer.step()
                yield

    return functools.partial(next, loop())


PROGRAMS: dict[str, Callable[..., Callable[[], object]]] = {"autograd": autograd, "naive": naive}


def main() -> None:
    setup: dict[str, Any] = json.loads(sys.argv[1])
    device = pick_device(setup.pop("device"))
    arithmetic(device, "auto")
    program = PROGRAMS[setup.pop("program")](**setup, device=device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for line in sys.stdin:
        program()  # not timed: see measure.interleaved
        wait()
        start = time.perf_counter()
        for _ in range(int(line)):
            program()
        wait()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
