"""Which games are recorded and which students are trained: every cell's settings, by dotted name.

What is not named here is in ``part_config``, or a default of the library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from distill.api import Config, EvaluateConfig, StudentConfig, SweepConfig, TrainConfig
from distill.sweep.grid import Cell

GAMES = ("pong", "breakout", "space_invaders")


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    states: int
    """Recorded per game: percentages are of these."""
    test_states: Mapping[str, int]
    """Recorded with another seed, by game: several whole games a lane, and those of Breakout are long."""
    tested: int
    """About so many states are scored, from all whole games alike."""
    num_envs: int
    test_envs: int
    """Games side by side while test games are recorded; each ends in a fragment."""
    cost: int
    """What a training may cost, in steps of plain distillation."""
    seeds: Sequence[int]
    percentages: Sequence[int]
    played: Sequence[int]
    """Percentages whose students play."""
    games: int
    data: str
    runs: str
    device: str = "cpu"

    @property
    def few_seeds(self) -> Sequence[int]:
        """Seeds of what decides nothing: ablations and ideas."""
        return self.seeds[:3]

    @property
    def perturbed(self) -> int:
        """Test states, drawn from all whole games, that are scored with perturbed pixels."""
        return min(self.tested, 1024)

    def share(self, percentage: int) -> int:
        """States of a percentage."""
        return self.states * percentage // 100


FULL = Scale(
    states=100_000, test_states={"pong": 32_768, "breakout": 131_072, "space_invaders": 32_768}, tested=16_384,
    num_envs=16, test_envs=4, cost=6000, seeds=(1, 2, 3, 4, 5), percentages=(1, 3, 10, 30, 50), played=(1, 10),
    games=64, data="data/atari", runs="runs/atari",
)  # fmt: skip
QUICK = Scale(
    states=1600, test_states={"pong": 4096, "breakout": 20_480, "space_invaders": 4096}, tested=2048, num_envs=8,
    test_envs=2, cost=40, seeds=(1, 2), percentages=(10, 50), played=(50,), games=2, data="data/atari-quick",
    runs="runs/atari-quick",
)  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """One data set of a game."""

    suffix: str
    states: int
    num_envs: int
    seed: int = 1


def recordings(scale: Scale, game: str) -> list[Recording]:
    """Training and test games."""
    return [
        Recording("", scale.states, scale.num_envs),
        Recording("-test", scale.test_states[game], scale.test_envs, seed=1001),
    ]


K, WEIGHT, SCHEDULE = "objective.k", "objective.jacobian_weight", "objective.jacobian_schedule"
SHARE, UNTIL = "objective.jacobian_share", "objective.jacobian_until"
LR, EARLY_LR, STEPS = "train.learning_rate", "train.early_learning_rate", "train.steps"
MATCH, DIVERGENCE, BATCH = "objective.match", "objective.divergence", "train.batch_size"
CLIP = "train.max_grad_norm"
STATES, SEED = "train.states", "seed"
LAYERS = "student.teacher_layers"

RISING: Cell = {LR: 3e-3, EARLY_LR: 1e-3, UNTIL: 0.5}
"""The learning rate's peak rises from 0.001 to 0.003 while lambda falls to 0, which it does until half of the steps."""
PLAIN: Cell = {WEIGHT: 0.0, LR: 3e-3}
SOBOLEV: Cell = {WEIGHT: 1.0, SHARE: 0.25, **RISING}
"""Derivatives first, on a quarter of each batch."""
WHOLE: Cell = {WEIGHT: 1.0, LR: 1e-3}
"""Derivatives of all states from the first step to the last: the earlier default."""
CANDIDATES: Sequence[Cell] = (
    PLAIN,
    {**PLAIN, LR: 1e-3},
    {**PLAIN, **RISING},
    SOBOLEV,
    {**SOBOLEV, UNTIL: 0.3},
    WHOLE,
)
"""What is tried at every percentage; validation chooses one of each method."""
STATES_A_STEP = 32
DERIVATIVES = 1.23
"""Operations of a batch's derivatives over those of a plain step (docs/performance.md)."""


