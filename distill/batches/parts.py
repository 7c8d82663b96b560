"""Data in parts, of whole shards: each batch takes as many states of every part, whoever holds which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from distill.batches.source import Index
from distill.batches.window_sampler import WindowSampler
from distill.errors import UserError
from distill.losses.sobolev import states_of_share

EVERY = 10**6
"""More shards than any dataset has."""


def parts_of(index: Index, starts: Index, count: int) -> list[npt.NDArray[np.int64]]:
    """Which of the training states each part has: places in ``index``, sorted.

    A shard belongs to the part that has fewest training states so far, one shard after the other.

    Args:
        index: states to train on, sorted.
        starts: first state of each shard, and behind the last.
        count: parts.

    Raises:
        UserError: there are fewer shards to train on.
    """
    bounds = np.searchsorted(index, starts)
    members: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(count)]
    sizes = np.zeros(count, np.int64)
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if last > first:
            part = int(sizes.argmin())
            members[part].append(np.arange(first, last))
            sizes[part] += last - first
    if not sizes.all():
        raise UserError(f"--train.parts={count} but only {np.count_nonzero(sizes)} shards have training states")
    return [np.concatenate(mine) for mine in members]


def size_of_part(batch_size: int, count: int, share: float | None) -> int:
    """States of a batch that each part gives.

    Args:
        batch_size: of all parts.
        count: parts.
        share: of the batch that must carry derivatives; None where all do, or none need to.

    Raises:
        UserError: the batch, or those of it that carry derivatives, cannot be shared equally.
    """
    size = batch_size // count
    if size * count != batch_size or not size:
        raise UserError(
            f"--train.batch_size={batch_size} cannot be shared by --train.parts={count} equally; use a multiple"
        )
    if share is not None and states_of_share(share, size) * count != states_of_share(share, batch_size):
        raise UserError(
            f"--objective.jacobian_share={share} gives {states_of_share(share, batch_size)} of {batch_size} states "
            f"derivatives, which --train.parts={count} cannot share equally; choose another share or batch size"
        )
    return size


class PartedSampler:
    """Batches of parts, each shuffled by itself; the states of part p are rows p, p + parts, ... of a batch.

    A part that is smaller than another begins its next epoch earlier, so its states come a little more often.

    Args:
        parts: one of each part.
        mine: which parts this process holds.
    """

    def __init__(self, parts: Sequence[WindowSampler], mine: slice) -> None:
        self._parts, self._mine = parts, parts[mine]
        if len({part.batch_size for part in parts}) > 1:
            raise UserError(
                f"--train.parts={len(parts)}: a part has fewer training states than its share of a batch; use fewer"
            )
        self.batch_size = sum(part.batch_size for part in parts)
        self.steps_per_epoch = sum(len(part.index) for part in parts) // self.batch_size
        """Of the data as a whole."""

    def batch(self, step: int) -> Index:
        """Indices of the states of batch ``step`` (0, 1, ...), int64 (batch_size,)."""
        return np.stack([part.batch(step) for part in self._parts], 1).ravel()

    def shards(self, step: int) -> Sequence[int]:
        """Those of this process's parts."""
        return [shard for part in self._mine for shard in part.shards(step)]
