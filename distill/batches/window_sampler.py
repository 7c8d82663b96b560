"""Batches of data beyond memory: drawn from a window of shards, which slides over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distill.batches.sampler import Sampler
from distill.batches.source import Index
from distill.system.streams import generator

OVERLAP = 2
"""Batches after a slide in which states that were left over before it still come."""


@dataclass(frozen=True)
class Sliding:
    """What slides over which shards."""

    starts: Index
    """First state of each shard, and behind the last."""
    window: int
    """W, shards that are shuffled together."""
    part: int = 0
    """Of the data, whose order is unlike that of the other parts."""


class WindowSampler(Sampler):
    """Shuffled epochs as a ``Sampler``'s, but a batch has states of a window of shards only.

    Every epoch puts the shards in a new order, in a circle. A window of W shards goes round it, a shard at a time. Each
    shard's states are shuffled and dealt to the W places of the window that it is in, so that every state comes once;
    the states of a place are shuffled among themselves, and those that do not fill a batch come first at the next one.
    All is a function of (seed, step), whatever is held in memory.

    Args:
        index: states to train on, sorted.
        batch_size: of each step.
        seed: of the order.
        sliding: the window and the shards.
        carries: see ``Sampler``.
        share: see ``Sampler``.
    """

    def __init__(
        self,
        index: Index,
        batch_size: int,
        seed: int,
        sliding: Sliding,
        *,
        carries: npt.NDArray[np.bool_] | None = None,
        share: float = 1.0,
    ) -> None:
        super().__init__(index, batch_size, seed, carries=carries, share=share)
        self._key = (seed, sliding.part) if sliding.part else (seed,)
        self._bounds = np.searchsorted(index, sliding.starts)
        self._shards = np.flatnonzero(np.diff(self._bounds))  # that have states to train on
        self._window = min(sliding.window, len(self._shards))
        self._place, self._first_batch, self._batches = -1, 0, 0
        self._circle, self._left = self._shards, self._shards[:0]

    def batch(self, step: int) -> Index:
        """Indices of the states of batch ``step`` (0, 1, ...), int64 (batch_size,)."""
        number = self._seek(step) - self._first_batch
        return self._order[number * self.batch_size : (number + 1) * self.batch_size]

    def shards(self, step: int) -> Sequence[int]:
        """The window of the batch, and the shard that leaves it or comes next: W + 1."""
        number = self._seek(step) - self._first_batch
        window = self._at(self._circle, self._place)
        if number < OVERLAP and self._place > 0:
            return [*window, *self._at(self._circle, self._place - 1)[:1]]
        if self._place + 1 < len(self._shards):
            return [*window, *self._at(self._circle, self._place + 1)[-1:]]
        after = self._at(self._shuffle(self._epoch + 1), 0)
        return [*window, *[shard for shard in after if shard not in window][:1]]

    def _at(self, circle: Index, place: int) -> list[int]:
        """The window's shards, the oldest one first."""
        shards: list[int] = circle[np.arange(place - self._window + 1, place + 1) % len(circle)].tolist()
        return shards

    def _shuffle(self, epoch: int) -> Index:
        """The order of the shards in an epoch."""
        return generator("circle of shards", *self._key, epoch).permutation(self._shards)

    def _seek(self, step: int) -> int:
        """Bring the window to where a step's batch is; returns the batch's number in the epoch."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch or number < self._first_batch:
            self._epoch, self._circle = epoch, self._shuffle(epoch)
            self._place, self._first_batch, self._batches = -1, 0, 0
            self._left = self._shards[:0]
        while number >= self._first_batch + self._batches:
            self._slide()
        return number

    def _slide(self) -> None:
        """Go on by a shard."""
        self._place += 1
        self._first_batch += self._batches
        dealt = [self._dealt(shard, age) for age, shard in enumerate(reversed(self._at(self._circle, self._place)))]
        drawn = generator("states of a window", *self._key, self._epoch, self._place)
        pool = np.concatenate([self._left, drawn.permutation(np.concatenate(dealt))])
        self._batches = len(pool) // self.batch_size
        used = self._batches * self.batch_size
        self._left = pool[used:]
        self._order = self.index[self._stratified(pool[:used], self._batches)] if used else pool[:0]

    def _dealt(self, shard: int, age: int) -> Index:
        """Those of a shard's states that come when it has been in the window for ``age`` slides."""
        states = np.arange(*self._bounds[shard : shard + 2])
        order = generator("states of a shard", *self._key, self._epoch, shard).permutation(states)
        if self._carries is not None:  # each deal has equally many that carry derivatives
            order = order[np.argsort(~self._carries[order], kind="stable")]
        return order[age :: self._window]
