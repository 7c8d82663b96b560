"""Which states each batch of a training has: shuffled as a whole, in windows of shards, or part by part."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from distill.batches.parts import EVERY, PartedSampler, parts_of, size_of_part
from distill.batches.sampler import Order, Sampler
from distill.batches.source import Index
from distill.batches.window_sampler import Sliding, WindowSampler
from distill.dataset.reader import Dataset
from distill.train.auto import Plan
from distill.train.settings import TrainRun
from distill.train.team import ALONE, Team


def make_sampler(config: TrainRun, plan: Plan, dataset: Dataset, train_index: Index, team: Team = ALONE) -> Order:
    """Batches of the training states, those first that carry the derivatives that the objective reads.

    Raises:
        UserError: too few carry any, or the parts cannot share a batch equally.
    """
    o, t = config.objective, config.train
    carries: npt.NDArray[np.bool_] | None = None
    if o.derivatives and o.jacobian_targets == "stored":
        carries = dataset.carries[train_index]
        carries = None if carries.all() else carries
    starts, window, share = dataset.shard_starts, t.window_shards, plan.jacobian_share
    if t.parts == 1 and not window:
        return Sampler(train_index, t.batch_size, config.seed, carries=carries, share=share)
    if t.parts == 1:
        return WindowSampler(
            train_index, t.batch_size, config.seed, Sliding(starts, window), carries=carries, share=share
        )
    size = size_of_part(t.batch_size, t.parts, None if carries is None else share)
    parts = [
        WindowSampler(
            train_index[mine], size, config.seed, Sliding(starts, window or EVERY, number),
            carries=None if carries is None else carries[mine], share=share,
        )
        for number, mine in enumerate(parts_of(train_index, starts, t.parts))
    ]  # fmt: skip
    return PartedSampler(parts, slice(team.rank, None, team.world))
