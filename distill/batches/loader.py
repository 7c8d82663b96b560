"""Batches: which states, what they look like, and the teacher's derivatives there.

Everything random is a function of (seed, step), so a run resumed at a step sees what an
uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.batches.noise import PixelNoise
from distill.batches.sampler import Order
from distill.batches.source import Index, Source, States, Streamed
from distill.dataset.reader import Dataset
from distill.engine.step import make_passes
from distill.errors import UserError
from distill.losses.matching import blur_matrix
from distill.losses.projection import cotangent, quadrature, sample
from distill.losses.settings import ObjectiveConfig
from distill.losses.targets import Targets
from distill.system.streams import Stream, numbered, torch_numbered
from teachers.protocol import Teacher


@dataclass
class Batch:
    """One batch on the training device."""

    index: Index
    """Which states of the dataset."""
    obs: Tensor
    """uint8 (B, 4, 84, 84), with noise where there is some."""
    logits: Tensor
    """The teacher's logits at these pixels, float (B, A)."""
    targets: Targets | None
    """The teacher's derivatives, of all states or of the first ones; None where none has any."""

    def check(self, step: int) -> None:
        """Raise a UserError where the teacher's derivatives are not finite, so that no setting is to blame."""
        parts = () if self.targets is None else (self.targets.v, self.targets.vjp, self.targets.scale)
        for part in parts:
            bad = None if part is None else ~torch.isfinite(part).flatten(1).all(1)
            if bad is not None and bad.any():
                raise UserError(
                    f"training stopped at step {step}: the teacher's derivatives of state "
                    f"{self.index[int(bad.nonzero()[0])]} are NaN or infinite; run `distill verify` on the dataset"
                )


