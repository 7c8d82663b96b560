"""Settings of PPO, and of ``make teacher``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from distill.envs.presets import get_preset
from distill.system.device import pick_device
from distill.system.ranges import POSITIVE, SHARE, ZERO_OR_MORE, Range
from distill.system.settings import Section, require

MAX_SEED = 2**30


@dataclass(frozen=True)
class PPOConfig(Section):
    """PPO's own settings; the defaults are RL Baselines3 Zoo's for Atari, but for ``num_envs`` (there 8)."""

    num_envs: int = 16
    """Games played side by side."""
    n_steps: int = 128
    """Steps of each lane between two updates."""
    batch_size: int = 256
    """Steps in a minibatch; divides num_envs * n_steps."""
    n_epochs: int = 4
    """Passes over the collected steps in an update."""
    learning_rate: float = 2.5e-4
    """Adam's learning rate at the start; falls linearly to 0 at the end."""
    clip_range: float = 0.1
    """PPO's clipping of the policy ratio at the start; falls linearly to 0."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    gamma: float = 0.99
    """Discount factor."""
    gae_lambda: float = 0.95
    """Bias-variance trade-off of the advantage estimate."""
    max_grad_norm: float = 0.5
    """Clip the gradient's norm to this."""

    ABOVE: ClassVar[str] = ""
    """What stands before a field's name on the command line."""
    RANGES: ClassVar[Mapping[str, Range]] = {
        "num_envs": POSITIVE,
        "n_steps": POSITIVE,
        "n_epochs": POSITIVE,
        "learning_rate": POSITIVE,
        "clip_range": POSITIVE,
        "max_grad_norm": POSITIVE,
        "ent_coef": ZERO_OR_MORE,
        "vf_coef": ZERO_OR_MORE,
        "gamma": SHARE,
        "gae_lambda": SHARE,
    }

    def check(self) -> None:
        """Refuse minibatches that do not divide what is collected."""
        collected = self.num_envs * self.n_steps
        divides = 1 < self.batch_size <= collected and collected % self.batch_size == 0
        want = f"a divisor of num_envs * n_steps = {collected} above 1"
        require(divides, f"--{self.ABOVE}batch_size", self.batch_size, want)

    def of_model(self) -> dict[str, Any]:
        """Arguments of stable-baselines3's ``PPO`` that are these numbers as they are, schedules apart."""
        names = ("n_steps", "batch_size", "n_epochs", "ent_coef", "vf_coef", "gamma", "gae_lambda", "max_grad_norm")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class TeacherConfig(PPOConfig):
    """Settings of a teacher's training."""

    env: str = ""
    """Game: pong, Pong, PongNoFrameskip-v4 and ALE/Pong-v5 are the same; default: that of init, else pong."""
    init: str | None = None
    """Start from this agent's weights: a bundled name, a path to a stable-baselines3 zip, or hf://org/repo."""
    total_timesteps: int = 10_000_000
    """Agent steps over all lanes, earlier runs in the same folder included; four emulator frames each."""
    seed: int | None = None
    """Seed of games, weights and actions; drawn and printed where none is given."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    out: str = "runs/teacher-{env}"
    """Folder of checkpoints, TensorBoard events and the agents; the same command continues there."""
    preset: str = "sb3"
    """What the agent sees: sb3, sb3-fast, async-rl, cleanrl or another preset (docs/presets.md)."""
    checkpoint_every: int = 100_000
    """Timesteps between checkpoints, at which the best agent is judged, too."""

    FIRST: ClassVar[tuple[str, ...]] = ("env", "init", "total_timesteps", "num_envs", "seed", "device", "out", "preset")
    RANGES: ClassVar[Mapping[str, Range]] = {
        **PPOConfig.RANGES,
        "total_timesteps": POSITIVE,
        "checkpoint_every": POSITIVE,
    }

    def check(self) -> None:
        """See ``PPOConfig``; also refuse what is not known here."""
        super().check()
        holds = self.seed is None or 0 <= self.seed < MAX_SEED
        require(holds, "--seed", self.seed, "between 0 and 2^30 - 1")
        get_preset(self.preset)
        pick_device(self.device)
