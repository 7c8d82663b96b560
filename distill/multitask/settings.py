"""Settings of ``distill multitask``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from distill.errors import UserError
from distill.evaluate.settings import EvaluateRun, fills, refuse_attack_without
from distill.system.ranges import POSITIVE, ZERO_OR_MORE, Range
from distill.system.settings import Section, changed, require
from distill.train.settings import TrainRun

OF_ONE_RUN = ("data", "out", "epochs", "last_step", "fork_from", "cuda_graph", "patience")
"""Settings of ``train`` that have no meaning here."""


@dataclass(frozen=True)
class MultitaskConfig(Section):
    """One trunk, a head for each game; a batch of each dataset in turn."""

    data: list[str] = field(default_factory=list)
    """Datasets, as [data/pong, data/breakout]; two of one game, of two teachers, share a head."""
    weights: list[float] | None = None
    """Of the datasets, in their order: how many of the steps each gets, in thousandths; default: all alike."""
    jacobian_weights: list[float] | None = None
    """Lambda of each dataset; default: objective.jacobian_weight for all."""
    games: int = 0
    """Whole games of each game at the end, under evaluate.protocol; by default none."""
    out: str = "runs/multitask__{student}__{objective}__{seed}"
    """Run folder, with a student folder for each game; the same command goes on."""

    RANGES: ClassVar[Mapping[str, Range]] = {
        "weights": POSITIVE,
        "jacobian_weights": ZERO_OR_MORE,
        "games": ZERO_OR_MORE,
    }
    PLACES: ClassVar[tuple[str, ...]] = ("out",)

    def check(self) -> None:
        """Refuse lists that do not fit each other."""
        for name in ("weights", "jacobian_weights"):
            given = getattr(self, name)
            fit = given is None or len(given) == len(self.data)
            require(fit, f"--multitask.{name}", given, f"one for each of the {len(self.data)} multitask.data")
        twice = sorted({folder for folder in self.data if self.data.count(folder) > 1})
        require(not twice, "--multitask.data", twice, "datasets that differ; give one more weight by multitask.weights")


@dataclass(frozen=True)
class MultitaskRun(EvaluateRun, TrainRun):
    """What ``distill multitask`` reads."""

    multitask: MultitaskConfig = field(default_factory=MultitaskConfig)
    """Settings of `distill multitask`."""

    FIRST: ClassVar[tuple[str, ...]] = (
        "multitask.data",
        "multitask.out",
        "multitask.weights",
        "multitask.jacobian_weights",
        "multitask.games",
        "student.name",
        "train.steps",
        "train.batch_size",
        "seed",
        "device",
    )

    def check(self) -> None:
        """Refuse games that do not fill the lanes."""
        super().check()
        fit = fills(self.multitask.games, self.evaluate.num_envs)
        require(fit, "--multitask.games", self.multitask.games, "a multiple of evaluate.num_envs")

    def check_stage(self) -> None:
        """Refuse what a training of several datasets cannot do."""
        super().check_stage()
        if self.teacher not in ("", self.env):
            raise UserError("distill multitask does not read --teacher: every dataset names its own; leave it out")
        refuse_attack_without(self.multitask.games, self.evaluate, "--multitask.games")
        for name, value in (("data", self.evaluate.data), ("figures", self.evaluate.figures)):
            if value:
                raise UserError(f"--evaluate.{name} is of one game; leave it out, and let distill evaluate measure it")
        require(len(self.multitask.data) > 0, "--multitask.data", self.multitask.data, "at least one dataset")
        for name in changed(self.train):
            if name in OF_ONE_RUN:
                raise UserError(f"distill multitask does not read --train.{name}; leave it out")
        if self.student.init is not None:
            raise UserError("distill multitask does not read --student.init; leave it out")
