"""How fast states are collected with logits and one derivative each, against stable-baselines3's environments.

    python benchmarks/collection.py --out runs/bench/collection.json

Two bars, both in states per second on Pong with the bundled PPO teacher:

* A loop as one writes it, in a process with PyTorch's own settings (``peer.collection``): ``make_atari_env`` +
  ``VecFrameStack``, and at every vector step a forward pass of the same network, a sampled action and one
  ``torch.autograd.grad`` for a random zero-sum v; saved every 4,096 states. DummyVecEnv and SubprocVecEnv, 8 and 16
  games: the fastest of the four counts, as the fastest of 8, 16 and 32 lanes does for ours.
* The sum of what must be done: emulation, forward pass, J^T v and writing, each measured alone, on all cores,
  at its best number of lanes or batch.

On neither side does the clock run while the teacher is loaded and the games are made and reset: a collection
is timed from its first step to its last commit (``Summary.wall``). A round runs everything once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Elsewhere, Row, main  # first: it sets the process up, before PyTorch is imported

# isort: split

import numpy as np
import torch

from distill.collect.settings import CollectConfig
from distill.config.config import Config
from distill.config.stages import collect
from distill.dataset.reader import Dataset
from distill.dataset.schema import ShardArrays
from distill.dataset.shards import load_shard
from distill.dataset.writer import DatasetWriter
from distill.engine.engine import Engine
from distill.envs.ale_vec import AtariVec
from distill.envs.presets import get_preset
from distill.losses.projection import sample
from distill.records.dataset import Played
from distill.system.device import pick_device
from teachers.load import load_teacher
from teachers.protocol import Teacher

TEACHER = "pong-ppo"
PEERS = {f"{env}, {games} games": (env, games) for games in (8, 16) for env in ("DummyVecEnv", "SubprocVecEnv")}
LANES, BATCHES = (8, 16, 32), (32, 256, 512)


@dataclass(frozen=True)
class Sizes:
    """How much of everything one round does."""

    rounds: int
    ours: int
    """States of one collection."""
    theirs: int
    """States of one chunk of the peer's loop, which ends with saving them."""
    env_steps: int
    """Vector steps with 8 lanes; as many lane steps with more lanes."""
    passes: int
    """Forward passes and J^T v per batch size."""
    commits: int
    """Shards written."""


FULL = Sizes(rounds=3, ours=12_288, theirs=4_096, env_steps=500, passes=9, commits=2)
QUICK = Sizes(rounds=1, ours=1_024, theirs=256, env_steps=32, passes=2, commits=1)


def ours(states: int, lanes: int, folder: Path, device: str) -> float:
    """States per second of one ``distill collect`` into a new folder, all but the lanes as by default."""
    settings = CollectConfig(out=str(folder), states=states, num_envs=lanes)
    config = Config(env="pong", teacher=TEACHER, device=device, collect=settings)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bar and table
        summary = collect(config)
    assert summary.added == states
    return summary.added / summary.wall


class Parts:
    """Each part of the work alone.

    Args:
        teacher: the network.
        folder: a dataset to take real states and a real shard from.
        scratch: where shards are written.
        sizes: how much is done.
        device: where the network runs.
    """

    def __init__(self, teacher: Teacher, folder: Path, scratch: Path, sizes: Sizes, device: torch.device) -> None:
        self.sizes, self.device, self._scratch = sizes, device, scratch
        self._rng = np.random.default_rng(0)
        preset = get_preset(teacher.info.preset)
        self._envs = [AtariVec("pong", lanes, preset) for lanes in LANES]
        for env in self._envs:
            env.reset(1)
        self._engine = Engine(teacher.net.path(), frozen=True)
        dataset = Dataset(folder)
        self._obs = torch.from_numpy(dataset.stacks(np.arange(max(BATCHES)))).to(device)
        logits = torch.from_numpy(dataset.logits[: max(BATCHES)])
        self._v = sample("sphere", logits, 1, torch.Generator().manual_seed(0)).to(device)
        self._identity = dataset.identity
        self._shard = _in_memory(load_shard(dataset.shards[0]))

    def measure(self) -> dict[str, dict[str, float]]:
        """Seconds per state: of each part, by lanes or batch."""
        forward, both = {}, {}
        for batch in BATCHES:
            obs, v = self._obs[:batch], self._v[:batch]
            forward[f"batch {batch}"] = self._seconds(lambda obs=obs: self._engine.forward(obs)) / batch
            both[f"batch {batch}"] = self._seconds(lambda obs=obs, v=v: self._engine.vjp(obs, v)) / batch
        return {
            "env": {f"{env.num_envs} lanes": self._step(env) for env in self._envs},
            "forward": forward,
            "forward + vjp": both,
            "write": {f"{len(self._shard)} states": self._write()},
        }

    def close(self) -> None:
        """Free the emulators."""
        for env in self._envs:
            env.close()

    def _step(self, env: AtariVec) -> float:
        steps = self.sizes.env_steps * LANES[0] // env.num_envs
        actions = self._rng.integers(env.num_actions, size=(steps, env.num_envs))
        started = time.perf_counter()
        for row in actions:
            env.step(row)
        return (time.perf_counter() - started) / actions.size

    def _seconds(self, program: Callable[[], object]) -> float:
        times = []
        with torch.inference_mode():
            for _ in range(1 + self.sizes.passes):
                started = time.perf_counter()
                program()
                if self.device.type == "cuda":
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - started)
        return statistics.median(times[1:])

    def _write(self) -> float:
        folder = self._scratch / "written"
        writer = DatasetWriter(folder, self._identity, "alone", {}, {})
        started = time.perf_counter()
        for _ in range(self.sizes.commits):
            writer.commit(self._shard, Played(0, 0.0))
        seconds = time.perf_counter() - started
        writer.close()
        shutil.rmtree(folder)
        return seconds / (self.sizes.commits * len(self._shard))


