"""What a collection did, and how it is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from distill.dataset.shards import read_record
from distill.envs.step import Game
from distill.system.mirror import SHARD
from distill.system.progress import print_table

PARTS = {"env": "env", "actor": "actor", "label": "logits and Jacobians", "write": "write"}


@dataclass
class Summary:
    """What a collection did."""

    folder: Path
    """The dataset."""
    writer: str
    """This stream's name; of several writers, what their names begin with."""
    states: int
    """States this writer has committed, earlier runs included; of several writers, those of the dataset."""
    added: int
    """States added by this run."""
    games: list[Game] = field(default_factory=list)
    """Games that ended in this run."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each part ran: env and actor (one after the other) beside label and write; mean of several writers."""
    wall: float = 0.0
    """Wall-clock from the first step to the last commit."""
    cpu: float = 0.0
    """Processor seconds of who played and labelled, all threads of all writers' processes, from the first step on."""
    bytes_per_state: float = 0.0
    """Bytes on disk per state, over all committed shards of this writer, or of these writers."""


def bytes_of(shards: Iterable[Path]) -> int:
    """Bytes of committed shards, whether their files are here or in a store."""
    return sum(
        (shard / SHARD).stat().st_size + sum(mark.bytes for mark in read_record(shard).files.values())
        for shard in shards
    )


def scores(games: Sequence[Game]) -> str:
    """In words."""
    if not games:
        return "no game finished yet"
    return f"{len(games)} games, mean score {np.mean([game.score for game in games]):.1f}"


def show(summary: Summary) -> None:
    """Print a table."""
    shares = ", ".join(f"{text} {summary.seconds.get(part, 0.0):.0f} s" for part, text in PARTS.items())
    rows = [
        ("dataset", str(summary.folder)),
        ("writer", summary.writer),
        ("states", f"{summary.states:,} ({summary.added:,} new)"),
        ("finished games", scores(summary.games)),
        ("speed", f"{summary.added / summary.wall:,.0f} states/s"),
        ("time", f"{summary.wall:.0f} s; side by side: {shares}"),
        ("size", f"{summary.bytes_per_state / 1024:.1f} KiB per state"),
    ]
    print_table("collected", ("", ""), rows)
