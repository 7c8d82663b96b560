"""A random shift of each batch by some pixels (Kostrikov et al. 2021, arXiv 2004.13649)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from distill.api import Batch, Targets
from distill.system.streams import generator
from studies.atari.ideas.idea import Idea
from studies.atari.perturb import shifted

SHIFT = 4
"""At most so many pixels in each direction."""


class RandomShift(Idea):
    """See the module."""

    def stream(self, batches: Iterator[Batch], seed: int) -> Iterator[Batch]:
        """See ``Idea``."""
        rng = generator("random shift", seed)
        return (moved(batch, rng) for batch in batches)


def moved(batch: Batch, rng: np.random.Generator) -> Batch:
    """The whole batch shifted by some pixels, with its derivatives; labels stay."""
    down, right = (int(rng.integers(-SHIFT, SHIFT + 1)) for _ in range(2))
    t = batch.targets
    if t is not None:
        scale = None if t.scale is None else shifted(t.scale.unsqueeze(-1), down, 0).squeeze(-1)
        t = Targets(t.v, shifted(t.vjp, down, right), scale)
    return dataclasses.replace(batch, obs=shifted(batch.obs, down, right).contiguous(), targets=t)
