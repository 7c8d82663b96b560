"""Settings of ``distill pbt``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from distill.errors import UserError, nearest
from distill.system.ranges import POSITIVE, SHARE, ZERO_OR_MORE, Range, is_number
from distill.system.ray_settings import RayCluster
from distill.system.settings import check_settings, part, require, with_values
from distill.train.settings import TrainRun

CHANGING = tuple(
    f"objective.{name}"
    for name in ("jacobian_weight", "jacobian_share", "jacobian_until", "jacobian_blur", "temperature", "input_noise")
) + tuple(f"train.{name}" for name in ("learning_rate", "early_learning_rate", "weight_decay", "max_grad_norm"))
"""Settings that may change while a student trains."""
SPACE = {
    "objective.jacobian_weight": [0.1, 10.0],
    "objective.jacobian_share": [0.125, 1.0],
    "train.learning_rate": [0.0003, 0.01],
    "train.weight_decay": [0.0001, 0.1],
}


@dataclass(frozen=True)
class PbtConfig(RayCluster):
    """A population of students whose settings change while they train: the worst take over from the best."""

    scheduler: Literal["pbt", "random", "asha"] = "pbt"
    """pbt; for comparison random search, which keeps what was drawn, and ASHA, which stops the worst."""
    members: int = 8
    """Students in the population."""
    space: dict[str, list[float]] = field(default_factory=lambda: {name: [*ends] for name, ends in SPACE.items()})
    """Settings that change, each between two values; drawn between them at first, evenly in the logarithm."""
    perturbation_interval: int = 500
    """Steps of a round: then all are scored by KL on held-out games, and the worst copy the best."""
    burn_in_period: int = 0
    """Steps before the worst first copy the best, rounded up to whole rounds: some settings pay late."""
    quantile_fraction: float = 0.25
    """Share of the members that count as the worst, and as the best."""
    resample_probability: float = 0.25
    """A copied setting is drawn anew with this probability, else multiplied by 0.8 or 1.2."""
    synch: bool = True
    """All wait for each other after a round; false: whoever ends a round is compared with the others as they are."""
    out: str = "runs/{env}__pbt__{seed}"
    """Folder for the rounds, the schedule that was found, its student and picture; the same command continues it."""
    replay: str | None = None
    """schedule.yaml of another one: train one student by it, in this process, without Ray."""

    RANGES: ClassVar[Mapping[str, Range]] = {
        **RayCluster.WORKERS,
        "members": POSITIVE,
        "perturbation_interval": POSITIVE,
        "burn_in_period": ZERO_OR_MORE,
        "quantile_fraction": Range("above 0, and at most 0.5", 0, 0.5, without=(0,)),
        "resample_probability": SHARE,
    }
    PLACES: ClassVar[tuple[str, ...]] = ("out", "replay")
    SECTION: ClassVar[str] = "pbt"
    NEEDS: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("burn_in_period", "quantile_fraction", "resample_probability", "synch"), "scheduler=pbt"
    )

    def check(self) -> None:
        """Refuse a space that is none, and a population of one that is to copy itself."""
        super().check()
        require(len(self.space) > 0, "--pbt.space", self.space, "settings and their two ends")
        for name, ends in self.space.items():
            if name not in CHANGING:
                known = ", ".join(CHANGING)
                raise UserError(f"--pbt.space cannot change {name!r}{nearest(name, CHANGING)}; it can change {known}")
            good = len(ends) == 2 and all(map(is_number, ends)) and 0 < ends[0] < ends[1]
            require(good, f"--pbt.space: {name}", ends, "two values above 0, the smaller first")
        several = self.members > 1 or self.scheduler != "pbt"
        require(several, "--pbt.members", self.members, "at least 2, so that one can copy another")


@dataclass(frozen=True)
class PbtRun(TrainRun):
    """What ``distill pbt`` reads."""

    pbt: PbtConfig = field(default_factory=PbtConfig)
    """Settings of `distill pbt`."""

    FIRST: ClassVar[tuple[str, ...]] = (
        "env",
        "pbt.out",
        "pbt.members",
        "pbt.space",
        "pbt.perturbation_interval",
        "pbt.num_workers",
        "train.data",
        "train.steps",
        "seed",
        "device",
    )

    def check_stage(self) -> None:
        """Refuse what the stage itself decides, and settings that cannot be at an end of the space."""
        t, usual = self.train, TrainRun().train
        for name in ("epochs", "last_step", "fork_from", "patience"):
            if getattr(t, name) != getattr(usual, name):
                raise UserError(
                    f"--train.{name} does not go with distill pbt, whose rounds are trainings; leave it out"
                )
        if self.pbt.replay is not None:  # its rounds are those of the schedule
            return
        interval = self.pbt.perturbation_interval
        require(interval < t.steps, "--pbt.perturbation_interval", interval, f"below --train.steps={t.steps}")
        last = ends_of(t.steps, interval)[-2]
        burn_in = self.pbt.burn_in_period
        require(burn_in <= last, "--pbt.burn_in_period", burn_in, f"at most {last}, where the last round begins")
        for end in (0, 1):
            check_settings(changed(self, {name: ends[end] for name, ends in self.pbt.space.items()}))


def changed(config: TrainRun, settings: Mapping[str, Any]) -> TrainRun:
    """The same settings but for some, by dotted name."""
    return with_values(part(config, TrainRun), settings)


def ends_of(steps: int, interval: int) -> Sequence[int]:
    """The step that each round ends after."""
    return [*range(interval, steps, interval), steps]
