"""What the whole input Jacobian of a policy costs, in time against autograd and in memory.

    python benchmarks/jacobian.py --out benchmarks/results/jacobian.json

Time: logits and all six rows d logit / d pixel, float32 (256, 6, 4, 84, 84), from the same uint8 stacks, for the
bundled Pong teacher (NatureCNN). Ours is ``Labeller.derive``, which labels a dataset collected with
``collect.jacobian=full``. The peers are one forward and six backward passes, in both memory layouts, and
``torch.func.jacrev``: of one state under ``vmap``, whole and in chunks, and of the batch's sum, which needs no
second ``vmap``. The fastest way to write each counts. All give the same derivatives; that is asserted.

Memory: the most a process grows while it labels, less the result itself. The growth for four times the states
is compared with that for one time: 1 where the extra memory does not depend on the number of states. Once with
all states in one call, once in calls of 256 into one array, which is how a collection labels.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import re
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from measure import Row, interleaved, main, milliseconds  # first: it sets the process up, before PyTorch is imported

# isort: split

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from distill.collect.label import Labeller
from distill.collect.order import identify
from distill.collect.settings import CollectConfig
from distill.config.config import Config
from distill.envs.presets import OBS_SHAPE
from distill.system.device import pick_device
from teachers.load import load_teacher
from teachers.protocol import Teacher

TEACHER = "pong-ppo"
CHUNK = 64
"""States that a chunked vmap takes at once."""
NOISE = 16e6
"""Bytes below which two processes' peaks differ by chance."""


def labeller(teacher: Teacher, device: torch.device) -> Labeller:
    """What ``distill collect`` labels with when it stores whole Jacobians."""
    config = Config(env=teacher.info.game, teacher=TEACHER, collect=CollectConfig(jacobian="full"))
    return Labeller.of(teacher, identify(config, teacher), device)


def states(count: int) -> npt.NDArray[np.uint8]:
    """Random stacks; convolutions take as long on any."""
    return np.random.default_rng(0).integers(0, 256, (count, *OBS_SHAPE), dtype=np.uint8)


class Peers:
    """The same Jacobian from autograd.

    Args:
        net: the teacher's network, its parameters frozen.
        obs: uint8 stacks (B, 4, 84, 84), on the network's device.
    """

    def __init__(self, net: nn.Module, obs: Tensor) -> None:
        self.obs = obs
        self.net = {
            torch.contiguous_format: net,
            torch.channels_last: copy.deepcopy(net).to(memory_format=torch.channels_last),
        }

    def six_passes(self, layout: torch.memory_format) -> Tensor:
        """One forward pass and a backward pass for each action."""
        x = self._pixels(layout).requires_grad_()
        logits = self.net[layout](x)
        actions = logits.shape[1]
        rows = torch.empty((len(x), actions, *x.shape[1:]), device=x.device)
        for a in range(actions):
            rows[:, a] = torch.autograd.grad(logits[:, a].sum(), x, retain_graph=a + 1 < actions)[0]
        return rows

    def jacrev_of_a_state(self, chunk: int | None) -> Tensor:
        """As the documentation of ``torch.func`` does it."""
        net = self.net[torch.contiguous_format]
        jacobian = jacrev(lambda state: net(state[None])[0])
        return vmap(jacobian, chunk_size=chunk)(self._pixels(torch.contiguous_format))

    def jacrev_of_the_sum(self, layout: torch.memory_format) -> Tensor:
        """States do not touch each other, so the sum's Jacobian holds every state's."""
        net = self.net[layout]
        return jacrev(lambda x: net(x).sum(0))(self._pixels(layout)).movedim(0, 1)

    def _pixels(self, layout: torch.memory_format) -> Tensor:
        return self.obs.float().div_(255).contiguous(memory_format=layout)


def speed(args: argparse.Namespace) -> list[Row]:
    """Time against both peers."""
    batch, rounds = (16, 2) if args.quick else (256, 7)
    device, obs = pick_device(args.device), states(batch)
    teacher = load_teacher(TEACHER)
    label = labeller(teacher, device)
    peers = Peers(teacher.net, torch.from_numpy(obs).to(device))

    def derived() -> Tensor:
        rows = label.derive(obs)[3]
        assert rows is not None
        return rows

    plain, last = torch.contiguous_format, torch.channels_last
    programs: dict[str, Callable[[], Tensor]] = {
        "ours": derived,
        "six backward passes": lambda: peers.six_passes(plain),
        "six backward passes, channels last": lambda: peers.six_passes(last),
        "vmap(jacrev)": lambda: peers.jacrev_of_a_state(None),
        f"vmap(jacrev), chunks of {CHUNK}": lambda: peers.jacrev_of_a_state(CHUNK),
        "jacrev of the sum": lambda: peers.jacrev_of_the_sum(plain),
        "jacrev of the sum, channels last": lambda: peers.jacrev_of_the_sum(last),
    }
    expected = derived()
    for program in programs.values():
        torch.testing.assert_close(program(), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    del expected
    medians = interleaved(programs, rounds, synchronize=device.type == "cuda")
    details = {"states": batch, "rounds": rounds, "milliseconds": milliseconds(medians)}
    rows = []
    for against, part in (("six autograd backward passes", "six"), ("torch.func.jacrev", "jacrev")):
        best = min((name for name in programs if part in name), key=lambda name: medians[name])
        value = medians[best] / medians["ours"]
        rows.append(Row("full Jacobian, 6 actions", against, value, "x", ">= 1.5", {"fastest": best, **details}))
    return rows


def growth(count: int, call: int, device_name: str) -> tuple[int, int]:
    """Bytes by which this process grows at most while it labels ``count`` states, and those of the result.

    Args:
        count: states.
        call: states in one call.
        device_name: where the network runs; on a GPU its memory is counted.
    """
    device, obs = pick_device(device_name), states(count)
    label = labeller(load_teacher(TEACHER), device)
    label.derive(obs[:8])  # code, weights and threads are in memory from here on
    before = _memory(device)[0]
    rows = torch.empty((count, label.identity.k, *OBS_SHAPE), device=device)
    for start in range(0, count, call):
        part = label.derive(obs[start : start + call])[3]
        assert part is not None
        rows[start : start + call] = part
        del part
    return _memory(device)[1] - before, rows.numel() * rows.element_size()


def _memory(device: torch.device) -> tuple[int, int]:
    """Bytes held now, and at most so far."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    # Not getrusage: its peak is handed down from the process that started this one.
    status = Path("/proc/self/status").read_text()
    now, peak = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM"))
    assert now is not None
    assert peak is not None
    return 1024 * int(now[1]), 1024 * int(peak[1])


def memory(args: argparse.Namespace) -> list[Row]:
    """Peak memory against the number of states."""
    if sys.platform != "linux":
        return []
    few, many, call = (64, 256, 32) if args.quick else (512, 2048, 256)
    extra = {}
    for count in (few, many):
        # A process of its own: a peak cannot be taken back.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            grown, result = pool.submit(growth, count, call, args.device).result()
        extra[count] = max(grown - result, NOISE)
    megabytes = {f"extra_MB_{count}_states": round(value / 1e6, 1) for count, value in extra.items()}
    stage = f"full Jacobian of {many:,} states, peak memory beside the result"
    return [Row(stage, f"{few} states", extra[many] / extra[few], "x", "<= 1.3", megabytes)]


def measure(args: argparse.Namespace) -> list[Row]:
    return [*speed(args), *memory(args)]


if __name__ == "__main__":
    main(measure, __doc__ or "")
