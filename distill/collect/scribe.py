"""Labelling and writing in a thread of their own, while the games go on."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from distill.collect.actor import Policy
from distill.collect.label import Labeller, Labels, Seen, fill
from distill.collect.rollout import Recording
from distill.dataset.writer import DatasetWriter

BATCH = 256
"""States labelled at once."""
AHEAD = 8
"""Batches that play may be ahead of labelling: what bounds the memory."""


class Scribe:
    """Labels states as they are played, and commits shards.

    Args:
        labeller: what the teacher says.
        writer: where it goes.
        player: whose actions are played; where that is the teacher, its forward pass is not made twice.
        seed: seeds the projections, with the shard's number.
    """

    def __init__(self, labeller: Labeller, writer: DatasetWriter, player: Policy, seed: int) -> None:
        self.labeller, self.writer, self._player, self._seed = labeller, writer, player, seed
        self.seconds = {"label": 0.0, "write": 0.0}
        self._pool = ThreadPoolExecutor(1)
        self._shard: Future[None] | None = None
        self._number = len(writer.shards)
        self._start_shard()

    def __enter__(self) -> Scribe:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown()  # a shard that was played whole is still written

    def see(self, obs: npt.NDArray[np.uint8], keep: npt.NDArray[np.bool_]) -> None:
        """Note the states of one step that are recorded, right after the player acted on them."""
        if not keep.any():
            return
        if self._player is self.labeller.policy:
            seen = Seen(self._player.tape, None if keep.all() else torch.from_numpy(np.flatnonzero(keep)), None)
        else:
            seen = Seen(None, None, obs[keep])
        self._seen.append(seen)
        self._count += int(keep.sum())
        if self._count >= BATCH:
            self._label()

    def commit(self, recording: Recording, facts: dict[str, Any]) -> None:
        """Write the states seen since the last call as one shard; returns before that is done."""
        if self._seen:
            self._label()
        self._shard = self._pool.submit(self._finish, recording, self._blocks, facts)
        self._number += 1
        self._start_shard()

    def settle(self) -> None:
        """Wait for the last commit; raises what went wrong in it."""
        if self._shard is not None:
            self._shard.result()

    def _start_shard(self) -> None:
        entropy = np.random.default_rng([self._seed, self._number]).integers(2**62)
        self._generator = torch.Generator().manual_seed(int(entropy))
        self._seen: list[Seen] = []
        self._blocks: list[Future[Labels]] = []
        self._count = 0

    def _label(self) -> None:
        if len(self._blocks) >= AHEAD:
            self._blocks[-AHEAD].result()
        self._blocks.append(self._pool.submit(self._timed_label, self._seen, self._generator))
        self._seen, self._count = [], 0

    def _timed_label(self, block: list[Seen], generator: torch.Generator) -> Labels:
        started = time.perf_counter()
        labels = self.labeller.label(block, generator)
        self.seconds["label"] += time.perf_counter() - started
        return labels

    def _finish(self, recording: Recording, blocks: list[Future[Labels]], facts: dict[str, Any]) -> None:
        started = time.perf_counter()
        labels = [block.result() for block in blocks]  # done: one thread takes one task after the other
        projected = self.labeller.identity.jacobian == "projected"
        square_sum = fill(recording.arrays, labels, recording.order, projected=projected)
        games = [{"score": game.score, "length": game.length} for game in recording.games]
        self.writer.commit(recording.arrays, facts | {"jacobian_square_sum": square_sum, "games": games})
        self.seconds["write"] += time.perf_counter() - started
