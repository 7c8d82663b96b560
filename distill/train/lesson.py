"""What one dataset teaches one network: the parts of ``distill train`` that are not the loop's."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping

from torch import nn

from distill.batches.loader import Batch, batches
from distill.engine.step import make_engine, make_step
from distill.figures.fidelity import Fidelity, fidelity
from distill.losses.sobolev import Losses
from distill.networks.parts import NoisyConv2d, NoisyLinear, draws_from
from distill.records.student import Training
from distill.system.device import arithmetic
from distill.system.streams import torch_generator
from distill.task import Task
from distill.train.adversary import Adversary, told_of
from distill.train.auto import carried_share
from distill.train.settings import TrainRun
from distill.train.setup import Data, make_learning_rate, make_objective
from distill.train.team import ALONE, Team


class Lesson:
    """Batches, an objective with its gradient (``fit.Minimised``), figures on held-out games, and papers.

    Args:
        config: settings of the training.
        net: who learns, (B, 4, 84, 84) to (B, A), on the data's device.
        data: of what.
        scale: s, what derivatives are divided by (``setup.scale_of``).
        team: processes that take each step together.
    """

    def __init__(self, config: TrainRun, net: nn.Module, data: Data, scale: float = 1.0, team: Team = ALONE) -> None:
        self.config, self.net, self.data, self._team = config, net, data, team
        precision = arithmetic(data.loader.device, config.train.precision)
        self.engine = make_engine(net, precision) if config.train.engine == "fast" else None
        self.objective = make_objective(config, data.plan, data.dataset, scale)
        self.learning_rate = make_learning_rate(config, data.plan)
        self._step = make_step(net, self.engine, cuda_graph=config.train.cuda_graph)
        self._share = team.share(self.batch_size, carried_share(config, data.plan))
        self._at = 0
        # Weights have one draw in all processes, states draws of their own.
        of_states = any(isinstance(module, NoisyConv2d | NoisyLinear) and not module.on_weights
                        for module in net.modules())  # fmt: skip
        self._apart = (team.rank,) if of_states and team.rank else ()
        attacked = config.train.adversary is not None
        self._adversary = Adversary(config, net, data, team.rank) if attacked else None

    @property
    def task(self) -> Task:
        """What is learned to be played and seen."""
        return self.data.dataset.task

    @property
    def batch_size(self) -> int:
        """States of a step, those of all processes."""
        return self.data.sampler.batch_size

    def batches(self, first: int, last: int, total: int) -> Iterator[Batch]:
        """Batches ``first`` .. ``last - 1`` of ``total``, this process's share of each."""
        carrying = functools.partial(self.objective.carrying, total=total, batch_size=self.batch_size)
        loader, sampler = self.data.loader, self.data.sampler
        for step, batch in enumerate(
            batches(loader, sampler, first, last, carrying=carrying, share=self._share), first
        ):
            self._at = step
            yield batch if self._adversary is None else self._adversary.attacked(batch, step)

    def weights(self, step: int, total: int) -> Mapping[str, float]:
        """Weights of the objective's terms."""
        return self.objective.weights(step, total)

    def gradient(self, batch: Batch, weights: Mapping[str, float]) -> Losses:
        """Losses of the batch that was given last; adds their gradient to every parameter's ``.grad``."""
        with draws_from(torch_generator("noise", self.config.seed, self._at, *self._apart)):
            return self._step(batch.obs, batch.logits, batch.targets, weights, self.objective)

    def score(self) -> Fidelity:
        """Figures on the held-out states, known to every process."""
        data, temperature = self.data, self.objective.temperature
        engine, index = self.engine, data.val_index
        found = self._team.agree(
            fidelity(self.net, engine, data.loader, index, temperature) if self._team.main else None
        )
        assert found is not None
        return found

    def papers(self, scores: Fidelity, steps: int, best_step: int, seconds: float) -> Training:
        """What a student's papers say of this training.

        Args:
            scores: its figures.
            steps: optimizer steps done.
            best_step: step whose weights these are.
            seconds: training time.
        """
        identity, config, o = self.data.dataset.identity, self.config, self.config.objective
        kept = o.jacobian_targets == "stored" and identity.jacobian == "projected"  # with the law of then
        early, late = self.data.plan.rates(o)
        return Training(
            student=config.student.name,
            teacher=identity.teacher,
            teacher_name=self.data.dataset.teacher_name,
            teacher_tau=self.data.dataset.manifest.teacher_tau,
            teacher_preset=identity.teacher_preset,
            teacher_preset_hash=identity.teacher_preset_hash,
            data=self.data.used,
            objective={
                **dataclasses.asdict(o),
                **self.data.plan.objective(),
                "law": identity.law if kept else o.law,
            },
            learning_rate=late,
            early_learning_rate=None if early == late else early,
            jacobian_scale=self.objective.scale,
            seed=config.seed,
            val_fraction=config.train.val_fraction,
            steps=steps,
            best_step=best_step,
            train_seconds=seconds,
            metrics={f"val_{name}": value for name, value in vars(scores).items()},
            adversary=told_of(config.train),
        )
