"""How fast states are collected with logits and one derivative each, against stable-baselines3's environments.

    python benchmarks/collection.py --out benchmarks/results/collection.json

Two bars, both in states per second on Pong with the bundled PPO teacher:

* A loop as one writes it: ``make_atari_env`` + ``VecFrameStack``, and at every vector step a forward pass of
  the same network, a sampled action and one ``torch.autograd.grad`` for a random zero-sum v. States, logits
  and derivatives (fp16) are saved with ``np.savez`` every 4,096 states, unlike ours without checksums or
  fsync. DummyVecEnv and SubprocVecEnv, 8 and 16 games: the fastest of the four counts. It runs under the
  process settings of ``measure.py`` as ours does; with PyTorch's own it is slower.
* The sum of what must be done: emulation, forward pass, J^T v and writing, each measured alone, on all cores,
  at its best number of lanes or batch.

On neither side does the clock run while the teacher is loaded and the games are made and reset: a collection
is timed from its first step to its last commit (``Summary.wall``). A round runs everything once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Row, main  # first: it sets the process up, before PyTorch is imported

# isort: split

import ale_py
import gymnasium
import numpy as np
import torch
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack

from distill.collect.pipeline import collect
from distill.config import CollectConfig, Config
from distill.dataset.reader import Dataset, load_shard
from distill.dataset.schema import ShardArrays
from distill.dataset.writer import DatasetWriter
from distill.device import pick_device
from distill.envs.ale_vec import AtariVec
from distill.envs.presets import get_preset
from distill.losses.engine import Engine
from distill.losses.projection import sample
from teachers.load import load_teacher
from teachers.protocol import Teacher

# Here and not in main(): SubprocVecEnv's processes import this file, and need both.
gymnasium.register_envs(ale_py)
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)

TEACHER = "pong-ppo"
PEERS = {
    f"{name}, {games} games": (cls, games)
    for games in (8, 16)
    for name, cls in (("DummyVecEnv", DummyVecEnv), ("SubprocVecEnv", SubprocVecEnv))
}
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


FULL = Sizes(rounds=3, ours=16_384, theirs=4_096, env_steps=500, passes=5, commits=2)
QUICK = Sizes(rounds=1, ours=1_024, theirs=256, env_steps=32, passes=2, commits=1)


class Loop:
    """The peer: stable-baselines3's environments and autograd.

    Args:
        cls: DummyVecEnv or SubprocVecEnv.
        games: how many side by side.
        teacher: who acts and labels.
        device: where its network runs.
    """

    def __init__(self, cls: type[VecEnv], games: int, teacher: Teacher, device: torch.device) -> None:
        settings = {"start_method": "forkserver"} if cls is SubprocVecEnv else {}
        env = make_atari_env("PongNoFrameskip-v4", games, seed=1, vec_env_cls=cls, vec_env_kwargs=settings)
        self.env, self.net, self.device = VecFrameStack(env, 4), teacher.net, device
        self.obs = self.env.reset()

    def record(self, states: int, path: Path) -> float:
        """Play, label and save so many states; returns states per second."""
        table: dict[str, list[np.ndarray]] = defaultdict(list)
        started = time.perf_counter()
        for _ in range(states // self.env.num_envs):
            # Frames are the last axis here, so permuting gives a channels-last batch: the faster layout on a CPU.
            x = torch.from_numpy(self.obs).to(self.device).permute(0, 3, 1, 2).float().div_(255).requires_grad_()
            logits = self.net(x)
            v = torch.randn_like(logits)
            v -= v.mean(1, keepdim=True)
            v /= v.norm(dim=1, keepdim=True)
            (vjp,) = torch.autograd.grad(logits, x, v)
            action = torch.distributions.Categorical(logits=logits.detach()).sample().cpu().numpy()
            columns = {"logits": logits.detach(), "v": v, "vjp": vjp.half()}
            for name, column in columns.items():
                table[name].append(column.cpu().numpy())
            table["obs"].append(self.obs)  # a fresh array every step
            table["action"].append(action)
            self.obs, reward, done, _ = self.env.step(action)
            table["reward"].append(reward)
            table["done"].append(done)
        np.savez(path, **{name: np.concatenate(parts) for name, parts in table.items()})
        return states / (time.perf_counter() - started)


def ours(states: int, folder: Path, device: str) -> float:
    """States per second of one ``distill collect`` with default settings into a new folder."""
    config = Config(env="pong", teacher=TEACHER, device=device, collect=CollectConfig(out=str(folder), states=states))
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
            writer.commit(self._shard, {"next_episode": 0, "jacobian_square_sum": 0.0, "games": []})
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
    multiprocessing.set_forkserver_preload(["stable_baselines3", "ale_py"])  # or every process imports PyTorch anew
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        loops = {name: Loop(cls, games, teacher, device) for name, (cls, games) in PEERS.items()}
        for loop in loops.values():
            loop.record(64, scratch / "warm.npz")
        ours(max(BATCHES), scratch / "warm", args.device)
        parts: Parts | None = None
        for number in range(sizes.rounds):
            folder = scratch / f"ours-{number}"
            rates["ours"].append(ours(sizes.ours, folder, args.device))
            for name, loop in loops.items():
                rates[name].append(loop.record(sizes.theirs, scratch / "theirs.npz"))
            parts = parts or Parts(teacher, folder, scratch, sizes, device)
            alone.append(parts.measure())
            shutil.rmtree(folder)
        assert parts is not None
        parts.close()
        for loop in loops.values():
            loop.env.close()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    bound, details = _bound(alone)
    details = {"states_per_second": {name: round(rate) for name, rate in medians.items()}, **details}
    details |= {"ours_states": sizes.ours, "theirs_states": sizes.theirs, "rounds": sizes.rounds}
    fastest = max(PEERS, key=lambda name: medians[name])
    mine = medians["ours"]
    return [
        Row(
            "collection, logits + Jacobian (K=1)",
            "SB3 make_atari_env + VecFrameStack, forward + autograd vjp a step",
            mine / medians[fastest], "x", ">= 3", {"fastest_peer": fastest, **details},
        ),
        Row(
            "collection",
            "1 / (1/env + 1/forward + 1/vjp + 1/write), each alone at its best",
            mine / bound, "x", ">= 0.85", {"bound_states_per_second": round(bound), **details},
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main(measure, __doc__ or "")