def part_config(part: str, game: str, scale: Scale) -> Config:
    """What the cells of a part have in common."""
    return Config(
        env=game,
        device=scale.device,
        student=StudentConfig("mnih2013"),
        train=TrainConfig(
            data=f"{scale.data}/{game}", batch_size=STATES_A_STEP, warmup=min(200, scale.cost // 4),
            val_states=1024, val_every=1000, checkpoint_every=2000, precision="fp32",
            hold_data="memory", cuda_graph=scale.device != "cpu",
        ),
        evaluate=EvaluateConfig(games=scale.games, num_envs=min(32, scale.games)),
        sweep=SweepConfig(out=f"{scale.runs}/{part}/{game}"),
    )  # fmt: skip


def afforded(cell: Cell, cost: float) -> int:
    """Steps of a cell that cost as many operations as ``cost`` plain ones."""
    whole = {**DEFAULTS, **cell}
    share = whole[SHARE] * whole[UNTIL] if whole[WEIGHT] > 0 else 0.0
    states = STATES_A_STEP * cost / (1 + DERIVATIVES * share)
    steps: int = round(states / whole.get(BATCH, STATES_A_STEP))
    return steps


def grid(scale: Scale, game: str) -> list[Cell]:
    """The comparison at equal cost: all candidates, seed after seed."""
    shares = [scale.share(percentage) for percentage in scale.percentages]
    return alike(
        {STATES: states, SEED: seed, **cell, STEPS: afforded(cell, scale.cost)}
        for seed in scale.seeds for states in shares for cell in CANDIDATES
    )  # fmt: skip


def same_steps(scale: Scale, chosen: Sequence[Cell]) -> list[Cell]:
    """The chosen form of Sobolev with as many steps as plain distillation has."""
    return alike({**cell, STEPS: scale.cost} for cell in chosen if cell[WEIGHT] > 0 and cell[UNTIL] < 1)


def layered(scale: Scale) -> list[Cell]:
    """Students with and without their teacher's first layer; both methods by their recipe, whatever a layer saves."""
    shares = [scale.share(percentage) for percentage in scale.percentages[::2]]
    return alike(
        {STATES: states, SEED: seed, LAYERS: layers, **cell, STEPS: afforded(cell, scale.cost)}
        for seed in scale.few_seeds for states in shares
        for cell in ({**PLAIN, **RISING}, SOBOLEV) for layers in (0, 1)
    )  # fmt: skip


Questions = dict[str, dict[str, Cell]]
ABLATED = ("pong", "breakout")
"""Games of the ablations; Space Invaders has no part in what is chosen by them."""


def questions(scale: Scale) -> Questions:
    """What each setting does at a tenth of the data and equal cost, by question and label."""
    varied: Questions = {
        "share of the batch": {f"{share:g}": {SHARE: share} for share in (0.125, 0.25, 0.5, 1.0)},
        "until": {f"{until:.0%} of the steps": {UNTIL: until} for until in (0.15, 0.3, 0.5, 1.0)},
        "λ at the start": {f"{weight:g}": {WEIGHT: weight} for weight in (0.1, 0.3, 1.0, 3.0)},
        "learning rate": {
            "KL, 0.003": {**PLAIN, EARLY_LR: None, SHARE: 1.0, UNTIL: 1.0},
            "KL, 0.001 rising to 0.003": {**PLAIN, SHARE: 1.0},
            "0.001 rising to 0.003": {},
            "0.003 throughout": {EARLY_LR: None},
            "0.001 throughout": {EARLY_LR: None, LR: 1e-3},
        },
        "directions per step": {"1 of 2 stored": {}, "2 stored": {K: 2}},
        "gradient's norm at most": {
            "KL, 0.5": {**PLAIN, SHARE: 1.0},
            "KL, 10": {**PLAIN, SHARE: 1.0, CLIP: 10.0},
            "0.5": {},
            "10": {CLIP: 10.0},
        },
        "comparison": {
            "squared distance": {},
            "weighted by 1 / (1 + ‖t‖²/s)": {MATCH: "weighted"},
            "weighted, 0.003 throughout": {MATCH: "weighted", EARLY_LR: None},
            "distance": {MATCH: "norm"},
            "cosine": {MATCH: "cosine"},
        },
        "the paper's form": {
            "ours": {},
            "KL(student ‖ teacher)": {DIVERGENCE: "reverse_kl"},
            "and distance, not squared": {DIVERGENCE: "reverse_kl", MATCH: "norm"},
            "and batches of 200": {DIVERGENCE: "reverse_kl", MATCH: "norm", BATCH: 200},
        },
    }
    base = {STATES: scale.share(10), MATCH: "l2", DIVERGENCE: "kl", BATCH: STATES_A_STEP, CLIP: 0.5}
    cells = [{**base, **SOBOLEV, **variation} for variations in varied.values() for variation in variations.values()]
    whole = iter(alike({**cell, STEPS: afforded(cell, scale.cost)} for cell in cells))
    return {question: {label: next(whole) for label in variations} for question, variations in varied.items()}


def ablated(scale: Scale) -> list[Cell]:
    """Every variation once a seed, though several questions ask for it."""
    cells = [cell for variations in questions(scale).values() for cell in variations.values()]
    different = [cell for i, cell in enumerate(cells) if cell not in cells[:i]]
    return [{SEED: seed, **cell} for seed in scale.few_seeds for cell in different]


DEFAULTS: Cell = {K: 1, WEIGHT: 0.0, SCHEDULE: "linear", SHARE: 1.0, UNTIL: 1.0, EARLY_LR: None}


def alike(cells: Iterable[Cell]) -> list[Cell]:
    """The same cells, all naming the same settings in the same order, each with its default where left out."""
    filled = [{**DEFAULTS, **cell} for cell in cells]
    return [{name: cell[name] for name in sorted(cell)} for cell in filled]
