"""Settings that every stage shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from distill.envs.ale_vec import MAX_LANES
from distill.envs.presets import get_preset
from distill.system.ranges import POSITIVE, Range
from distill.system.settings import Section, require

LARGEST_SEED = 2**30 - 1
LANES = Range(f"between 1 and {MAX_LANES}", 1, MAX_LANES)


@dataclass(frozen=True)
class CommonConfig(Section):
    """What every stage reads: who plays what, from which seed, where."""

    env: str = ""
    """Game (pong, PongNoFrameskip-v4 and ALE/Pong-v5 are one); default: the teacher's, data's or agents', or pong."""
    teacher: str = ""
    """Bundled name (pong), path to a stable-baselines3 zip or run folder, hf://org/repo; default: env's bundled."""
    preset: str | None = None
    """What is recorded and students see (docs/presets.md); default: what the teacher sees."""
    teacher_preset: str | None = None
    """What the teacher sees, whatever its papers say; default: what they say, else what is recorded."""
    tau: float = 0.01
    """Q-value teachers: logits = Q / tau (Rusu et al. 2016)."""
    seed: int = 1
    """Seed of games, weights, batches and projections; -1 draws one and prints it."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    FIRST: ClassVar[tuple[str, ...]] = ()
    """What matters most of what a stage reads, by dotted name; its help shows that first."""
    RANGES: ClassVar[Mapping[str, Range]] = {"tau": POSITIVE}

    def check(self) -> None:
        """Refuse a seed that is none and presets that are not known."""
        require(-1 <= self.seed <= LARGEST_SEED, "--seed", self.seed, "between 0 and 2^30 - 1, or -1")
        for preset in (self.preset, self.teacher_preset):
            if preset is not None:
                get_preset(preset)

    def check_stage(self) -> None:
        """Refuse, with a UserError, what this stage cannot do; another one may, of the same settings."""

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, as written to a run's config.yaml."""
        return asdict(self)
