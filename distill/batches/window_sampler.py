"""Batches of data beyond memory: shards are shuffled, and then the states of a few of them at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from distill.batches.sampler import Sampler
from distill.batches.source import Index
from distill.system.streams import generator

OVERLAP = 2
"""Batches of a window in which states that the window before it had left over still come."""


class WindowSampler(Sampler):
    """Shuffled epochs as a ``Sampler``'s, but a window of whole shards after the other.

    Every epoch puts the shards in a new order; each window's states are shuffled among themselves. What does not fill a
    batch goes to the next window, as its first states. All is a function of (seed, step), whatever is held in memory.

    Args:
        index: states to train on, sorted.
        batch_size: of each step.
        seed: of the order.
        starts: first state of each shard, and behind the last.
        window: shards that are shuffled together.
        carries: see ``Sampler``.
        share: see ``Sampler``.
    """

    def __init__(
        self,
        index: Index,
        batch_size: int,
        seed: int,
        starts: Index,
        window: int,
        *,
        carries: npt.NDArray[np.bool_] | None = None,
        share: float = 1.0,
    ) -> None:
        super().__init__(index, batch_size, seed, carries=carries, share=share)
        self._bounds = np.searchsorted(index, starts)
        self._shards = np.flatnonzero(np.diff(self._bounds))  # that have states to train on
        self._window = window
        self._number, self._first_batch, self._batches = -1, 0, 0
        self._shuffled, self._left = self._shards, self._shards[:0]

    def batch(self, step: int) -> Index:
        """Indices of the states of batch ``step`` (0, 1, ...), int64 (batch_size,)."""
        place = self._seek(step) - self._first_batch
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]

    def shards(self, step: int) -> Sequence[int]:
        """Those of the batch's window, and of the one before or after it: two windows at most."""
        place = self._seek(step) - self._first_batch
        near = -1 if place < OVERLAP and self._number > 0 else 1
        beside = self._of(self._number + near) or self._shuffle(self._epoch + 1)[: self._window].tolist()
        return [*self._of(self._number), *beside]

    def _of(self, window: int) -> list[int]:
        """The shards of a window of this epoch; none behind the last."""
        shards: list[int] = self._shuffled[window * self._window : (window + 1) * self._window].tolist()
        return shards

    def _shuffle(self, epoch: int) -> Index:
        """The order of the shards in an epoch."""
        return generator("window of shards", self.seed, epoch).permutation(self._shards)

    def _seek(self, step: int) -> int:
        """Make the window that has a step's batch the current one; returns the batch's place in the epoch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch or place < self._first_batch:
            self._epoch = epoch
            self._shuffled = self._shuffle(epoch)
            self._number, self._first_batch, self._batches = -1, 0, 0
            self._left = np.empty(0, np.int64)
        while place >= self._first_batch + self._batches:
            self._next()
        return place

    def _next(self) -> None:
        """Go on to the next window."""
        self._number += 1
        self._first_batch += self._batches
        own = [np.arange(*self._bounds[shard : shard + 2]) for shard in self._of(self._number)]
        drawn = generator("states of a window", self.seed, self._epoch, self._number)
        pool = np.concatenate([self._left, drawn.permutation(np.concatenate(own))])
        self._batches = len(pool) // self.batch_size
        used = self._batches * self.batch_size
        self._left = pool[used:]
        self._order = self.index[self._stratified(pool[:used], self._batches)] if used else pool[:0]
