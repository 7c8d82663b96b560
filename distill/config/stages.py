"""Every stage as a function of all settings: checked first, and then handed the part that the stage reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from distill.attack.settings import AttackRun
from distill.collect.settings import CollectRun
from distill.config.config import Config
from distill.config.validate import validated
from distill.envs.settings import CommonConfig
from distill.evaluate.settings import EvaluateRun
from distill.finetune.settings import FinetuneRun
from distill.imitate.settings import ImitateRun
from distill.multitask.settings import MultitaskRun
from distill.pbt.settings import PbtRun
from distill.report.settings import ReportRun
from distill.rounds.settings import RoundsRun
from distill.shrink.settings import ShrinkRun
from distill.sweep.settings import SweepRun
from distill.system.settings import part
from distill.train.settings import TrainRun

if TYPE_CHECKING:
    from torch import nn

    from distill.collect.summary import Summary
    from distill.shrink.ladder import Rung
    from distill.sweep.grid import Cell, Row
    from distill.train.hooks import Hook
    from distill.train.lesson import Lesson

SETTINGS: dict[str, type[CommonConfig]] = {
    "collect": CollectRun,
    "train": TrainRun,
    "imitate": ImitateRun,
    "rounds": RoundsRun,
    "finetune": FinetuneRun,
    "multitask": MultitaskRun,
    "sweep": SweepRun,
    "pbt": PbtRun,
    "shrink": ShrinkRun,
    "evaluate": EvaluateRun,
    "report": ReportRun,
    "attack": AttackRun,
}
"""What each stage reads."""
R = TypeVar("R", bound=CommonConfig)


def _checked(config: Config, stage: str | None = None) -> Config:
    """``validated``, for stages whose teacher is the game's bundled one where nobody is named."""
    config = validated(config, stage)
    return dataclasses.replace(config, teacher=config.teacher or config.env)


def _ready(config: Config, kind: type[R]) -> R:
    """The part of checked settings that a stage reads, checked as that stage's."""
    run = part(config, kind)
    run.check_stage()
    return run


def collect(config: Config) -> Summary:
    """Record ``config.collect.states`` states into the dataset folder.

    Raises:
        UserError: bad settings, or a folder that holds something else.
    """
    from distill.collect import pipeline

    return pipeline.collect(_ready(_checked(config, "collect"), CollectRun))


def train(config: Config, net: nn.Module | None = None, hooks: Sequence[Hook] = ()) -> Path:
    """Fit a student and write its run folder.

    Args:
        config: settings.
        net: train this network, (B, 4, 84, 84) to (B, A), in place of ``config.student``; the run is
            named after its class. It is checkpointed, and gets a student folder if it is an ``AtariCNN`` or can be
            built again: by a registered name, or by its class's, called with the number of actions.
        hooks: watch the training, besides the toolkit's own.

    Returns:
        The run folder.

    Raises:
        UserError: bad settings or data.
        DivergedError: the loss became NaN or infinite; it is a UserError too.
    """
    from distill.train import loop
    from distill.train.team import Team

    team = Team.join()
    config = team.agree(_checked(config, "train") if team.main else config)
    folder = loop.train(part(config, TrainRun), net, hooks)
    team.wait()  # no one leaves while another still speaks
    return folder


def lesson(config: Config, net: nn.Module) -> Lesson:
    """What ``train`` would give ``net`` to learn from, for a loop of your own: batches, objective, figures, papers.

    Args:
        config: settings; those of the run's folder, steps and optimizer are the loop's own.
        net: who learns, (B, 4, 84, 84) to (B, A), on ``config.device``.

    Raises:
        UserError: bad settings or data.
    """
    from distill.system.device import pick_device
    from distill.train.lesson import Lesson
    from distill.train.network import named_after
    from distill.train.setup import open_data, scale_of

    run = named_after(_ready(_checked(config, "train"), TrainRun), net)
    data = open_data(run, pick_device(run.device))
    return Lesson(run, net, data, scale_of(run, data))


def imitate(config: Config, hooks: Sequence[Hook] = ()) -> Path:
    """Let a student learn from its own games while it plays them, and write its run folder.

    Args:
        config: settings.
        hooks: watch it, besides the toolkit's own.

    Returns:
        The run folder.

    Raises:
        UserError: bad settings, or an agent that cannot be used.
        DivergedError: the loss became NaN or infinite; it is a UserError too.
    """
    from distill.imitate import loop

    return loop.imitate(_ready(_checked(config, "imitate"), ImitateRun), hooks)


def rounds(config: Config, hooks: Sequence[Hook] = ()) -> Path:
    """Distill on-policy, online or in rounds of a data set that grows, and write the student's run folder.

    Args:
        config: settings; ``imitate`` says how is played and learned, ``rounds`` what is more than that.
        hooks: watch it, besides the toolkit's own.

    Returns:
        The run folder.

    Raises:
        UserError: bad settings, or an agent or folder that cannot be used.
        DivergedError: the loss became NaN or infinite; it is a UserError too.
    """
    from distill.rounds import loop

    return loop.rounds(_ready(_checked(config, "rounds"), RoundsRun), hooks)


