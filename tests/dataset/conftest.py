"""Small synthetic shards: every field is noise, so that any mix-up shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.dataset.schema import ShardArrays
from distill.dataset.writer import DatasetWriter
from distill.records.dataset import Identity, Played

IDENTITY = Identity(
    game="pong",
    rom_md5="00ff",
    preset="sb3",
    preset_hash="abc",
    teacher="0123456789abcdef",
    jacobian="projected",
    k=2,
    law="sphere",
    space="logits",
    codec="int8",
)
BEHAVIOUR = {"actor": "teacher", "behaviour": "sampled", "seed": 1}


@pytest.fixture(scope="session")
def identity() -> Identity:
    return IDENTITY


@pytest.fixture(scope="session")
def make_arrays() -> Callable[..., ShardArrays]:
    """``make_arrays(states, seed, episode=0)``: one shard of one game."""

    def make(states: int, seed: int = 0, episode: int = 0, rows: int = 2) -> ShardArrays:
        rng = np.random.default_rng(seed)
        return ShardArrays(
            frames=rng.integers(0, 256, (10 * states + 3, 84, 84), np.uint8),
            pos=3 + 10 * np.arange(states),
            episode=np.full(states, episode),
            t=rng.integers(0, 1000, states, np.int32),
            action=rng.integers(0, 6, states).astype(np.int16),
            reward=rng.standard_normal(states).astype(np.float32),
            terminated=rng.random(states) < 0.5,
            truncated=rng.random(states) < 0.5,
            life_lost=rng.random(states) < 0.5,
            logits=rng.standard_normal((states, 6)).astype(np.float32),
            value=rng.standard_normal(states).astype(np.float32),
            v=rng.standard_normal((states, rows, 6)).astype(np.float32),
            jacobian=rng.integers(-127, 128, (states, rows, 4, 84, 84), np.int8),
            row_scale=rng.random((states, rows, 4, 84)).astype(np.float16),
            gain=rng.random((states, rows)).astype(np.float32),
        )

    return make


@pytest.fixture
def open_writer(identity: Identity) -> Iterator[Callable[..., DatasetWriter]]:
    """``open_writer(folder, writer="a", identity=..., **behaviour)``; closed after the test."""
    opened: list[DatasetWriter] = []

    def make(folder: Path, writer: str = "a", identity: Identity = identity, **behaviour: Any) -> DatasetWriter:
        opened.append(DatasetWriter(folder, identity, writer, {**BEHAVIOUR, **behaviour}, {"name": "pong"}))
        return opened[-1]

    yield make
    for writer in opened:
        writer.close()


@pytest.fixture
def facts() -> Callable[[int], Played]:
    """What a shard's record needs beside counts."""
    return lambda next_episode: Played(next_episode, 1.5)


@pytest.fixture
def three_shards(
    tmp_path: Path,
    open_writer: Callable[..., DatasetWriter],
    make_arrays: Callable[..., ShardArrays],
    facts: Callable[[int], Played],
) -> tuple[Path, list[ShardArrays]]:
    """A dataset of one writer, 3 shards of 5, 30 and 2 states, and what went in; 303 frames take two chunks."""
    folder = tmp_path / "data"
    writer = open_writer(folder)
    shards = [make_arrays(states, seed, episode=seed) for seed, states in enumerate((5, 30, 2))]
    for number, arrays in enumerate(shards):
        writer.commit(arrays, facts(number + 1))
    writer.close()
    return folder, shards