class Loader:
    """Makes batches of given states.

    Args:
        dataset: where states come from.
        objective: which derivatives are wanted, and how much noise.
        device: where batches go.
        seed: for projections and noise.
        teacher: needed for online targets and for noise.
        source: gives the dataset's states; by default each batch is gathered on the host.
    """

    def __init__(
        self,
        dataset: Dataset,
        objective: ObjectiveConfig,
        device: torch.device,
        seed: int,
        teacher: Teacher | None,
        source: Source | None = None,
    ) -> None:
        self.dataset, self.objective, self.device, self.seed = dataset, objective, device, seed
        self.source: Source = Streamed(dataset, device) if source is None else source
        # A teacher that is here only to label noisy pixels leaves the derivatives to the dataset.
        self.online = teacher is not None and (objective.derivatives or objective.input_noise == 0)
        self._teacher = make_passes(teacher.to(device).net) if teacher is not None else None
        self._noise = PixelNoise(objective.input_noise, seed, device) if objective.input_noise > 0 else None

    def carriers_first(self, index: Index) -> tuple[Index, int]:
        """An order of these states in which those come first whose derivatives are at hand, and how many these are."""
        if self.online:
            return np.arange(len(index)), len(index)
        carries = self.dataset.carries[index]
        return np.argsort(~carries, kind="stable"), int(carries.sum())

    @torch.no_grad()
    def load(
        self, index: Index, step: int, *, carrying: int | None = None, noisy: bool = False, share: slice = slice(None)
    ) -> Batch:
        """The states ``index[share]``; what is random is drawn for all of ``index`` and depends on ``step``.

        Args:
            index: states of the whole batch.
            step: its number.
            carrying: so many states of ``index``, its first ones, carry the teacher's derivatives; by default all.
            noisy: with the objective's noise on the pixels, and the teacher's labels of what results.
            share: which of ``index`` to give.
        """
        mine = index[share]
        count = len(range(len(index) if carrying is None else carrying)[share])
        states = self.source.states(mine, carrying=0 if self.online else count)
        tape = None
        if noisy and self._noise is not None:
            assert self._teacher is not None
            states.obs = self._noise.add(states.obs, step, len(index), share)
            tape = self._teacher.forward(states.obs)
            states.logits = tape.logits
        targets = self._targets(states, tape, index, step, (share, count)) if count else None
        return Batch(mine, states.obs, states.logits, targets)

    def _targets(self, states: States, tape: Any, index: Index, step: int, mine: tuple[slice, int]) -> Targets:
        """``tape``: the teacher's forward pass, where there was one; ``mine``: the share, and how many of it carry."""
        share, count = mine
        k, space = self.objective.k, self.dataset.identity.space
        if self.online:
            assert self._teacher is not None
            v = self._fresh(index, step, k or 1, None if tape is None else tape.logits, share)[:count].to(self.device)
            seeds = torch.stack([cotangent(space, states.logits[:count], row) for row in v.unbind(1)], 1)
            tape = self._teacher.forward(states.obs[:count]) if tape is None else tape.first(count)
            return Targets(v, self._teacher.rows(tape, seeds))
        assert states.codes is not None
        assert states.scale is not None
        if states.v is not None:
            if k is None or k == states.v.shape[1]:
                return Targets(states.v, states.codes, states.scale)
            order = torch.rand(len(index), states.v.shape[1], generator=self._generator(step)).argsort(1)
            which = order[share, :k][:count]
            chosen = (torch.arange(len(which)).unsqueeze(1).to(self.device), which.to(self.device))
            return Targets(states.v[chosen], states.codes[chosen], states.scale[chosen])
        if k is None:
            logits = states.logits[:count] / self.objective.temperature
            v = quadrature(self.objective.law, logits, zero_sum=space == "logits")
        else:
            v = self._fresh(index, step, k, None, share)[:count].to(self.device)
        return Targets(v, torch.einsum("bra,bachw->brchw", v, states.codes * states.scale.unsqueeze(-1)))

    def _fresh(self, index: Index, step: int, k: int, relabelled: Tensor | None, share: slice) -> Tensor:
        """Projections of the objective's law for ``index[share]``, float (B, k, A), on the host."""
        o, space = self.objective, self.dataset.identity.space
        logits = torch.from_numpy(self.dataset.logits[index])
        if relabelled is not None:
            logits[share] = relabelled.cpu()
        return sample(o.law, logits / o.temperature, k, self._generator(step), zero_sum=space == "logits")[share]

    def _generator(self, step: int) -> torch.Generator:
        return torch_numbered(Stream.PROJECTIONS, self.seed, step)

    def mean_square(self, index: Index, temperature: float, blur: float) -> float:
        """s: mean of ||J_T^T v||^2 after temperature and blur, over at most 2,048 of the states that carry it."""
        carrying = index if self.online else index[self.dataset.carries[index]]
        chosen = np.sort(numbered(Stream.SCALE, self.seed).permutation(carrying)[:2048])
        smooth = blur_matrix(blur).to(self.device) if blur else None
        total = 0.0
        for number, start in enumerate(range(0, len(chosen), 256)):
            targets = self.load(chosen[start : start + 256], number).targets
            assert targets is not None
            for part in targets.square_sums(smooth):
                total += part
        return total / len(chosen) / temperature**2


def batches(
    loader: Loader,
    sampler: Order,
    first: int,
    last: int,
    *,
    carrying: Callable[[int], int] | None = None,
    share: slice = slice(None),
) -> Iterator[Batch]:
    """Batches ``first`` .. ``last - 1`` to train on, or this process's share of them.

    ``carrying``: how many states of the batch of a step carry derivatives; by default all. Where none does, nothing of
    derivatives is read or computed.

    What must be sent to a GPU is made and sent in the background while the last batch is used. On a CPU a
    second thread would only take the cores from the step, so a batch is made in between; what is not in
    memory is asked for one step ahead.
    """
    count = (lambda step: sampler.batch_size) if carrying is None else carrying

    def load(step: int) -> Batch:
        loader.dataset.want(sampler.shards(step))
        return loader.load(sampler.batch(step), step, carrying=count(step), noisy=True, share=share)

    streamed = isinstance(loader.source, Streamed)
    if streamed and loader.device.type == "cuda":
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(load, first) if first < last else None
            for step in range(first, last):
                assert ahead is not None
                batch = ahead.result()
                ahead = pool.submit(load, step + 1) if step + 1 < last else None
                yield batch
        return
    for step in range(first, last):
        batch = load(step)
        if streamed and step + 1 < last:
            stored = 0 if loader.online else len(range(count(step + 1))[share])
            loader.dataset.ask_for(sampler.batch(step + 1)[share], carrying=stored)
        yield batch
