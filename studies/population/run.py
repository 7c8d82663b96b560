"""Who trains, and what is kept of each: one row a search."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from distill.api import (
    CollectConfig,
    Config,
    Dataset,
    PbtConfig,
    TrainConfig,
    collect,
    load_student,
    measure,
    pbt,
    product,
    run_grid,
    train,
)
from distill.sweep.grid import Cell, Row
from studies.common import evenly

POPULATION, LATE, RANDOM = "population", "population that copies from half-way on", "random search"
DEFAULT, LONG = "default", "default, as many steps as all members"
SEARCHES: Mapping[str, Literal["pbt", "random"]] = {POPULATION: "pbt", LATE: "pbt", RANDOM: "random"}
METHODS = (POPULATION, LATE, RANDOM, DEFAULT, LONG)
TEST_SEED = 1001
"""Of games that nobody is trained on."""


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    games: Sequence[str]
    recorded: int
    """States of each game; as many of test games."""
    num_envs: int
    states: int
    """To learn from."""
    members: int
    steps: int
    """Of each member."""
    interval: int
    """Steps of a round."""
    seeds: Sequence[int]
    data: str
    runs: str


FULL = Scale(
    games=("pong", "space_invaders"), recorded=30_000, num_envs=8, states=10_000, members=8, steps=1200, interval=200,
    seeds=(1, 2, 3), data="data/population", runs="runs/population",
)  # fmt: skip
QUICK = Scale(
    games=("pong",), recorded=4000, num_envs=2, states=1000, members=3, steps=40, interval=20, seeds=(1, 2),
    data="data/population-quick", runs="runs/population-quick",
)  # fmt: skip


def run(scale: Scale, path: Path) -> list[Row]:
    """Rows of all searches; what has a row is not done again."""
    for game in scale.games:
        for suffix, seed in (("", 1), ("-test", TEST_SEED)):
            collect(_recording(scale, game, suffix, seed))
    axes = {"game": scale.games, "seed": scale.seeds, "method": METHODS, "steps": [scale.steps]}
    return run_grid(product(axes), lambda cell: _train(scale, cell), path, say=print)


def _recording(scale: Scale, game: str, suffix: str, seed: int) -> Config:
    settings = CollectConfig(out=f"{scale.data}/{game}{suffix}", states=scale.recorded, num_envs=scale.num_envs)
    return Config(env=game, device="cpu", seed=seed, collect=settings)


def _train(scale: Scale, cell: Cell) -> Mapping[str, Any]:
    """Train, and measure on whole test games."""
    began = time.perf_counter()
    config = configured(scale, cell)
    folder = pbt(config) if cell["method"] in SEARCHES else train(config)
    seconds = time.perf_counter() - began
    student = load_student(folder)
    dataset = Dataset(f"{scale.data}/{cell['game']}-test")
    tested = measure(student.net, dataset, evenly(dataset, 8192))
    return {
        "val_kl": student.training.metrics["val_kl"], "test_kl": tested.kl, "test_action_error": tested.action_error,
        "seconds": round(seconds, 1), "data": dataset.digest,
    }  # fmt: skip


def configured(scale: Scale, cell: Cell) -> Config:
    """A method's settings; what is not named here is the library's default."""
    method, game, seed = cell["method"], cell["game"], cell["seed"]
    steps = scale.steps * (scale.members if method == LONG else 1)
    out = f"{scale.runs}/{game}-{seed}-{method.replace(', ', '-').replace(' ', '-')}"
    settings = TrainConfig(
        data=f"{scale.data}/{game}", out=out, steps=steps, batch_size=32, states=scale.states,
        val_every=scale.interval, warmup=min(100, scale.interval // 2), hold_data="disk",
    )  # fmt: skip
    config = Config(env=game, device="cpu", seed=seed, train=settings)
    if method not in SEARCHES:
        return config
    search = PbtConfig(
        scheduler=SEARCHES[method], members=scale.members, perturbation_interval=scale.interval, out=out,
        burn_in_period=scale.steps // 2 if method == LATE else 0,
    )  # fmt: skip
    return replace(config, train=replace(settings, out=TrainConfig().out), pbt=search)
