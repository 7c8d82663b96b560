"""Ideas on top of the recipe, each by a loop of its own on the library's parts; a row says whether it helps.

All are trained alike, and scored after the last step: averaged weights have no best validation to be picked at.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from distill.api import Batch, Hook, Hooks, Lesson, Losses, Model, Status, Targets, fit, lesson
from distill.config.config import Config
from distill.envs.games import game_info
from distill.losses.divergence import kl
from distill.losses.sobolev import states_of_share
from distill.networks.build import build_student
from distill.networks.nets import to_unit
from distill.sweep.cells import cell_config
from distill.sweep.grid import Cell, Row, run_grid
from distill.system.device import pick_device
from distill.system.streams import generator, seed_weights
from studies.atari.perturb import shifted
from studies.atari.plan import (
    BATCH,
    MATCH,
    PLAIN,
    RISING,
    SEED,
    SHARE,
    SOBOLEV,
    STATES,
    STATES_A_STEP,
    STEPS,
    Scale,
    afforded,
    alike,
    part_config,
)  # fmt: skip

IDEA = "idea"
FORWARD = 1 / 3
"""Operations of a forward pass over those of a plain step, about."""
EMA = 0.999
SHIFT = 4
"""At most so many pixels in each direction (random shift, Kostrikov et al. 2021)."""


class Averaged(Hook):
    """An exponential moving average of the weights, which takes their place at the end."""

    def __init__(self, net: nn.Module) -> None:
        self._net, self._mean = net, copy.deepcopy(net)

    def stepped(self, now: Status) -> None:
        """See ``Hook``; at the beginning the average forgets faster."""
        decay = min(EMA, now.step / (now.step + 10))
        with torch.no_grad():
            for mean, weight in zip(self._mean.parameters(), self._net.parameters(), strict=True):
                mean.lerp_(weight, 1 - decay)

    def ended(self, now: Status) -> None:
        """See ``Hook``."""
        self._net.load_state_dict(self._mean.state_dict())


def moved(batch: Batch, rng: np.random.Generator) -> Batch:
    """The whole batch shifted by some pixels, with its derivatives; labels stay."""
    down, right = (int(rng.integers(-SHIFT, SHIFT + 1)) for _ in range(2))
    t = batch.targets
    if t is not None:
        scale = None if t.scale is None else shifted(t.scale.unsqueeze(-1), down, 0).squeeze(-1)
        t = Targets(t.v, shifted(t.vjp, down, right), scale)
    return dataclasses.replace(batch, obs=shifted(batch.obs, down, right).contiguous(), targets=t)


class Hardest:
    """A lesson whose derivatives are on those states of each batch where the student is furthest from the teacher."""

    def __init__(self, of: Lesson, share: float) -> None:
        self._of, self._share = of, share

    def weights(self, step: int, total: int) -> Mapping[str, float]:
        """As the lesson's."""
        return self._of.weights(step, total)

    def gradient(self, batch: Batch, weights: Mapping[str, float]) -> Losses:
        """As the lesson's, of the batch in another order."""
        t = batch.targets
        if t is not None:
            with torch.no_grad():
                far = kl(self._of.net(to_unit(batch.obs)), batch.logits)
            order = far.argsort(descending=True)
            first = order[: states_of_share(self._share, len(order))]
            kept = Targets(t.v[first], t.vjp[first], None if t.scale is None else t.scale[first])
            batch = Batch(batch.index[order.cpu().numpy()], batch.obs[order], batch.logits[order], kept)
        return self._of.gradient(batch, weights)


def variations(scale: Scale) -> dict[str, Cell]:
    """Settings by what is tried."""
    sobolev: Cell = {**SOBOLEV, STATES: scale.share(10), MATCH: "l2", BATCH: STATES_A_STEP}
    plain: Cell = {**sobolev, **PLAIN, **RISING, SHARE: 1.0}
    cells = {
        "KL": plain, "KL, averaged weights": plain, "KL, random shift": plain,
        "Sobolev": sobolev, "Sobolev, averaged weights": sobolev, "Sobolev, random shift": sobolev,
        "Sobolev, where they differ most": {**sobolev, SHARE: 1.0},
    }  # fmt: skip
    filled = alike(cells.values())
    found = {}
    for name, cell in zip(cells, filled, strict=True):
        carries = {**cell, SHARE: 0.25} if "differ" in name else cell
        steps = afforded(carries, scale.cost)
        if "differ" in name:  # it pays for a forward pass in half of the steps
            steps = round(scale.cost / (scale.cost / steps + FORWARD / 2))
        found[name] = {**cell, STEPS: steps}
    return found


def train_ideas(game: str, scale: Scale, rows: Path) -> list[Row]:
    """A row for every idea and seed: figures on validation games."""
    cells = [
        {IDEA: name, SEED: seed, **cell} for seed in scale.few_seeds for name, cell in variations(scale).items()
    ]  # fmt: skip
    return run_grid(cells, lambda cell: _train(cell, part_config("ideas", game, scale)), rows, say=print)


def _train(cell: Cell, config: Config) -> dict[str, Any]:
    name = str(cell[IDEA])
    settings = {setting: value for setting, value in cell.items() if setting != IDEA}
    mine = cell_config(config, settings, Path("unused"))
    config = dataclasses.replace(config, **{part: getattr(mine, part) for part in ("seed", "objective", "train")})
    seed_weights(config.seed)
    net = build_student(config.student, len(game_info(config.env).actions)).to(pick_device(config.device))
    of = lesson(config, net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0, weight_decay=0.0, fused=True)
    steps = config.train.steps
    model = Model(net, optimizer, of.learning_rate, steps, of.batch_size, config.train.max_grad_norm)
    stream: Iterator[Batch] = of.batches(0, steps, steps)
    if "shift" in name:
        rng = generator("random shift", config.seed)
        stream = (moved(batch, rng) for batch in stream)
    minimised: Any = Hardest(of, 0.25) if "differ" in name else of
    hooks: list[Hook] = [Averaged(net)] if "averaged" in name else []
    until: Callable[[Status], bool] = lambda now: now.step >= steps  # noqa: E731
    end = fit(model, stream, minimised, Hooks(hooks), until)
    figures = {f"val_{figure}": value for figure, value in vars(of.score()).items()}
    return {**figures, "train_seconds": end.seconds}
