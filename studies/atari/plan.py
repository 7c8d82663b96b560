"""Which games are recorded and which students are trained: every cell's settings, by dotted name.

What is not named here is in ``part_config``, or a default of the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from distill.api import Config, EvaluateConfig, StudentConfig, SweepConfig, TrainConfig
from distill.sweep.grid import Cell

GAMES = ("pong", "breakout", "space_invaders")


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    states: int
    """Recorded per game: percentages are of these."""
    test_states: int
    """Recorded per game with another seed."""
    tested: int
    """Whole games of these are scored until they have so many states."""
    num_envs: int
    test_envs: int
    """Games side by side while test games are recorded; each ends in a fragment."""
    steps: int
    seeds: Sequence[int]
    percentages: Sequence[int]
    ablated: Sequence[int]
    """Seeds of the ablations."""
    played: Sequence[int]
    """Percentages whose students play."""
    games: int
    data: str
    runs: str

    @property
    def perturbed(self) -> int:
        """Test states, drawn from all whole games, that are scored with perturbed pixels."""
        return min(self.tested, 1024)

    def share(self, percentage: int) -> int:
        """States of a percentage."""
        return self.states * percentage // 100


FULL = Scale(
    states=100_000, test_states=32_768, tested=32_768, num_envs=16, test_envs=4, steps=3000, seeds=(1, 2, 3),
    percentages=(1, 3, 10, 30, 50), ablated=(1, 2, 3), played=(1, 10), games=64, data="data/atari", runs="runs/atari",
)  # fmt: skip
QUICK = Scale(
    states=1600, test_states=4096, tested=2048, num_envs=8, test_envs=2, steps=40, seeds=(1, 2),
    percentages=(10, 50), ablated=(1,), played=(50,), games=2, data="data/atari-quick", runs="runs/atari-quick",
)  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """One data set of a game."""

    suffix: str
    states: int
    num_envs: int
    seed: int = 1
    jacobian: Literal["projected", "full", "none"] = "projected"
    space: Literal["logits", "log_probs", "probs"] = "logits"


def recordings(scale: Scale, game: str) -> list[Recording]:
    """Training and test games; for the ablations the first part of the training games again, in other forms."""
    main = [
        Recording("", scale.states, scale.num_envs),
        Recording("-test", scale.test_states, scale.test_envs, seed=1001),
    ]
    few = max(scale.states // 16, 4 * scale.share(scale.percentages[0]))
    # Without stored derivatives a data set is small, and the teacher gives those of its space while training.
    others = [
        Recording("-full", few, scale.num_envs, jacobian="full"),
        Recording("-log_probs", few, scale.num_envs, jacobian="none", space="log_probs"),
        Recording("-probs", few, scale.num_envs, jacobian="none", space="probs"),
    ]
    return main + (others if game == GAMES[0] else [])


K, WEIGHT, SCHEDULE = "objective.k", "objective.jacobian_weight", "objective.jacobian_schedule"
LAW, MATCH, BLUR, TARGETS = "objective.law", "objective.match", "objective.jacobian_blur", "objective.jacobian_targets"
NOISE, LR, STEPS = "objective.input_noise", "train.learning_rate", "train.steps"
STATES, DATA, SEED = "train.states", "train.data", "seed"

KL: Cell = {WEIGHT: 0.0, LR: 3e-3}
SOBOLEV: Cell = {WEIGHT: 1.0, SCHEDULE: "linear", LR: 3e-3, K: 1}
DEFAULT: Cell = {**SOBOLEV, LR: 1e-3}
"""The library's default λ, schedule and learning rate, with one of the stored directions a step."""
DEFAULT_KL: Cell = {**KL, LR: DEFAULT[LR]}
"""The same without the Sobolev term."""
CANDIDATES: Sequence[Cell] = (
    KL,
    DEFAULT_KL,
    SOBOLEV,
    DEFAULT,
    {**DEFAULT, SCHEDULE: "constant"},
)
"""What is tried at every percentage; validation chooses one for plain distillation and one for Sobolev."""


