"""What a round learns from: all states so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from distill.batches.loader import Batch, batches
from distill.dataset.reader import Dataset
from distill.engine.step import make_engine, make_step
from distill.envs.settings import CommonConfig
from distill.errors import UserError
from distill.imitate.begin import Parts, Run
from distill.losses.sobolev import Losses
from distill.networks.parts import draws_from
from distill.rounds.settings import RoundsRun
from distill.system.settings import part
from distill.system.streams import torch_generator
from distill.train.auto import Plan
from distill.train.order import make_sampler
from distill.train.settings import TrainConfig, TrainRun
from distill.train.setup import check_scale, make_loader


class Lesson:
    """Batches of a data set, and the objective with its gradient (``fit.Minimised``).

    Args:
        run: who learns; s is measured on its first round and kept in its progress.
        config: settings.
        parts: the objective, and where the states are.
        place: how far the run is, in steps (0, 1, ..., ``total`` - 1); schedules follow it.
        total: steps in all.
        verify: compare the data's checksums.

    Raises:
        UserError: the data is damaged, or has no derivatives to match.
    """

    def __init__(
        self, run: Run, config: RoundsRun, parts: Parts, place: Callable[[], int], total: int, *, verify: bool
    ) -> None:
        assert parts.keeper is not None
        c, o = config.imitate, config.objective
        asked = TrainRun(
            **vars(part(config, CommonConfig)),
            objective=o if config.rounds.derivatives else dataclasses.replace(o, jacobian_weight=0.0),
            train=TrainConfig(batch_size=c.batch_size),
        )
        dataset = Dataset(parts.keeper.writer.folder, verify=verify)
        self._loader, index = make_loader(asked, dataset, run.device), np.arange(len(dataset))
        plan = Plan(parts.objective.jacobian_share, parts.objective.jacobian_until, c.learning_rate, c.learning_rate)
        try:
            self._sampler = make_sampler(asked, plan, dataset, index)
        except UserError as error:  # it speaks of another stage's settings
            raise UserError(str(error).replace("--train.batch_size", "--imitate.batch_size")) from error
        self._step = make_step(run.net, make_engine(run.net))
        self._place, self._total, self._seed = place, total, config.seed
        self.objective = parts.objective
        if self.objective.jacobian_weight > 0:
            if run.progress.jacobian_scale == 0:
                run.progress.jacobian_scale = self._loader.mean_square(index, o.temperature, o.jacobian_blur)
                check_scale(dataset, run.progress.jacobian_scale)
            self.objective = dataclasses.replace(self.objective, scale=run.progress.jacobian_scale)

    @property
    def batch_size(self) -> int:
        """States of a step."""
        return self._sampler.batch_size

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Batches ``first`` .. ``last - 1``."""

        def carrying(step: int) -> int:
            return self.objective.carrying(self._place(), self._total, self.batch_size)

        return batches(self._loader, self._sampler, first, last, carrying=carrying)

    def weights(self, step: int, total: int) -> Mapping[str, float]:
        """See ``Minimised``."""
        return self.objective.weights(self._place(), self._total)

    def gradient(self, batch: Batch, weights: Mapping[str, float]) -> Losses:
        """See ``Minimised``."""
        with draws_from(torch_generator("noise", self._seed, self._place())):
            return self._step(batch.obs, batch.logits, batch.targets, weights, self.objective)
