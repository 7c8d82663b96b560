"""Settings of ``distill rounds``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from distill.imitate.settings import ImitateRun
from distill.system.ranges import POSITIVE, Range
from distill.system.settings import Section


@dataclass(frozen=True)
class RoundsConfig(Section):
    """On-policy distillation: what it adds to the section imitate, which says how is played and learned."""

    form: Literal["online", "rounds"] = "online"
    """online: learn from a ring while playing; rounds: play a round, learn from all states so far, and play again."""
    derivatives: bool = False
    """Match the teacher's derivatives, too, as objective.jacobian_* say; else they have no part in it."""
    early_learning_rate: float | None = None
    """Learning rate while lambda is large; it moves to imitate.learning_rate as lambda falls; by default it is that."""
    keep: str | None = None
    """Data set folder for the states played; null: none online, and in rounds the run's own folder `data`."""
    shard_states: int = 4096
    """States per shard of it; a kill loses at most the shard being played and the one being written."""
    count: int = 10
    """Rounds; imitate.states or imitate.minutes may end the run before."""
    states: int = 10_000
    """States played in a round."""
    steps: int = 1_000
    """Optimizer steps in a round, on all states so far."""
    until_share: float | None = None
    """End once the student's last 20 whole games score this share of the teacher's score, with 97.5 % confidence."""
    teacher_score: float | None = None
    """The teacher's mean score for that; by default the one on its card, of protocol zoo."""

    RANGES: ClassVar[Mapping[str, Range]] = {
        "early_learning_rate": POSITIVE,
        "shard_states": POSITIVE,
        "count": POSITIVE,
        "states": POSITIVE,
        "steps": POSITIVE,
        "until_share": Range("above 0, and at most 2", 0, 2, (0,)),
        "teacher_score": Range("finite"),
    }
    PLACES: ClassVar[tuple[str, ...]] = ("keep",)
    NEEDS: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("count", "states", "steps"), "form=rounds"),
        "early_learning_rate": "derivatives=true",
        "teacher_score": "until_share",
    }


@dataclass(frozen=True)
class RoundsRun(ImitateRun):
    """What ``distill rounds`` reads."""

    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    """Settings of `distill rounds`."""

    MATTERS: ClassVar[tuple[str, ...]] = (*ImitateRun.MATTERS, "rounds")
    FREE: ClassVar[tuple[str, ...]] = (
        *ImitateRun.FREE,
        *(f"rounds.{name}" for name in ("shard_states", "until_share", "teacher_score")),
    )
    FIRST: ClassVar[tuple[str, ...]] = (
        "env",
        "teacher",
        "student.name",
        "rounds.form",
        "rounds.keep",
        "rounds.derivatives",
        "imitate.out",
        "imitate.states",
        "imitate.minutes",
        "seed",
        "device",
    )
