"""``distill multitask``: one student of several games. Read ``multitask`` from top to bottom."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import AdamW

from distill.dataset.schema import read_manifest
from distill.envs.settings import CommonConfig
from distill.errors import UserError
from distill.multitask.finish import check_play, finish, play
from distill.multitask.nets import make_students
from distill.multitask.settings import MultitaskRun
from distill.multitask.stream import CYCLE, InTurn, steps_of_each
from distill.networks.nets import count_parameters
from distill.records.data import DataUsed
from distill.records.loggers import Loggers
from distill.records.runs import is_same_run, plain, refuse_other_data
from distill.students.folder import is_student
from distill.system.alone import refuse_several_processes
from distill.system.device import pick_device
from distill.system.progress import Bar, console
from distill.system.settings import fill, part
from distill.system.streams import seed_weights
from distill.train.adversary import try_adversary
from distill.train.checkpoint import Progress, best_weights, can_go_on, newest_checkpoint
from distill.train.fit import Model, fit
from distill.train.hooks import Hook, Hooks
from distill.train.lesson import Lesson
from distill.train.logs import Log, TrainingBar, TrainingLoss
from distill.train.network import network_text, parameter_groups
from distill.train.run import hold_run, objective_name
from distill.train.saver import BestSaver, Kept
from distill.train.settings import TrainRun
from distill.train.setup import Data, open_data, scale_of
from distill.train.team import ALONE
from distill.train.validation import Validation

MATTERS = ("teacher", "preset", "tau", "seed", "student", "objective", "train", "multitask")
"""What makes a run another run, section by section."""
FREE = (
    *(f"train.{name}" for name in ("resume", "checkpoint_every", "log_every", "loggers", "verify", "hold_data")),
    "multitask.out",
    "multitask.games",
)
"""Settings in those sections that may change."""


@dataclass
class TasksProgress(Progress):
    """Where a training of several datasets stands."""

    scales: list[float] = field(default_factory=list)
    """s of each, fixed at the start."""
    used: list[dict[str, Any]] = field(default_factory=list)
    """Which data each is (``DataUsed``)."""


def multitask(config: MultitaskRun, hooks: Sequence[Hook] = ()) -> Path:
    """See ``distill.config.stages.multitask``, which checks ``config`` first."""
    refuse_several_processes("distill multitask")
    t, device = config.train, pick_device(config.device)
    weights = config.multitask.weights or [1.0] * len(config.multitask.data)
    counts = steps_of_each(weights, t.steps)
    runs = [_of_dataset(config, number, count) for number, count in enumerate(counts)]
    data = [open_data(run, device) for run in runs]
    _apart(data)
    folder = fill(config.multitask.out, student=config.student.in_folders, seed=config.seed,
                  objective=objective_name(config.objective))  # fmt: skip
    check_play(config, folder, runs, data)
    seed_weights(config.seed)
    nets = make_students(config.student, {one.dataset.task.game: one.dataset.task.num_actions for one in data})
    _one_preset(data)
    nets.to(device)
    for run, one in zip(runs, data, strict=True):
        try_adversary(run, nets[one.dataset.task.game])
    asked = plain(config)
    with contextlib.ExitStack() as held:
        hold_run(
            folder, asked, "--multitask.out",
            lambda: is_same_run(folder, asked, MultitaskRun, "--multitask.out", FREE, MATTERS), held,
        )  # fmt: skip
        if all(is_student(folder / game) for game in nets):
            _refuse_other_data(folder, data, device)
            console.print(f"{folder}: already trained; nothing to do")
            play(config, folder, list(nets))
            return folder
        optimizer = AdamW(parameter_groups(nets, t.weight_decay), lr=0.0, fused=True)
        kept = Kept(nets, optimizer, TasksProgress(), config.to_dict())
        best = _begin(runs, data, kept, folder)
        progress: TasksProgress = kept.progress
        lessons = [
            Lesson(run, nets[one.dataset.task.game], one, scale)
            for run, one, scale in zip(runs, data, progress.scales, strict=True)
        ]
        together = InTurn(lessons, weights)
        model = Model(nets, optimizer, together.learning_rate, t.steps, t.batch_size, t.max_grad_norm, progress)
        describe(config, data, nets)
        with (
            Loggers(t.loggers, folder, progress.step) as loggers,
            BestSaver(folder, kept, t.checkpoint_every, best, ALONE) as saver,
            Bar(f"train {objective_name(config.objective)}", "steps", t.steps, progress.step) as bar,
        ):
            watching = Hooks([Log(loggers), TrainingBar(bar)])
            watching.add(TrainingLoss(t.log_every, watching.measured))
            watching.add(Validation(lambda: together_scored(lessons), t.val_every, t.steps, saver, watching.measured))
            watching.add(*hooks, saver)
            fit(model, together.batches(progress.step, t.steps), together, watching, lambda now: now.step >= t.steps)
            finish(lessons, nets, folder, saver)
        play(config, folder, list(nets))
        return folder


def _of_dataset(config: MultitaskRun, number: int, steps: int) -> TrainRun:
    """Settings of a training on one of the datasets, which gets so many of the steps.

    Raises:
        UserError: that is none.
    """
    m, place = config.multitask, fill(config.multitask.data[number], env="")
    if not steps:
        weights = config.multitask.weights or [1.0] * len(config.multitask.data)
        if config.train.steps >= CYCLE:  # more of them would not help
            raise UserError(
                f"{place} would get none of the steps: its part of --multitask.weights is "
                f"{weights[number] / sum(weights):.2g}, and turns are shared out in thousandths; raise it to 0.001"
            )
        raise UserError(
            f"{place} would get none of the --train.steps={config.train.steps}; raise these, or its part of "
            "--multitask.weights"
        )
    manifest = read_manifest(place)
    game = manifest.identity.game
    o = config.objective
    if m.jacobian_weights is not None:
        o = dataclasses.replace(o, jacobian_weight=m.jacobian_weights[number])
    common = dataclasses.replace(part(config, CommonConfig), env=game, teacher=manifest.teacher_name or game)
    train = dataclasses.replace(config.train, data=str(place), steps=steps)
    return TrainRun(**vars(common), student=config.student, objective=o, train=train)


def _apart(data: Sequence[Data]) -> None:
    """Refuse two datasets of one teacher: a student's papers tell of one, and its figures on the other would be of
    states that it was trained on.
    """
    seen: dict[str, str] = {}
    for one in data:
        teacher, folder = one.dataset.identity.teacher, str(one.dataset.folder)
        if teacher in seen:
            raise UserError(
                f"{seen[teacher]} and {folder} are of one teacher; collect its states into one dataset, and "
                "give that more of the steps with --multitask.weights"
            )
        seen[teacher] = folder


def _refuse_other_data(folder: Path, data: Sequence[Data], device: torch.device) -> None:
    """A run does not count as finished on other data; papers tell of the first dataset of a game, checkpoints of all.

    Raises:
        UserError: naming what changed.
    """
    first = {one.dataset.task.game: one for one in reversed(data)}
    for game, one in first.items():
        refuse_other_data(folder / game, one.used, "--multitask.out")
    if can_go_on(folder):
        content = newest_checkpoint(folder, device, "--multitask.out")
        _refuse_changed(folder, data, TasksProgress(**content["progress"]).used)


def _refuse_changed(folder: Path, data: Sequence[Data], used: Sequence[dict[str, Any]]) -> None:
    for one, before in zip(data, used, strict=True):
        change = one.used.change_since(DataUsed.told(before))
        if change:
            raise UserError(f"the run in {folder} is of other data: {change}; choose another --multitask.out")


def _one_preset(data: Sequence[Data]) -> None:
    """One trunk sees one kind of pixels."""
    first = data[0].dataset.task
    for one in data[1:]:
        task = one.dataset.task
        if task.preset_hash != first.preset_hash:
            raise UserError(
                f"{one.dataset.folder} is of preset {task.preset} ({task.preset_hash}) and {data[0].dataset.folder} of "
                f"{first.preset} ({first.preset_hash}); one student sees one preset, so collect one of them anew"
            )


def _begin(runs: Sequence[TrainRun], data: Sequence[Data], kept: Kept, folder: Path) -> dict[str, torch.Tensor]:
    """Set the progress of a run that begins, or restore that in ``folder``; returns the best weights so far."""
    if not can_go_on(folder):
        scales = [scale_of(run, one) for run, one in zip(runs, data, strict=True)]
        kept.progress = TasksProgress(scales=scales, used=[one.used.to_dict() for one in data])
        return {}
    device = data[0].loader.device
    content = newest_checkpoint(folder, device, "--multitask.out")
    kept.restore(content)
    kept.progress = TasksProgress(**content["progress"])
    _refuse_changed(folder, data, kept.progress.used)
    console.print(f"{folder}: continuing at step {kept.progress.step}")
    return best_weights(content, folder, device)


def together_scored(lessons: Sequence[Lesson]) -> Any:
    """Figures of every dataset by ``<figure>_<name>``, and as ``kl`` their geometric mean, by which weights are kept.

    Geometric, since games differ by a factor in how large their KL is.
    """
    found: dict[str, float | None] = {}
    kl = []
    for name, lesson in named(lessons).items():
        scores = lesson.score()
        kl.append(scores.kl)
        found |= {f"{figure}_{name}": value for figure, value in vars(scores).items()}
    return SimpleNamespace(kl=float(np.exp(np.mean(np.log(np.maximum(kl, 1e-12))))), **found)


def named(lessons: Sequence[Lesson]) -> dict[str, Lesson]:
    """Lessons by their game, with a number where several are of one."""
    games = [lesson.task.game for lesson in lessons]
    names = [game if games.count(game) == 1 else f"{game}{games[: i + 1].count(game)}" for i, game in enumerate(games)]
    return dict(zip(names, lessons, strict=True))


def describe(config: MultitaskRun, data: Sequence[Data], nets: nn.Module) -> None:
    """Print what is about to happen."""
    counts = steps_of_each(config.multitask.weights or [1.0] * len(data), config.train.steps)
    of = ", ".join(
        f"{len(one.train_index):,} states of {one.dataset.folder} ({count:,} steps)"
        for one, count in zip(data, counts, strict=True)
    )
    console.print(
        f"{network_text(config.student)}, one trunk ({count_parameters(nets):,} parameters in all), on {of}; "
        f"{config.train.steps:,} steps of {config.train.batch_size} in turn, {objective_name(config.objective)}, "
        f"seed {config.seed}"
    )
