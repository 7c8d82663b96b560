"""Settings of ``distill attack``, and what an attacker may do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from distill.envs.settings import CommonConfig
from distill.system.ranges import POSITIVE, ZERO_OR_MORE, Range
from distill.system.settings import Section, require

PATCHES = (1, 3, 5, 7)


@dataclass(frozen=True)
class ThreatConfig(Section):
    """What an attacker may do; which of it matters depends on the method."""

    norm: Literal["linf", "l2"] = "linf"
    """fgsm, pgd, noise: eps bounds every pixel (linf), or the root of their mean square (l2)."""
    steps: int = 10
    """pgd: gradient steps."""
    step_size: float | None = None
    """pgd: gray levels a step; default: 2.5 eps / steps (Madry et al. 2018)."""
    draws: int = 1
    """Slopes and probabilities are means over so many draws of the agent's noise (expectation over transformation)."""
    target: int | None = None
    """The action that the agent is to be brought to; default: any but its own."""
    source: str | None = None
    """Whose slopes, probabilities and best action are used (transfer), as evaluate.agents; default: the agent's own."""
    pixels: int = 10
    """swarm: pixels that are changed, or patches of them, of the newest frame."""
    patch: int = 1
    """swarm: width of a patch, 1, 3, 5 or 7."""
    particles: int = 20
    """swarm: particles."""
    iterations: int = 20
    """swarm: at most so many moves of all particles."""
    confidence: float = 0.5
    """swarm: a state is done once another action, or the target, is the best, and is taken with this probability."""

    RANGES: ClassVar[Mapping[str, Range]] = {
        "steps": POSITIVE,
        "step_size": POSITIVE,
        "draws": POSITIVE,
        "target": ZERO_OR_MORE,
        "pixels": Range("between 1 and 7056", 1, 7056),
        "patch": Range("between 1 and 7", 1, 7),
        "particles": Range("at least 2", 2),
        "iterations": POSITIVE,
        "confidence": Range("above 0 and at most 1", 0, 1, without=(0,)),
    }

    def check(self) -> None:
        """Refuse patches without a middle."""
        require(self.patch in PATCHES, "--threat.patch", self.patch, f"one of {list(PATCHES)}")


def require_levels(flag: str, sizes: Sequence[float], norm: str = "linf") -> None:
    """Refuse sizes that are rounded before an agent sees them: under linf, pixels move by whole gray levels."""
    for eps in sizes if norm == "linf" else ():
        require(eps >= 1 and eps == int(eps), flag, eps, "a whole number of at least 1: under linf, of gray levels")


@dataclass(frozen=True)
class AttackConfig(Section):
    """Agents under attack on recorded states."""

    agents: list[str] = field(default_factory=lambda: ["teacher"])
    """As evaluate.agents."""
    methods: list[str] = field(default_factory=lambda: ["noise", "fgsm", "pgd"])
    """Registered ways to perturb pixels (docs/robustness.md), or package.module:attribute."""
    eps: list[float] = field(default_factory=lambda: [1.0, 2.0, 4.0, 8.0])
    """Sizes of a perturbation, in gray levels of 0 to 255."""
    data: str = "data/{env}"
    """Dataset with the states; students are attacked on games held out from them."""
    states: int = 512
    """At most so many states."""
    out: str = "runs/{env}__attack"
    """Folder for attack.json and TensorBoard events; the same command goes on."""

    RANGES: ClassVar[Mapping[str, Range]] = {"states": POSITIVE, "eps": Range("above 0 and at most 255", 0, 255, (0,))}
    PLACES: ClassVar[tuple[str, ...]] = ("data", "out")

    def check(self) -> None:
        """Refuse nothing to do, and methods that are not known."""
        for name in ("agents", "methods", "eps"):
            require(len(getattr(self, name)) > 0, f"--attack.{name}", getattr(self, name), "at least one")
        from distill.attack.method import ATTACKS  # with PyTorch, which settings do not wait for

        for name in self.methods:
            ATTACKS.find(name)


@dataclass(frozen=True)
class AttackRun(CommonConfig):
    """What ``distill attack`` reads."""

    attack: AttackConfig = field(default_factory=AttackConfig)
    """Settings of `distill attack`."""
    threat: ThreatConfig = field(default_factory=ThreatConfig)
    """What an attacker may do."""

    def check(self) -> None:
        """Refuse perturbations of parts of a gray level: what agents see are bytes."""
        super().check()
        require_levels("--attack.eps", self.attack.eps, self.threat.norm)

    FIRST: ClassVar[tuple[str, ...]] = (
        "env",
        "teacher",
        "attack.agents",
        "attack.methods",
        "attack.eps",
        "attack.data",
        "attack.states",
        "attack.out",
        "threat.norm",
        "threat.draws",
    )
