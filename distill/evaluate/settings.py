"""Settings of ``distill evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from distill.attack.settings import ThreatConfig, require_levels
from distill.envs.settings import LANES, CommonConfig
from distill.errors import UserError
from distill.system.ranges import POSITIVE, SHARE, Range
from distill.system.settings import Section, changed, require


@dataclass(frozen=True)
class EvaluateConfig(Section):
    """Playing whole games, and fidelity on held-out states."""

    agents: list[str] = field(default_factory=lambda: ["teacher"])
    """Teachers' names or files, students' runs, "teacher" (--teacher, else the students'), "random"; NAME=WHAT."""
    games: int = 32
    """Whole games per agent."""
    num_envs: int = 32
    """Games played side by side; `games` must be a multiple of it."""
    protocol: Literal["zoo", "zoo-greedy", "machado"] = "zoo"
    """zoo: sampled, no sticky actions; zoo-greedy: best action; machado: sampled, sticky 0.25."""
    data: str | None = None
    """Dataset to measure fidelity on; by default what was measured after training."""
    figures: list[str] = field(default_factory=list)
    """More figures to measure on `data`, and on sweep.data: package.module:attribute, a Figure of your own."""
    val_states: int = 2048
    """At most this many held-out states of `data` are scored."""
    verify: bool = True
    """Check the checksums of `data`."""
    attack: str | None = None
    """Play under attack: a registered way to perturb what the agents see (docs/robustness.md); default: none."""
    attack_eps: float = 2.0
    """Its size, in gray levels of 0 to 255."""
    attacked_steps: float = 1.0
    """Share of the steps that are attacked, drawn anew at each."""
    out: str = "runs/{env}__scores"
    """Folder for scores.json and TensorBoard events; a scores.json of another evaluation is refused."""
    resume: bool = False
    """No longer needed: a complete scores.json of the same evaluation is left as it is."""
    capture_video: bool = False
    """Also write one game per agent as MP4 (needs the video extra)."""

    RANGES: ClassVar[Mapping[str, Range]] = {
        "games": POSITIVE,
        "num_envs": LANES,
        "val_states": POSITIVE,
        "attack_eps": Range("between 1 and 255", 1, 255),
        "attacked_steps": SHARE,
    }
    PLACES: ClassVar[tuple[str, ...]] = (
        "data",
        "out",
    )
    NEEDS: ClassVar[Mapping[str, str]] = {
        "attack_eps": "attack",
        "attacked_steps": "attack",
        "val_states": "data",
        "verify": "data",
    }

    def check(self) -> None:
        """Refuse no agents, and games that do not fill the lanes."""
        require(fills(self.games, self.num_envs), "--evaluate.games", self.games, "a multiple of evaluate.num_envs")
        require(len(self.agents) > 0, "--evaluate.agents", self.agents, "at least one agent")
        if self.figures:
            from distill.figures.figure import chosen  # with PyTorch, which settings do not wait for

            chosen(self.figures)
        if self.attack is not None:
            from distill.attack.method import ATTACKS

            ATTACKS.find(self.attack)


def fills(games: int, lanes: int) -> bool:
    """True where every lane plays the same number of games."""
    return games == 0 or games % min(lanes, games) == 0


def refuse_attack_without(games: int, settings: EvaluateConfig, flag: str) -> None:
    """Refuse an attack on students that a stage lets play no games; ``flag`` would."""
    if settings.attack is not None and not games:
        raise UserError(f"--evaluate.attack is of whole games; add {flag}, or leave it out")


@dataclass(frozen=True)
class EvaluateRun(CommonConfig):
    """What ``distill evaluate`` reads."""

    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """Settings of `distill evaluate`."""
    threat: ThreatConfig = field(default_factory=ThreatConfig)
    """What an attacker may do, under evaluate.attack."""

    def check(self) -> None:
        """Refuse perturbations of parts of a gray level."""
        super().check()
        if self.evaluate.attack is not None:
            require_levels("--evaluate.attack_eps", [self.evaluate.attack_eps], self.threat.norm)

    def check_stage(self) -> None:
        """Refuse what an attacker may do where there is none."""
        given = changed(self.threat)
        if self.evaluate.attack is None and given:
            raise UserError(f"--threat.{given[0]} is of --evaluate.attack; add that, or leave it out")

    FIRST: ClassVar[tuple[str, ...]] = (
        "env",
        "teacher",
        "evaluate.agents",
        "evaluate.games",
        "evaluate.protocol",
        "evaluate.out",
        "evaluate.data",
        "evaluate.capture_video",
        "seed",
        "device",
    )
