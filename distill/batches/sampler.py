"""Which states each batch has, a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from distill.batches.source import Index
from distill.errors import UserError
from distill.losses.sobolev import states_of_share
from distill.system.streams import Stream, numbered

OFTEN = 1.5
"""Times an epoch that states which carry derivatives may come, on average; above that, too few carry them."""


def too_few(carrying: float, first: int, batch_size: int, *, batches: int = 1, others: bool) -> bool:
    """Whether states with derivatives would come too often, or leave the others no place.

    Args:
        carrying: states that carry derivatives, of those in ``batches``.
        first: states of each batch that are to carry them.
        batch_size: states of each.
        batches: of a pass over the data.
        others: there are states that carry none.
    """
    return batches * first > OFTEN * carrying or (others and first == batch_size)


class Order(Protocol):
    """Says which states each batch has."""

    batch_size: int
    """States of each."""
    steps_per_epoch: int
    """Batches of a pass over the data."""

    def batch(self, step: int) -> Index:
        """Indices of the states of batch ``step`` (0, 1, ...), int64 (batch_size,)."""

    def shards(self, step: int) -> Sequence[int]:
        """Shards that the batches from ``step`` on need, the first ones first; none where that is all of them."""


class Sampler:
    """Shuffled epochs without replacement; the last, incomplete batch of an epoch is dropped.

    Where only some states carry derivatives, the order is stratified: the first states of every batch do. An epoch has
    each state once, as ever, unless slightly too few carry: then these come again, cyclically, and as many others are
    left out, drawn anew every epoch.

    Args:
        index: states to train on.
        batch_size: of each step.
        seed: of the order.
        carries: which of ``index`` carry derivatives, bool; None where all do, or none need to.
        share: of each batch that must.

    Raises:
        UserError: too few carry derivatives for that.
    """

    def __init__(
        self,
        index: Index,
        batch_size: int,
        seed: int,
        *,
        carries: npt.NDArray[np.bool_] | None = None,
        share: float = 1.0,
    ) -> None:
        self.index, self.seed, self._carries = index, seed, carries
        self.batch_size = min(batch_size, len(index))
        self._first = states_of_share(share, self.batch_size)
        self.steps_per_epoch = len(index) // self.batch_size
        self._epoch, self._order = -1, index
        if carries is not None:
            self._check(int(carries.sum()))

    def batch(self, step: int) -> Index:
        """Indices of the states of batch ``step`` (0, 1, ...), int64 (batch_size,)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            shuffled = numbered(Stream.ORDER, self.seed, epoch).permutation(np.arange(len(self.index)))
            self._order = self.index[self._stratified(shuffled, self.steps_per_epoch)]
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]

    def shards(self, step: int) -> Sequence[int]:
        """Shards that the batches from ``step`` on need, the first ones first; none where that is all of them."""
        return ()

    def _stratified(self, shuffled: Index, steps: int) -> Index:
        """The same order, but those that carry derivatives move to the first places of the batches."""
        if self._carries is None:
            return shuffled
        carries = self._carries[shuffled]
        if self._first and not carries.any():
            raise UserError(
                f"none of {len(shuffled):,} training states that are shuffled together carries derivatives; set a "
                "larger --train.window_shards"
            )
        needed = steps * self._first
        early = np.resize(shuffled[carries], (steps, self._first))  # repeats them cyclically
        is_late = ~carries | (np.cumsum(carries) > needed)
        late = shuffled[is_late][: steps * self.batch_size - needed]
        return np.concatenate([early, late.reshape(steps, -1)], 1).ravel()

    def _check(self, carrying: int) -> None:
        others = carrying < len(self.index)
        if too_few(carrying, self._first, self.batch_size, batches=self.steps_per_epoch, others=others):
            raise UserError(
                f"{carrying:,} of {len(self.index):,} training states carry derivatives, too few for {self._first} of "
                f"each batch of {self.batch_size}; set a lower --objective.jacobian_share, a larger "
                "--train.batch_size, or --objective.jacobian_targets=online"
            )