def part_config(part: str, game: str, scale: Scale) -> Config:
    """What the cells of a part have in common."""
    return Config(
        env=game,
        device="cpu",
        student=StudentConfig("mnih2013"),
        train=TrainConfig(
            data=f"{scale.data}/{game}", steps=scale.steps, batch_size=32, warmup=min(200, scale.steps // 4),
            val_states=1024, val_every=500, checkpoint_every=1000,
        ),
        evaluate=EvaluateConfig(games=scale.games, num_envs=min(32, scale.games)),
        sweep=SweepConfig(
            out=f"{scale.runs}/{part}/{game}", data=f"{scale.data}/{game}-test", test_states=scale.tested
        ),
    )  # fmt: skip


def grid(scale: Scale, game: str) -> list[Cell]:
    """The paper's comparison, for the same number of steps: all candidates, seed after seed."""
    shares = [scale.share(percentage) for percentage in scale.percentages]
    tried = [{STATES: states, SEED: seed, **cell} for seed in scale.seeds for states in shares for cell in CANDIDATES]
    return alike(tried, game, scale)


def longer(scale: Scale, game: str, chosen: Sequence[Cell]) -> list[Cell]:
    """Plain distillation at its chosen settings with the time that Sobolev takes, which is that of twice the steps."""
    return alike([{**cell, STEPS: 2 * scale.steps} for cell in chosen if cell[WEIGHT] == 0], game, scale)


Questions = dict[str, dict[str, Cell]]


def questions(scale: Scale, game: str) -> Questions:
    """What each setting does at the smallest percentage, by question and label: variations of the default recipe."""
    online, held, fast = {TARGETS: "online"}, {SCHEDULE: "constant"}, {LR: 3e-3}
    full, log_probs, probs = ({DATA: f"{scale.data}/{game}-{name}"} for name in ("full", "log_probs", "probs"))
    varied: Questions = {
        "λ at the start": {
            "0 (KL), learning rate 0.003": KL,
            "0 (KL)": DEFAULT_KL,
            **{f"{weight:g}": {WEIGHT: weight} for weight in (0.01, 0.1, 1.0, 10.0)},
        },
        "λ over time": {
            "linear to 0": {},
            "constant": held,
            "linear to 0, learning rate 0.003": fast,
            "constant, learning rate 0.003": {**held, **fast},
        },
        "directions per step": {"1 of 2 stored": {}, "2 stored": {K: 2}},
        "comparison": {"l2": {}, "cosine": {MATCH: "cosine"}, "l2 of blurred, 2 pixels": {BLUR: 2.0}},
        "noisy pixels, no Sobolev": {f"σ = {sigma:g}": {**KL, NOISE: sigma} for sigma in (2.0, 4.0, 8.0)},
        "other data": {
            "KL": {**DEFAULT_KL, **full},
            "KL, learning rate 0.003": {**KL, **full},
            "logits, 1 fresh direction, full Jacobian stored": full,
            "logits, 4 fresh": {K: 4, **full},
            "logits, all directions": {K: None, **full},
            "logits, 1 fresh, teacher online": {**full, **online},
            "logits, 1 fresh of law fisher, online": {LAW: "fisher", **full, **online},
            "log-probabilities, 1 fresh, online": {**log_probs, **online},
            "probabilities, 1 fresh, online": {**probs, **online},
        },
    }
    return _filled(varied, {STATES: scale.share(scale.percentages[0])}, game, scale)


def much_data(scale: Scale, game: str) -> Questions:
    """Whether a gentler term, more directions or more steps help Sobolev at the largest percentage."""
    gentle, patient = {WEIGHT: 0.1, LR: KL[LR]}, {STEPS: 3 * scale.steps}
    varied: Questions = {
        f"{scale.steps:,} steps": {
            "KL, learning rate 0.003": KL,
            "λ = 1": {},
            "λ = 1, both stored directions": {K: 2},
            "λ = 0.1, learning rate 0.003": gentle,
        },
        f"{3 * scale.steps:,} steps": {
            "KL, learning rate 0.003": {**KL, **patient},
            "λ = 1": patient,
            "λ = 0.1, learning rate 0.003": {**gentle, **patient},
        },
    }
    return _filled(varied, {STATES: scale.share(scale.percentages[-1])}, game, scale)


def _filled(varied: Questions, base: Cell, game: str, scale: Scale) -> Questions:
    """Whole cells: the default recipe with a base and a variation."""
    cells = [{**DEFAULT, **base, **variation} for variations in varied.values() for variation in variations.values()]
    whole = iter(alike(cells, game, scale))
    return {question: {label: next(whole) for label in variations} for question, variations in varied.items()}


ABLATIONS = {"ablation": questions, "much_data": much_data}
"""Parts that vary the default recipe."""


def ablated(part: str, scale: Scale, game: str) -> list[Cell]:
    """Every variation once a seed, though several questions ask for it."""
    cells = [cell for variations in ABLATIONS[part](scale, game).values() for cell in variations.values()]
    different = [cell for i, cell in enumerate(cells) if cell not in cells[:i]]
    return [{SEED: seed, **cell} for seed in scale.ablated for cell in different]


def alike(cells: Sequence[Cell], game: str, scale: Scale) -> list[Cell]:
    """The same cells, all naming the same settings, each with its default where a cell leaves it out."""
    defaults = {
        K: 1, WEIGHT: 0.0, SCHEDULE: "constant", LAW: "sphere", MATCH: "l2", BLUR: 0.0, TARGETS: "stored", NOISE: 0.0,
        STEPS: scale.steps, DATA: f"{scale.data}/{game}",
    }  # fmt: skip
    names = list(dict.fromkeys(name for cell in cells for name in cell))
    return [{name: cell.get(name, defaults.get(name)) for name in names} for cell in cells]
