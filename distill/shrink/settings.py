"""Settings of ``distill shrink``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from distill.envs.settings import LARGEST_SEED
from distill.errors import UserError
from distill.evaluate.settings import EvaluateRun, fills
from distill.networks.registry import find_network
from distill.rounds.settings import RoundsConfig, RoundsRun
from distill.system.ranges import POSITIVE, Range
from distill.system.settings import Section, require
from distill.train.settings import TrainRun

FLOAT32, INT8 = "float32", "int8"
PRECISIONS = (FLOAT32, INT8)
MOST_STATES = 10_000
"""That int8 is calibrated on: all are held at once as float32, these in about 1 GB, and as many to compare on."""


@dataclass(frozen=True)
class ShrinkConfig(Section):
    """How small? Students of ever smaller networks: what they score, weigh and take."""

    networks: list[str] = field(default_factory=lambda: ["rusu-25", "rusu-7", "rusu-4", "rusu-1"])
    """Networks of the students, by name (student.name is not read); each is trained from every seed."""
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    """Seeds of the trainings; `seed` is that of the games they are scored on."""
    by: Literal["imitate", "rounds", "train"] = "imitate"
    """How they learn: by imitate or rounds, from their own games, or by train, from the dataset of train.data."""
    precisions: list[str] = field(default_factory=lambda: [*PRECISIONS])
    """What each student plays in: float32, and int8 weights and activations (needs the onnx extra)."""
    games: int = 64
    """Whole games of every student, of the teacher and of random play, under evaluate.protocol."""
    calibration_states: int = 512
    """Of a student's own games, that its int8 activations are calibrated on, 10,000 at most; compared on as many."""
    out: str = "runs/{env}__shrink"
    """Folder for rows.csv, table and picture, and a run folder per student; the same command, or more, continues."""

    RANGES: ClassVar[Mapping[str, Range]] = {
        "games": POSITIVE,
        "calibration_states": Range(f"between 1 and {MOST_STATES:,}", 1, MOST_STATES),
        "seeds": Range(f"between 0 and {LARGEST_SEED}", 0, LARGEST_SEED),
    }
    PLACES: ClassVar[tuple[str, ...]] = ("out",)

    def check(self) -> None:
        """Refuse an empty ladder, and rungs that are not known or come twice."""
        for name in ("networks", "seeds", "precisions"):
            values = getattr(self, name)
            good = 0 < len(values) == len(set(values))
            require(good, f"--shrink.{name}", values, "one or more, none of them twice")
        for network in self.networks:
            find_network(network)
        known = set(self.precisions) <= set(PRECISIONS)
        require(known, "--shrink.precisions", self.precisions, f"of {[*PRECISIONS]}")


@dataclass(frozen=True)
class ShrinkRun(EvaluateRun, RoundsRun, TrainRun):
    """What ``distill shrink`` reads."""

    shrink: ShrinkConfig = field(default_factory=ShrinkConfig)
    """Settings of `distill shrink`."""

    FIRST: ClassVar[tuple[str, ...]] = (
        "env",
        "teacher",
        "shrink.networks",
        "shrink.seeds",
        "shrink.by",
        "shrink.precisions",
        "shrink.games",
        "shrink.out",
        "imitate.states",
        "device",
    )

    def check_stage(self) -> None:
        """Refuse games that do not fill the lanes, and layers and weights that would make all rungs one."""
        super().check_stage()
        fit = fills(self.shrink.games, self.evaluate.num_envs)
        require(fit, "--shrink.games", self.shrink.games, "a multiple of evaluate.num_envs")
        for name in ("convs", "hidden", "init"):
            if getattr(self.student, name) is not None:
                raise UserError(f"--student.{name} would be that of every network of --shrink.networks; leave it out")
        for name, value in (("imitate.init", self.imitate.init), ("train.fork_from", self.train.fork_from)):
            if value is not None:
                raise UserError(f"--{name} would begin every student of the ladder; leave it out")
        for name in ("data", "figures"):
            if getattr(self.evaluate, name):
                raise UserError(f"--evaluate.{name}: a ladder only plays; leave it out, and use distill evaluate")
        if self.evaluate.attack is not None:
            raise UserError(
                "--evaluate.attack: a ladder plays undisturbed; leave it out, and attack by distill evaluate"
            )
        for name, usual in vars(RoundsConfig()).items():
            if self.shrink.by != "rounds" and name != "keep" and getattr(self.rounds, name) != usual:
                raise UserError(f"--rounds.{name} is of --shrink.by=rounds; add that, or leave it out")
        for name, value in (("imitate.teacher_zip", self.imitate.teacher_zip), ("rounds.keep", self.rounds.keep)):
            if value is not None:
                raise UserError(f"--{name} is of one student; leave it out")