def _in_memory(arrays: ShardArrays) -> ShardArrays:
    assert arrays.jacobian is not None
    arrays.jacobian = np.array(arrays.jacobian)
    return arrays


def _bound(parts: Sequence[dict[str, dict[str, float]]]) -> tuple[float, dict[str, object]]:
    """States per second where the parts follow one another at their best, and the rates behind it."""
    medians = {
        part: {size: statistics.median(one[part][size] for one in parts) for size in sizes}
        for part, sizes in parts[0].items()
    }
    # A J^T v alone: what vjp() takes beyond the forward pass in it, batch by batch.
    both = medians.pop("forward + vjp")
    medians["vjp"] = {size: both[size] - medians["forward"][size] for size in both}
    best = {part: min(sizes, key=lambda size: sizes[size]) for part, sizes in medians.items()}
    rates = {part: {size: round(1 / seconds) for size, seconds in sizes.items()} for part, sizes in medians.items()}
    total = sum(medians[part][size] for part, size in best.items())
    return 1 / total, {"alone_states_per_second": rates, "best_alone": best}


def measure(args: argparse.Namespace) -> list[Row]:
    sizes = QUICK if args.quick else FULL
    device = pick_device(args.device)
    teacher = load_teacher(TEACHER)
    teacher.net.to(device)
    rates: dict[str, list[float]] = defaultdict(list)
    alone: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        scratch = Path(temporary)
        setup = {"program": "collection", "teacher": TEACHER, "states": sizes.theirs, "device": args.device}
        peers = {
            name: stack.enter_context(Elsewhere(**setup, env=env, games=games, out=str(scratch / "theirs.npz")))
            for name, (env, games) in PEERS.items()
        }
        sample_folder = scratch / "warm"
        ours(max(*BATCHES, sizes.theirs), LANES[0], sample_folder, args.device)
        parts = Parts(teacher, sample_folder, scratch, sizes, device)
        for number in range(1 + sizes.rounds):  # the first round warms up
            found: dict[str, float] = {}
            for lanes in LANES:
                folder = scratch / f"ours-{lanes}"
                found[f"ours, {lanes} lanes"] = ours(sizes.ours, lanes, folder, args.device)
                shutil.rmtree(folder)
            for name, peer in peers.items():
                found[name] = sizes.theirs / peer.turn(1)
            part = parts.measure()
            if number:
                alone.append(part)
                for name, rate in found.items():
                    rates[name].append(rate)
        parts.close()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    bound, details = _bound(alone)
    details = {"states_per_second": {name: round(rate) for name, rate in medians.items()}, **details}
    details |= {"ours_states": sizes.ours, "theirs_states": sizes.theirs, "rounds": sizes.rounds}
    mine = max((name for name in medians if name not in PEERS), key=lambda name: medians[name])
    fastest = max(PEERS, key=lambda name: medians[name])
    details |= {"fastest": mine, "fastest_peer": fastest, "bound_states_per_second": round(bound)}
    return [
        Row(
            "collection, logits + Jacobian (K=1)",
            "SB3 make_atari_env + VecFrameStack, forward + autograd vjp a step",
            medians[mine] / medians[fastest], "x", ">= 3", details,
        ),
        Row(
            "collection",
            "1 / (1/env + 1/forward + 1/vjp + 1/write), each alone at its best",
            medians[mine] / bound, "x", ">= 0.85",
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main(measure, __doc__ or "")
