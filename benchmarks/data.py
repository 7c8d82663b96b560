"""Datasets to measure on: collected for real, and the same states many times over."""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
from pathlib import Path

from distill.collect.pipeline import collect
from distill.config import CollectConfig, Config
from distill.dataset.reader import read_record


def collected(folder: Path, states: int) -> Path:
    """States of Pong, played and labelled by the bundled teacher."""
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
    each = int(read_record(shard)["states"])
    for number in range(math.ceil(states / each)):
        copy = folder / "shards" / f"{writer}-{number:05d}"
        copy.mkdir(parents=True)
        for file in shard.iterdir():
            os.link(file, copy / file.name)
    return folder
