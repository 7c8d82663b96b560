"""Settings of ``distill sweep``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from distill.envs.ale_vec import MAX_LANES
from distill.errors import UserError
from distill.evaluate.settings import EvaluateRun, fills, refuse_attack_without
from distill.system.ranges import POSITIVE, ZERO_OR_MORE, Range
from distill.system.ray_settings import RayWorkers
from distill.system.settings import require
from distill.train.settings import TrainRun

LANES = Range(f"between 1 and {MAX_LANES}", 1, MAX_LANES)


@dataclass(frozen=True)
class SweepConfig(RayWorkers):
    """One student for every combination of some settings."""

    grid: dict[str, list[Any]] = field(default_factory=dict)
    """Dotted settings and their values, as {seed: [1, 2], train.states: [1000, 3000]}; every combination is trained."""
    out: str = "runs/{env}__sweep"
    """Folder for rows.csv and one run folder per combination; the same command, or a larger grid, continues it."""
    data: str | None = None
    """Test dataset: fidelity of every student there, besides that on its held-out games."""
    test_states: int = 8192
    """Whole games of it until they have this many states, the same for all students; fragments are left out."""
    games: int = 0
    """Whole games per student, under evaluate.protocol; by default none."""

    SECTION: ClassVar[str] = "sweep"
    RANGES: ClassVar[Mapping[str, Range]] = {
        **RayWorkers.WORKERS,
        "test_states": POSITIVE,
        "games": ZERO_OR_MORE,
    }
    PLACES: ClassVar[tuple[str, ...]] = (
        "data",
        "out",
    )
    NEEDS: ClassVar[Mapping[str, str]] = {**RayWorkers.NEEDS, "test_states": "data"}


@dataclass(frozen=True)
class SweepRun(EvaluateRun, TrainRun):
    """What ``distill sweep`` reads."""

    sweep: SweepConfig = field(default_factory=SweepConfig)
    """Settings of `distill sweep`."""

    FIRST: ClassVar[tuple[str, ...]] = (
        "env",
        "sweep.grid",
        "sweep.out",
        "sweep.data",
        "sweep.games",
        "train.data",
        "student.name",
        "train.steps",
        "seed",
        "device",
    )

    def check(self) -> None:
        """Refuse games that do not fill the lanes."""
        super().check()
        fit = fills(self.sweep.games, self.evaluate.num_envs)
        require(fit, "--sweep.games", self.sweep.games, "a multiple of evaluate.num_envs")

    def check_stage(self) -> None:
        """Refuse what is of games or of a test set, where there are none."""
        super().check_stage()
        refuse_attack_without(self.sweep.games, self.evaluate, "--sweep.games")
        if self.evaluate.figures and self.sweep.data is None:
            raise UserError("--evaluate.figures are measured on --sweep.data; add that, or leave them out")
