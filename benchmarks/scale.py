"""Ten million states: opening, step time and memory of a training, against 100,000 states.

    python benchmarks/scale.py --out runs/bench/scale.json
    python benchmarks/scale.py --states 100000 10000000 --window_shards 8

A process of its own opens the data set as ``distill train`` does, a window of shards at a time, and takes Sobolev
steps of a small student. States are 16,384 real ones of Pong many times over: rewards and first actions differ from
copy to copy, so that shards and games are different ones; derivatives, of a sixteenth of the states, are hard links.
Ten million states take 3 GB of disk and are deleted afterwards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import math
import os
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

# isort: split

import numpy as np
from safetensors.numpy import load_file, save

from distill.collect.settings import CollectConfig
from distill.config.config import Config
from distill.config.stages import collect
from distill.config.validate import validated
from distill.dataset.repeats import play_digest
from distill.dataset.shards import load_shard
from distill.losses.settings import ObjectiveConfig
from distill.networks.settings import StudentConfig
from distill.records.dataset import FileMark, read_shard, read_writer, write_shard, write_writer
from distill.system.files import sha256
from distill.train.settings import TrainConfig

SHARD, SHARDS = 4_096, 4
STEPS, WARM = 2_000, 200


def collected(folder: Path) -> Path:
    """A small real data set."""
    settings = CollectConfig(out=str(folder), states=SHARDS * SHARD, shard_states=SHARD, jacobian_share=1 / 16)
    with contextlib.redirect_stdout(io.StringIO()):
        collect(validated(Config(env="pong", seed=1, collect=settings)))
    return folder


def tiled(folder: Path, source: Path, states: int) -> Path:
    """A data set of at least so many states, its shards and games all different ones."""
    (folder / "writers").mkdir(parents=True)
    (folder / "dataset.json").write_bytes((source / "dataset.json").read_bytes())
    shards = sorted((source / "shards").iterdir())
    writer = shards[0].name.rsplit("-", 1)[0]
    tensors = [load_file(shard / "steps.safetensors") for shard in shards]
    arrays = [load_shard(shard, jacobian=False) for shard in shards]
    records = [read_shard(shard / "shard.json") for shard in shards]
    games, count = records[-1].next_episode, math.ceil(states / SHARD)
    for number in range(count):
        copy, place = divmod(number, len(shards))
        target = folder / "shards" / f"{writer}-{number:05d}"
        target.mkdir(parents=True)
        changed = _changed(tensors[place], copy, games)
        (target / "steps.safetensors").write_bytes(save(changed))
        os.link(shards[place] / "jacobian.npy", target / "jacobian.npy")
        told = {name: changed[name] for name in ("reward", "action", "episode")}
        steps = FileMark((target / "steps.safetensors").stat().st_size, sha256(target / "steps.safetensors"))
        record = dataclasses.replace(
            records[place],
            files={**records[place].files, "steps.safetensors": steps},
            next_episode=(copy + 1) * games,
            play=play_digest(dataclasses.replace(arrays[place], **told)),
        )
        write_shard(target / "shard.json", record)
    known = read_writer(source / "writers" / f"{writer}.json")
    write_writer(folder / "writers" / f"{writer}.json", dataclasses.replace(known, shards=count, states=count * SHARD))
    return folder


def _changed(tensors: dict[str, Any], copy: int, games: int) -> dict[str, Any]:
    """The ``copy``-th copy of a shard: another number in a reward, in the first actions, in the games' numbers."""
    reward, action = tensors["reward"].copy(), tensors["action"].copy()
    reward[0] = copy
    starts = np.flatnonzero(np.diff(tensors["episode"], prepend=-1))
    for digit in range(6):
        inside = starts[starts + digit < len(action)] + digit
        action[inside] = (action[inside] + copy // 6**digit) % 6
    return {**tensors, "reward": reward, "action": action, "episode": tensors["episode"] + copy * games}


def settings(folder: str, window_shards: int, hold_data: str) -> Config:
    """Of a small student's training."""
    extra = {"window_shards": window_shards} if window_shards else {}
    train = TrainConfig(data=folder, steps=10**6, batch_size=64, hold_data=hold_data, verify=False, **extra)
    return validated(Config(env="pong", device="cpu", seed=1, student=StudentConfig(name="mnih2013"), train=train,
                            objective=ObjectiveConfig(jacobian_weight=0.01, jacobian_schedule="constant",
                                                      jacobian_until=1.0)))  # fmt: skip


def trainer(folder: str, window_shards: int, hold_data: str) -> dict[str, Any]:
    """Open the data and train a little; seconds and bytes."""
    import torch

    from distill.system.device import pick_device
    from distill.train.lesson import Lesson
    from distill.train.setup import make_student, open_data, scale_of

    config = settings(folder, window_shards, hold_data)
    device = pick_device("cpu")
    torch.set_num_threads(1)
    begun = held()
    started = time.perf_counter()
    data = open_data(config, device)
    opened = time.perf_counter() - started
    started, opened_bytes = time.perf_counter(), held()
    scale = scale_of(config, data)
    scaled = time.perf_counter() - started
    net = make_student(config, data.dataset)
    lesson = Lesson(config, net, data, scale)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    seconds, clock = [], time.perf_counter()
    for step, batch in enumerate(itertools.islice(lesson.batches(0, 10**6, 10**6), STEPS)):
        optimizer.zero_grad()
        lesson.gradient(batch, lesson.weights(step, 10**6))
        optimizer.step()
        now = time.perf_counter()
        seconds.append(now - clock)
        clock = now
    return {
        "states": len(data.dataset), "open_s": opened, "scale_s": scaled, "begun": begun, "opened": opened_bytes,
        "trained": held(), "mean_ms": 1e3 * sum(seconds[WARM:]) / len(seconds[WARM:]),
        "median_ms": 1e3 * statistics.median(seconds[WARM:]), "worst_ms": 1e3 * max(seconds),
    }  # fmt: skip


def held() -> dict[str, int]:
    """Megabytes that this process holds, and held at most."""
    status = Path("/proc/self/status").read_text()
    found = {name: re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "RssAnon", "RssFile", "VmHWM")}
    return {name: round(1.024e-3 * int(match[1])) for name, match in found.items() if match}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--trainer"]:
        print(json.dumps(trainer(sys.argv[2], int(sys.argv[3]), sys.argv[4])))
