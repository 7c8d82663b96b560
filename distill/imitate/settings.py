"""Settings of ``distill imitate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from distill.envs.settings import LANES, CommonConfig
from distill.losses.settings import ObjectiveConfig
from distill.networks.settings import StudentConfig
from distill.records.loggers import check_loggers
from distill.system.ranges import POSITIVE, SHARE, ZERO_OR_MORE, Range
from distill.system.settings import Section, require

TURN = Range("between 1 and 1000, since a run can be ended between turns alone", 1, 1000)


@dataclass(frozen=True)
class ImitateConfig(Section):
    """Learning from the student's own games while it plays them; the teacher labels every state."""

    out: str = "runs/{env}__{student}__imitate__{seed}__{time}"
    """Run folder; the same command continues the run there, and other settings are refused."""
    resume: bool = False
    """No longer needed, but that the newest run is continued where `out` has {time}; else that starts a new one."""
    init: str | None = None
    """Start from this agent's weights, a student's run folder or a zip of the same network; by default random ones."""
    states: int | None = 2_400_000
    """States to play and learn from in all; null: only minutes count."""
    minutes: float | None = None
    """Minutes to go on for, earlier runs in the same folder included; the budget that is used up first ends the run."""
    num_envs: int = 32
    """Games played side by side."""
    steps_per_turn: int = 8
    """Steps of all games in a turn; the student plays them with the weights of the turn's beginning."""
    updates_per_turn: int = 2
    """Optimizer steps in a turn, while it plays."""
    batch_size: int = 128
    """States per optimizer step, drawn from the ring."""
    ring: int = 260_000
    """Newest states to learn from, 7 KB of memory each."""
    learning_starts: int = 5_000
    """Learn once the ring has so many states; at the beginning, and after a run was resumed, since no ring is saved."""
    teacher_share: float = 0.05
    """Share of the games that the teacher plays; it falls from 1 to this ..."""
    teacher_share_until: float = 0.08
    """... over this share of the budget."""
    learning_rate: float = 1e-3
    """Adam's learning rate at the start; a cosine takes it ..."""
    final_learning_rate: float = 2e-5
    """... to this one at the end of the budget."""
    val_states: int = 2048
    """At the end, the student plays this many states more, and is scored on them."""
    max_grad_norm: float = 10.0
    """Gradients are clipped to this global norm; 0 turns clipping off."""
    log_every: int = 10_000
    """States between two rows of curve.csv and TensorBoard points."""
    loggers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """Where the curve goes besides curve.csv: tensorboard, or package.module:attribute, which makes a Logger."""
    checkpoint_every: int = 100_000
    """States between checkpoints."""
    teacher_zip: str | None = None
    """Also write the student as an SB3 PPO zip with a model card, to teach others; only with student.name=nature."""
    value: Literal["none", "teacher", "returns"] = "none"
    """That zip's value head: zero, or fitted at the end to the teacher's values or to discounted clipped rewards."""

    RANGES: ClassVar[Mapping[str, Range]] = {
        "states": POSITIVE,
        "minutes": POSITIVE,
        "steps_per_turn": TURN,
        "updates_per_turn": TURN,
        "batch_size": POSITIVE,
        "ring": POSITIVE,
        "learning_starts": POSITIVE,
        "learning_rate": POSITIVE,
        "val_states": POSITIVE,
        "log_every": POSITIVE,
        "checkpoint_every": POSITIVE,
        "num_envs": LANES,
        "teacher_share": SHARE,
        "teacher_share_until": SHARE,
        "final_learning_rate": ZERO_OR_MORE,
        "max_grad_norm": ZERO_OR_MORE,
    }
    PLACES: ClassVar[tuple[str, ...]] = (
        "out",
        "init",
        "teacher_zip",
    )
    NEEDS: ClassVar[Mapping[str, str]] = {"value": "teacher_zip"}

    def check(self) -> None:
        """Refuse a run without end or without a beginning."""
        check_loggers(self.loggers)
        ends = self.states is not None or self.minutes is not None
        require(ends, "--imitate.states", "null", "given where imitate.minutes is not")
        begins = self.learning_starts <= self.ring
        require(begins, "--imitate.learning_starts", self.learning_starts, "at most imitate.ring")


@dataclass(frozen=True)
class ImitateRun(CommonConfig):
    """What ``distill imitate`` reads."""

    student: StudentConfig = field(default_factory=StudentConfig)
    """The student's network."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """The training objective."""
    imitate: ImitateConfig = field(default_factory=ImitateConfig)
    """Settings of `distill imitate`."""

    MATTERS: ClassVar[tuple[str, ...]] = (
        "env", "teacher", "preset", "teacher_preset", "tau", "seed", "student", "objective", "imitate",
    )  # fmt: skip
    """What makes a run another run, section by section."""
    FREE: ClassVar[tuple[str, ...]] = tuple(
        f"imitate.{name}"
        for name in ("resume", "out", "checkpoint_every", "log_every", "loggers", "ring", "teacher_zip", "value")
    )
    """Settings in those sections that may change."""
    FIRST: ClassVar[tuple[str, ...]] = (
        "env",
        "teacher",
        "student.name",
        "imitate.out",
        "imitate.states",
        "imitate.minutes",
        "imitate.num_envs",
        "imitate.learning_rate",
        "seed",
        "device",
    )
