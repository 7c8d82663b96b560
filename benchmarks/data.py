"""Datasets to measure on: collected for real, and the same states many times over."""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from distill.collect.settings import CollectConfig
from distill.config.config import Config
from distill.dataset.shards import read_record
from distill.losses.projection import sample
from distill.losses.sobolev import states_of_share
from distill.losses.targets import Targets


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


def collected(folder: Path, states: int) -> Path:
    """States of Pong, played and labelled by the bundled teacher."""
    from distill.config.stages import collect

    with contextlib.redirect_stdout(io.StringIO()):
        collect(Config(env="pong", collect=CollectConfig(out=str(folder), states=states, shard_states=states)))
    return folder


def tiled(folder: Path, source: Path, states: int) -> Path:
    """A dataset of at least ``states`` states: the one shard of ``source`` again and again.

    Derivatives are hard links, so they take no more disk, and no more page cache, than those of ``source``.
    """
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("shards"))
    (shard,) = (source / "shards").iterdir()
    writer, first = shard.name.rsplit("-", 1)
    assert int(first) == 0
    each = read_record(shard).states
    for number in range(math.ceil(states / each)):
        copy = folder / "shards" / f"{writer}-{number:05d}"
        copy.mkdir(parents=True)
        for file in shard.iterdir():
            os.link(file, copy / file.name)
    return folder
