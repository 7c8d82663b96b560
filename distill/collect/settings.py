"""Settings of ``distill collect``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from distill.envs.settings import LANES, CommonConfig
from distill.errors import UserError
from distill.losses.settings import FRACTION, ROWS
from distill.system.ranges import POSITIVE, SHARE, Range
from distill.system.ray_settings import RayWorkers
from distill.system.settings import changed, require


@dataclass(frozen=True)
class CollectConfig(RayWorkers):
    """Recording what the teacher sees, thinks and feels (its derivatives)."""

    out: str = "data/{env}"
    """Dataset folder; continued if it holds the same teacher, preset and derivative law."""
    states: int = 20_000
    """States this writer records in total, or with Ray all writers; the same command continues to this count."""
    num_envs: int = 8
    """Games played side by side."""
    actor: str = "teacher"
    """Who acts: "teacher", or a student's run folder or zip (on-policy, DAgger). The teacher always labels."""
    beta: float = 0.0
    """With a student actor: share of steps on which the teacher acts instead (a mixture)."""
    behaviour: Literal["sampled", "greedy", "epsilon"] = "sampled"
    """How the actor chooses: samples its policy, takes the best action, or epsilon-greedy."""
    epsilon: float = 0.01
    """Share of uniformly random actions when behaviour is epsilon."""
    sticky: float = 0.0
    """Probability that the emulator repeats the last action (Machado et al. 2018: 0.25)."""
    jacobian: Literal["projected", "full", "none"] = "projected"
    """What is stored of the Jacobian: K projections, all A rows, or nothing."""
    jacobian_share: float = 1.0
    """Share of the states whose derivatives are computed and stored, drawn at random; training can use no more."""
    k: int = 1
    """Projections per state when jacobian is projected."""
    law: Literal["sphere", "fisher"] = "sphere"
    """Law of the projection v: uniform on the sphere, or the policy's Fisher metric."""
    space: Literal["logits", "log_probs", "probs"] = "logits"
    """Output whose derivative is taken. For zero-sum v, logits and log_probs are the same."""
    codec: Literal["int8", "fp16"] = "int8"
    """Storage of derivatives: int8 (about 1 % error, half the size) or fp16 (0.03 %)."""
    shard_states: int = 4096
    """States per shard; a kill loses at most the shard being played and the one being labelled."""
    writer: str | None = None
    """Name of this stream of shards; by default named after the actor. Ray's workers add -0, -1, ..."""
    SECTION: ClassVar[str] = "collect"
    RANGES: ClassVar[Mapping[str, Range]] = {
        "states": POSITIVE,
        "num_envs": LANES,
        "jacobian_share": FRACTION,
        "k": ROWS,
        "beta": SHARE,
        "epsilon": SHARE,
        "sticky": Range("at least 0 and below 1", 0, 1, without=(1,)),
        "shard_states": POSITIVE,
        **RayWorkers.WORKERS,
    }
    PLACES: ClassVar[tuple[str, ...]] = (
        "out",
        "actor",
    )
    NEEDS: ClassVar[Mapping[str, str]] = {
        **RayWorkers.NEEDS,
        "beta": "actor",
        "epsilon": "behaviour=epsilon",
        "k": "jacobian=projected",
        "law": "jacobian=projected",
    }

    def check(self) -> None:
        """Refuse what cannot work together."""
        super().check()
        if self.writer is not None:
            good = re.fullmatch(r"\w[\w.-]*", self.writer) is not None
            require(good, "--collect.writer", repr(self.writer), "letters, digits, dots and dashes")
        idle = [name for name in ("jacobian_share", "space", "codec") if name in changed(self)]
        if self.jacobian == "none" and idle:
            raise UserError(f"--collect.{idle[0]} is of derivatives, and --collect.jacobian is none; leave one out")
        lanes = self.shard_states >= self.num_envs
        require(lanes, "--collect.shard_states", self.shard_states, "at least collect.num_envs")


@dataclass(frozen=True)
class CollectRun(CommonConfig):
    """What ``distill collect`` reads."""

    collect: CollectConfig = field(default_factory=CollectConfig)
    """Settings of `distill collect`."""

    FIRST: ClassVar[tuple[str, ...]] = (
        "env",
        "teacher",
        "collect.out",
        "collect.states",
        "collect.num_envs",
        "collect.actor",
        "collect.jacobian",
        "collect.k",
        "seed",
        "device",
    )
