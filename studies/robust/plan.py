"""Which students are trained, under which attacks they are looked at, and how much of everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from distill.api import AttackConfig, CollectConfig, Config, EvaluateConfig, ObjectiveConfig, StudentConfig, TrainConfig
from distill.attack.settings import ThreatConfig

GAMES = ("pong", "breakout")
TEACHER = "teacher"
TEST_SEED = 1001
"""Of the games that nobody is trained on."""


@dataclass(frozen=True)
class Kind:
    """One way to train a student."""

    title: str
    objective: ObjectiveConfig
    student: StudentConfig = field(default_factory=StudentConfig)
    adversary: str | None = None
    adversary_steps: int = 1
    """Of pgd in training; one from a random start is fast adversarial training (Wong et al. 2020)."""
    after: str | None = None
    """Kind of the student, of the same seed, that it begins as."""
    draws: int = 1
    """Of the agent's noise that an attacker averages slopes over."""


PLAIN = ObjectiveConfig(jacobian_weight=0.0)
KINDS: Mapping[str, Kind] = {
    "kl": Kind("KL", PLAIN),
    "sobolev": Kind("Sobolev", ObjectiveConfig(jacobian_weight=1.0)),
    "adversarial": Kind("adversarial", PLAIN, adversary="pgd"),
    "noise": Kind("adversarial, white noise", PLAIN, StudentConfig(noise="white"), adversary="pgd", draws=4),
    "then": Kind("KL, then adversarial by 3 steps", PLAIN, adversary="pgd", adversary_steps=3, after="kl"),
    "band": Kind("band-limited, 0.5", PLAIN, StudentConfig(band_limit=0.5)),
    "narrow": Kind("KL, 254 dense", PLAIN, StudentConfig(hidden=[254])),
}


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    states: int
    """That the teacher plays; as many are played by a first student."""
    test_states: int
    """Recorded for attacks, half by either."""
    steps: int
    """Of every student, of 64 states."""
    seeds: Sequence[int]
    played: Sequence[str]
    """Kinds of students that play."""
    attacked: int
    """Test states that are attacked."""
    games: int
    """Of each agent, clean and under attack."""
    pgd_steps: int
    """Of pgd in play; on states there are twice as many."""
    data: str
    runs: str
    device: str = "cpu"


FULL = Scale(
    states=10_000, test_states=4_096, steps=2_000, seeds=(1, 2, 3), played=tuple(KINDS), attacked=128, games=4,
    pgd_steps=5, data="data/robust", runs="runs/robust",
)  # fmt: skip
QUICK = Scale(
    states=400, test_states=256, steps=20, seeds=(1,), played=("kl", "noise"), attacked=16, games=2, pgd_steps=1,
    data="data/robust-quick", runs="runs/robust-quick",
)  # fmt: skip
SIZES = (1.0, 2.0, 4.0, 8.0)
"""Of perturbations on states, gray levels."""
EPS = 2.0
"""In training and in play."""
METHODS = ("noise", "fgsm", "pgd", "swarm")


def recording(game: str, scale: Scale, *, test: bool, actor: str = TEACHER) -> Config:
    """Games of the teacher, or of the first student with the teacher's labels."""
    states = scale.test_states // 2 if test else scale.states
    settings = CollectConfig(
        out=f"{scale.data}/{game}{'-test' if test else ''}", states=states, num_envs=8, actor=actor,
        jacobian="none" if test else "projected", shard_states=min(2000, states),
    )  # fmt: skip
    return Config(env=game, device=scale.device, seed=TEST_SEED if test else 1, collect=settings)


def first(game: str, scale: Scale) -> Config:
    """A quick student of the teacher's own games: it plays where students go wrong."""
    folder = f"{scale.runs}/{game}/first"
    return _training(game, scale, KINDS["kl"], TrainConfig(epochs=10.0, out=folder))


def training(game: str, scale: Scale, name: str, seed: int) -> Config:
    """A student's training; all take as many steps on as many states."""
    settings = TrainConfig(out=run_of(game, scale, name, seed), steps=scale.steps)
    config = replace(_training(game, scale, KINDS[name], settings), seed=seed)
    after = KINDS[name].after
    if after is None:
        return config
    return replace(config, student=replace(config.student, init=run_of(game, scale, after, seed)))


def attacking(game: str, scale: Scale, name: str, seed: int, method: str | None = None, eps: float = EPS) -> Config:
    """An agent on recorded states, clean or under one attack."""
    settings = AttackConfig(
        agents=[f"agent={run_of(game, scale, name, seed)}"], methods=[method or "noise"], eps=[eps],
        data=f"{scale.data}/{game}-test", states=scale.attacked, out=f"{scale.runs}/{game}/attack/{name}-{seed}",
    )  # fmt: skip
    return Config(env=game, device=scale.device, seed=seed, attack=settings, threat=_threat(name, 2 * scale.pgd_steps))


def playing(game: str, scale: Scale, name: str, seed: int, attack: str | None) -> Config:
    """Whole games of an agent, clean or with every step attacked."""
    settings = EvaluateConfig(
        agents=[f"agent={run_of(game, scale, name, seed)}"], games=scale.games, num_envs=scale.games, attack=attack,
        attack_eps=EPS, out=f"{scale.runs}/{game}/play/{name}-{seed}-{attack or 'clean'}",
    )  # fmt: skip
    threat = ThreatConfig() if attack is None else _threat(name, scale.pgd_steps)
    return Config(env=game, device=scale.device, seed=seed, evaluate=settings, threat=threat)


def run_of(game: str, scale: Scale, name: str, seed: int) -> str:
    """What an agent is known by: a student's run, or the teacher."""
    return TEACHER if name == TEACHER else f"{scale.runs}/{game}/{name}-{seed}"


def _threat(name: str, steps: int) -> ThreatConfig:
    return ThreatConfig(steps=steps, draws=1 if name == TEACHER else KINDS[name].draws)


def _training(game: str, scale: Scale, kind: Kind, settings: TrainConfig) -> Config:
    train = replace(
        settings, data=f"{scale.data}/{game}", batch_size=64, val_every=1000, val_states=1024,
        warmup=min(200, scale.steps),
    )  # fmt: skip
    if kind.adversary is not None:
        steps = kind.adversary_steps
        train = replace(train, adversary=kind.adversary, adversary_eps=EPS, adversary_steps=steps)
    return Config(env=game, device=scale.device, student=kind.student, objective=kind.objective, train=train)