def finetune(config: Config, hooks: Sequence[Hook] = ()) -> Path:
    """Go on with an agent, or begin one, by PPO on its own games, and write its run folder.

    Args:
        config: settings; without ``config.teacher``, or where that is the game's name, whoever taught the student so
            far teaches, else the game's bundled agent.
        hooks: watch it, besides the toolkit's own.

    Returns:
        The run folder.

    Raises:
        UserError: bad settings, or an agent that cannot be used.
        DivergedError: a loss became NaN or infinite; it is a UserError too.
    """
    from distill.finetune import loop

    return loop.finetune(_ready(_checked(config, "finetune"), FinetuneRun), hooks)


def multitask(config: Config, hooks: Sequence[Hook] = ()) -> Path:
    """Fit one student to datasets of several games, and write its run folder, with a student folder for each game.

    Args:
        config: settings.
        hooks: watch the training, besides the toolkit's own.

    Returns:
        The run folder.

    Raises:
        UserError: bad settings or data.
        DivergedError: the loss became NaN or infinite; it is a UserError too.
    """
    from distill.multitask import loop

    return loop.multitask(_ready(_checked(config), MultitaskRun), hooks)  # no one game to speak of


def sweep(
    config: Config,
    cells: Sequence[Cell] | None = None,
    after: Callable[[TrainRun, Path], Mapping[str, Any]] | None = None,
) -> list[Row]:
    """Train a student for every cell that has no row yet, and write its row.

    Args:
        config: settings that all cells share.
        cells: dotted settings and their values, the same settings in all; by default every combination
            of ``config.sweep.grid``.
        after: given a cell's settings and its finished run folder, returns more columns for its row.

    Returns:
        The rows of these cells, in their order, as text (docs/metrics.md).

    Raises:
        UserError: a setting, value or dataset that cannot work, in any cell, before the first is trained; or
            the folder holds another sweep.
        DivergedError: when all other cells are done, if trainings came to a NaN or infinite loss; these have no row.
    """
    from distill.sweep import run

    return run.sweep(_ready(_checked(config, "sweep"), SweepRun), cells, after)


def pbt(config: Config) -> Path:
    """Train a population of students whose settings change on the way, or one student by a schedule that one found.

    Returns:
        The folder: ``student``, ``schedule.yaml``, ``rounds.csv``, ``population.png``, and a run for every round.

    Raises:
        UserError: bad settings or data, a folder of another population, or Ray cannot be used.
        DivergedError: every member came to a NaN or infinite loss; it is a UserError too.
    """
    from distill.pbt import run

    return run.pbt(_ready(_checked(config, "pbt"), PbtRun))


def shrink(config: Config) -> list[Rung]:
    """Train students of ever smaller networks, play them in float32 and int8, and draw score against size and speed.

    Returns:
        The teacher, and a rung for every network and precision, as in ``table.csv`` (docs/players.md).

    Raises:
        UserError: a setting or dataset that cannot work, in any student, before the first is trained; or the folder
            holds another ladder.
        DivergedError: when all others are done, if trainings came to a NaN or infinite loss; these have no row.
    """
    from distill.shrink import run

    return run.shrink(_ready(_checked(config, "shrink"), ShrinkRun))


def evaluate(config: Config) -> dict[str, Any]:
    """Play ``evaluate.games`` whole games with every agent and write scores.json.

    Returns:
        The content of scores.json (docs/metrics.md).

    Raises:
        UserError: an agent is unknown or of another game, or scores.json is of another evaluation.
    """
    from distill.evaluate import run

    return run.evaluate(_ready(validated(config, "evaluate"), EvaluateRun)).to_dict()


def attack(config: Config) -> list[dict[str, Any]]:
    """Perturb the pixels of recorded states, and measure what becomes of each agent's decisions.

    Returns:
        A row for every agent, method and size, as in attack.json (docs/robustness.md).

    Raises:
        UserError: an agent or method is unknown, the data are of another task, or the folder is of another attack.
    """
    from distill.attack import run

    return run.attack(_ready(validated(config, "attack"), AttackRun))


def report(config: Config) -> Path:
    """Write ``index.html``, which needs no other file, and its pictures as PNG beside it.

    What cannot be found any more (a student's run, its dataset, its teacher) is left out, and the
    page says so. A report already in the folder is replaced.

    Returns:
        Path of index.html.

    Raises:
        UserError: no scores.json, a damaged one, or a folder with other files in it.
    """
    from distill.report import run

    return run.report(_ready(_checked(config, "report"), ReportRun))
