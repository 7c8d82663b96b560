"""``distill train``: fit a student to a dataset. ``train`` builds the parts, ``distill.train.fit`` is the loop."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from distill.batches.loader import Sampler, batches
from distill.engine.engine import Engine
from distill.engine.step import make_engine, make_step
from distill.errors import DivergedError, UserError
from distill.figures.fidelity import Fidelity, fidelity
from distill.records.data import DataUsed
from distill.records.loggers import Loggers
from distill.records.runs import how_to_go_on
from distill.students.folder import is_student
from distill.system.device import arithmetic, pick_device
from distill.system.progress import Bar, console
from distill.system.streams import seed_weights
from distill.train.checkpoint import Progress, best_weights, newest_checkpoint
from distill.train.finish import describe, finish
from distill.train.fit import Model, fit
from distill.train.hooks import Hook, Hooks
from distill.train.logs import Log, SaliencyPicture, TrainingBar, TrainingLoss
from distill.train.network import named_after
from distill.train.run import objective_name, open_run
from distill.train.saver import BestSaver, Kept
from distill.train.settings import TrainRun
from distill.train.setup import Data, Minimise, make_learning_rate, make_objective, make_student, open_data, total_steps
from distill.train.team import Team
from distill.train.validation import Validation, is_over


def train(config: TrainRun, net: nn.Module | None = None, hooks: Sequence[Hook] = ()) -> Path:
    """See ``distill.config.stages.train``, which checks ``config`` first."""
    team = Team.join()
    config = config if net is None else named_after(config, net)
    t, device = config.train, team.device(pick_device(config.device))
    data = open_data(config, device)
    seed_weights(config.seed)
    student = (net or make_student(config, data.dataset)).to(device)
    sampler = Sampler(data.train_index, t.batch_size, config.seed)
    size, share = sampler.batch_size, team.share(sampler.batch_size, config.objective)
    folder, resuming = team.agree(open_run(config, data.used) if team.main else (Path(), False))
    if is_student(folder):
        console.print(f"{folder}: already trained; nothing to do")
        return folder

    engine = make_engine(student, arithmetic(device, t.precision)) if t.engine == "fast" else None
    step = make_step(student, engine, cuda_graph=t.cuda_graph)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.0, weight_decay=t.weight_decay, fused=True)
    again = how_to_go_on(t.out, folder, "--train.out", newest=t.resume)
    kept = Kept(student, optimizer, Progress(), config.to_dict(), again)
    best = _begin(config, data, kept, folder if resuming else None)
    progress: Progress = kept.progress
    objective = make_objective(config, data.dataset, progress.jacobian_scale)
    total, rate = total_steps(config, sampler), make_learning_rate(config)
    model = Model(student, optimizer, rate, t.max_grad_norm, progress, total, size, team)
    carrying = functools.partial(objective.carrying, total=total, batch_size=size)
    stream = batches(data.loader, sampler, progress.step, total, carrying=carrying, share=share)
    score = functools.partial(_score, team, student, engine, data, config.objective.temperature)
    if team.main:
        describe(config, data, student, model.total, sampler)
    with (
        _advice(folder),
        Loggers(t.loggers, folder if team.main else None, progress.step) as loggers,
        BestSaver(folder if team.main else None, kept, t.checkpoint_every, best, team) as saver,
        Bar(f"train {objective_name(config.objective)}", "steps", model.total, progress.step) as bar,
    ):
        watching = Hooks([Log(loggers), TrainingBar(bar)])
        watching.add(TrainingLoss(t.log_every, watching.measured))
        watching.add(Validation(score, t.val_every, saver, watching.measured), *(hooks if team.main else ()), saver)
        if team.main:
            watching.add(SaliencyPicture(loggers, student, engine, data.loader, data.val_index))
        fit(model, stream, Minimise(objective, step), watching, lambda now: is_over(now, t.patience, progress))
        if team.main:
            finish(config, folder, data, saver, loggers)
        return team.agree(folder)  # no one leaves before the student is written


def _score(team: Team, student: nn.Module, engine: Engine | None, data: Data, temperature: float) -> Fidelity:
    """Fidelity on the held-out states, known to every process."""
    scores = fidelity(student, engine, data.loader, data.val_index, temperature) if team.main else None
    found = team.agree(scores)
    assert found is not None
    return found


def _begin(config: TrainRun, data: Data, kept: Kept, folder: Path | None) -> dict[str, torch.Tensor]:
    """Set the progress of a run that begins, or restore that in ``folder``; returns the best weights so far.

    Raises:
        UserError: a checkpoint that is damaged, or of other data.
    """
    states, used = len(data.train_index), data.used
    if folder is None:
        kept.progress = Progress(train_states=states, data=used.to_dict())
        if config.objective.jacobian_weight > 0:
            kept.progress.jacobian_scale = data.loader.mean_square(
                data.train_index, config.objective.temperature, config.objective.jacobian_blur
            )
        return {}
    content = newest_checkpoint(folder, data.loader.device)
    before = Progress(**content["progress"])
    change = used.change_since(DataUsed.told(before.data))
    if before.train_states != states:
        change = change or f"it had {before.train_states:,} training states then and has {states:,} now"
    if change:
        raise UserError(f"the checkpoint in {folder} is of other data: {change}; choose another --train.out")
    if not before.data:
        console.print(f"{folder}: its checkpoint is of an earlier version, which does not say of which data it is")
    kept.restore(content)
    kept.progress = dataclasses.replace(before, data=used.to_dict())
    console.print(f"{folder}: continuing at step {before.step}")
    return best_weights(content, folder, data.loader.device)


@contextlib.contextmanager
def _advice(folder: Path) -> Iterator[None]:
    """Say what is left of a training that diverged, and what to try."""
    try:
        yield
    except DivergedError as error:
        last = folder / "checkpoints" / "last.pt"
        good = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint had been saved yet"
        raise DivergedError(
            f"{error}; {good}; try a lower --train.learning_rate or --objective.jacobian_weight"
        ) from error
