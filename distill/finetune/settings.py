"""Settings of ``distill finetune``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from distill.envs.settings import LANES, CommonConfig
from distill.errors import UserError
from distill.networks.settings import StudentConfig
from distill.records.loggers import check_loggers
from distill.system.ranges import POSITIVE, SHARE, ZERO_OR_MORE, Range
from distill.system.settings import changed
from teachers.settings import PPOConfig


@dataclass(frozen=True)
class FinetuneConfig(PPOConfig):
    """PPO on the student's own games and reward, with the teacher's divergence beside it."""

    out: str = "runs/{env}__{student}__finetune__{seed}__{time}"
    """Run folder; the same command continues the run there, and other settings are refused."""
    resume: bool = False
    """Continue the newest run where `out` has {time}; else that starts a new one."""
    init: str | None = None
    """Agent to go on with: a student's run folder or a zip; by default a fresh network, as `student` describes it."""
    states: int = 2_000_000
    """States to play and learn from in all, those of the warm-up included; four emulator frames each."""
    critic_warmup: int = 20_000
    """With `init`: states that it plays first, unchanged, for its value head to be fitted on; 0: none."""
    teacher_weight: float = 1.0
    """Weight of KL(teacher || student) on the student's own states, at the start; 0: reward alone."""
    schedule: Literal["constant", "linear", "score"] = "linear"
    """Of that weight: linear falls to 0 at schedule_until; score follows how far the teacher's score is away."""
    schedule_until: float = 1.0
    """Share of the states after which a linear weight is 0."""
    teacher_score: float | None = None
    """For schedule=score, and nothing else: the teacher's mean score; by default the one on its card."""
    clipped_kl: bool = False
    """Weigh each state's KL by max(probability ratio, 1 - clip_range), as proximal policy distillation does."""
    score_games: int = 20
    """Last whole games that a score is the mean of."""
    val_states: int = 2048
    """At the end, the student plays this many states more, and is compared with its teacher on them."""
    log_every: int = 10_000
    """States between two points of the curve."""
    loggers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """Where the curve goes: tensorboard, or package.module:attribute, which makes a Logger."""
    checkpoint_every: int = 50_000
    """States between checkpoints, at which the best student is judged, too."""

    ABOVE: ClassVar[str] = "finetune."
    RANGES: ClassVar[Mapping[str, Range]] = {
        **PPOConfig.RANGES,
        "num_envs": LANES,
        "batch_size": POSITIVE,
        "states": POSITIVE,
        "critic_warmup": ZERO_OR_MORE,
        "teacher_weight": ZERO_OR_MORE,
        "schedule_until": SHARE,
        "teacher_score": Range("finite"),
        "score_games": POSITIVE,
        "val_states": POSITIVE,
        "log_every": POSITIVE,
        "checkpoint_every": POSITIVE,
    }
    PLACES: ClassVar[tuple[str, ...]] = ("out", "init")
    NEEDS: ClassVar[Mapping[str, str]] = {
        "critic_warmup": "init",
        "teacher_score": "schedule=score",
        "schedule_until": "schedule=linear",
    }

    def check(self) -> None:
        """Also refuse a run that is over before the policy moves."""
        super().check()
        check_loggers(self.loggers)
        self._check_schedule()
        self._check_states()

    def _check_states(self) -> None:
        """Refuse what ends before the policy moves: a rollout counts before its update, so the last one's rate is 0."""
        rollout = self.num_envs * self.n_steps
        warmup = 0 if self.init is None else -(-self.critic_warmup // rollout) * rollout
        if warmup + rollout >= self.states:
            warming = f"the warm-up takes {warmup} of them (whole rollouts), and " if warmup else ""
            raise UserError(
                f"--finetune.states must be above {warmup + rollout}, or the policy never moves: {warming}at the "
                f"update of the last rollout, {rollout}, the rate is 0; got {self.states}"
            )

    def _check_schedule(self) -> None:
        """Refuse settings of the teacher's weight that would be passed over."""
        given = changed(self)
        for name in ("teacher_score", "schedule", "schedule_until", "clipped_kl"):
            if self.teacher_weight == 0 and name in given:
                raise UserError(
                    f"--finetune.{name} is for the teacher's weight, but --finetune.teacher_weight is 0; leave one of "
                    "them out"
                )


@dataclass(frozen=True)
class FinetuneRun(CommonConfig):
    """What ``distill finetune`` reads."""

    student: StudentConfig = field(default_factory=StudentConfig)
    """The student's network."""
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    """Settings of `distill finetune`."""

    FIRST: ClassVar[tuple[str, ...]] = (
        "env",
        "teacher",
        "student.name",
        "finetune.init",
        "finetune.out",
        "finetune.states",
        "finetune.critic_warmup",
        "finetune.teacher_weight",
        "finetune.schedule",
        "finetune.num_envs",
        "finetune.learning_rate",
        "seed",
        "device",
    )
