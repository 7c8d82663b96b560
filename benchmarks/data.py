"""Datasets to measure on: collected for real, and the same states many times over."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save
from torch import Tensor

from distill.collect.settings import CollectConfig
from distill.config.config import Config
from distill.dataset.repeats import play_digest
from distill.dataset.shards import load_shard
from distill.losses.projection import sample
from distill.losses.sobolev import states_of_share
from distill.losses.targets import Targets
from distill.records.dataset import FileMark, read_shard, read_writer, write_shard, write_writer
from distill.system.files import sha256


@dataclass
class Inputs:
    """One batch of a training step."""

    obs: Tensor
    logits: Tensor
    targets: Targets


def random_batch(batch: int, actions: int, device: torch.device, share: float = 1.0) -> Inputs:
    """Random numbers in the shapes and types of a stored batch, K = 1: speed does not depend on what they are.

    The share of it, its first states, carries derivatives.
    """
    carrying = states_of_share(share, batch)
    generator = torch.Generator().manual_seed(0)
    obs = torch.randint(0, 256, (batch, 4, 84, 84), generator=generator, dtype=torch.uint8)
    logits = torch.randn(batch, actions, generator=generator)
    codes = torch.randint(-127, 128, (carrying, 1, 4, 84, 84), generator=generator).to(torch.int8)
    scale = 1e-4 * torch.rand(carrying, 1, 4, 84, generator=generator)
    v = sample("sphere", logits[:carrying], 1, generator)
    return Inputs(obs.to(device), logits.to(device), Targets(v.to(device), codes.to(device), scale.to(device)))


def collected(folder: Path, states: int, shards: int = 1, jacobian_share: float = 1.0) -> Path:
    """States of Pong, played and labelled by the bundled teacher; a share of them with derivatives."""
    from distill.config.stages import collect

    with contextlib.redirect_stdout(io.StringIO()):
        settings = CollectConfig(
            out=str(folder), states=states, shard_states=states // shards, jacobian_share=jacobian_share
        )
        collect(Config(env="pong", collect=settings))
    return folder


def tiled(folder: Path, source: Path, states: int) -> Path:
    """A data set of at least so many states: those of ``source`` many times over.

    Rewards and first actions differ from copy to copy, so that shards and games are different ones. Derivatives are
    hard links, so they take no more disk, and no more page cache, than those of ``source``.
    """
    (folder / "writers").mkdir(parents=True)
    (folder / "dataset.json").write_bytes((source / "dataset.json").read_bytes())
    shards = sorted((source / "shards").iterdir())
    writer = shards[0].name.rsplit("-", 1)[0]
    tensors = [load_file(shard / "steps.safetensors") for shard in shards]
    arrays = [load_shard(shard, jacobian=False) for shard in shards]
    records = [read_shard(shard / "shard.json") for shard in shards]
    games, count = records[-1].next_episode, math.ceil(states / records[0].states)
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
    states = sum(records[number % len(shards)].states for number in range(count))
    write_writer(folder / "writers" / f"{writer}.json", dataclasses.replace(known, shards=count, states=states))
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
