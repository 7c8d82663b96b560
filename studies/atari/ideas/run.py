"""A row for every idea and seed. All are trained alike and scored after the last step, averaged weights too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distill.api import Config, Hooks, Model, Status, fit, lesson, load_teacher
from distill.networks.build import build_student
from distill.networks.nets import AtariCNN
from distill.sweep.cells import cell_config
from distill.sweep.grid import Cell, Row, run_grid
from distill.system.device import pick_device
from distill.system.streams import seed_weights
from studies.atari.ideas.averaged import AveragedWeights
from studies.atari.ideas.first_layer import (
    AsWide,
    AtItsOutput,
    FromTheTeachersFirstLayer,
    HalfOfTheTeachersFirstLayer,
    TeachersFirstLayer,
)
from studies.atari.ideas.hardest import WhereTheyDiffer
from studies.atari.ideas.idea import Idea
from studies.atari.ideas.shift import RandomShift
from studies.atari.ideas.value import ValueToo
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
    alike,
    part_config,
)
from studies.atari.run import rows_of
from teachers.protocol import Teacher

IDEA = "idea"
IDEAS: dict[str, tuple[Idea, tuple[str, ...]]] = {
    "": (Idea(), ("KL", "Sobolev")),
    ", averaged weights": (AveragedWeights(), ("KL", "Sobolev")),
    ", random shift": (RandomShift(), ("KL", "Sobolev")),
    ", where they differ most": (WhereTheyDiffer(), ("Sobolev",)),
    ", value too": (ValueToo(), ("KL", "Sobolev")),
    " with a first layer as wide as the teacher's": (AsWide(), ("KL", "Sobolev")),
    " from the teacher's first layer": (FromTheTeachersFirstLayer(), ("KL", "Sobolev")),
    " on the teacher's first layer": (TeachersFirstLayer(), ("KL", "Sobolev")),
    " on half of the teacher's first layer": (HalfOfTheTeachersFirstLayer(), ("KL", "Sobolev")),
    " on the teacher's first layer, at its output": (AtItsOutput(), ("Sobolev",)),
}
"""What is tried and with which methods, by what it adds to the method's name."""


def variations(scale: Scale) -> dict[str, tuple[Idea, Cell]]:
    """Every idea with every method it is for, and its settings."""
    sobolev: Cell = {**SOBOLEV, STATES: scale.share(10), MATCH: "l2", BATCH: STATES_A_STEP}
    settings: dict[str, Cell] = {"KL": {**sobolev, **PLAIN, **RISING, SHARE: 1.0}, "Sobolev": sobolev}
    found = {method + name: (idea, settings[method]) for name, (idea, methods) in IDEAS.items() for method in methods}
    cells = alike({**cell, **idea.settings} for idea, cell in found.values())
    return {
        name: (idea, {**cell, STEPS: idea.steps(cell, scale.cost)})
        for (name, (idea, _)), cell in zip(found.items(), cells, strict=True)
    }


def train_ideas(game: str, scale: Scale) -> list[Row]:
    """A row for every idea and seed: figures on validation games."""
    tried = variations(scale)
    cells = [{IDEA: name, SEED: seed, **cell} for seed in scale.few_seeds for name, (_, cell) in tried.items()]
    config = part_config("ideas", game, scale)
    return run_grid(
        cells, lambda cell: _train(cell, tried[cell[IDEA]][0], config), rows_of("ideas", game, scale), say=print
    )


def _train(cell: Cell, idea: Idea, config: Config) -> dict[str, Any]:
    config, net, teacher = _begin(cell, idea, config)
    of = lesson(config, net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0, weight_decay=0.0, fused=True)
    steps = config.train.steps
    model = Model(net, optimizer, of.learning_rate, steps, of.batch_size, config.train.max_grad_norm)
    minimised = idea.minimised(of, teacher)
    stream = idea.stream(of.batches(0, steps, steps), config.seed)
    until: Callable[[Status], bool] = lambda now: now.step >= steps  # noqa: E731
    end = fit(model, stream, minimised, Hooks(list(idea.hooks(net))), until)
    figures = {f"val_{figure}": value for figure, value in vars(of.score()).items()}
    return {**figures, "train_seconds": end.seconds}


def _begin(cell: Cell, idea: Idea, config: Config) -> tuple[Config, AtariCNN, Teacher]:
    """Settings of a cell, a fresh student and its teacher."""
    settings = {setting: value for setting, value in cell.items() if setting != IDEA}
    mine = cell_config(config, settings, Path("unused"))
    config = dataclasses.replace(
        config, seed=mine.seed, objective=mine.objective, train=mine.train, student=idea.student
    )
    teacher = load_teacher(config.env, game=config.env)
    seed_weights(config.seed)
    net = build_student(config.student, teacher.info.num_actions)
    assert isinstance(net, AtariCNN)
    idea.prepare(net, teacher)
    device = pick_device(config.device)
    return config, net.to(device), teacher.to(device)
