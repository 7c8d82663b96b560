"""``distill train``: fit a student to a dataset. ``train`` builds the parts, ``distill.train.fit`` is the loop."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import nn
from torch.optim import AdamW

from distill.dataset.reader import Dataset
from distill.errors import DivergedError
from distill.records.loggers import Loggers
from distill.records.runs import how_to_go_on
from distill.students.folder import is_student
from distill.system.device import pick_device
from distill.system.progress import Bar, console
from distill.system.streams import seed_weights
from distill.train.adversary import try_adversary
from distill.train.auto import carried_share
from distill.train.begin import begin
from distill.train.checkpoint import Progress
from distill.train.finish import describe, finish
from distill.train.fit import Model, fit
from distill.train.fork import check_fork
from distill.train.hooks import Hook, Hooks
from distill.train.lesson import Lesson
from distill.train.logs import Log, SaliencyPicture, TrainingBar, TrainingLoss
from distill.train.network import named_after, parameter_groups
from distill.train.run import objective_name, open_run
from distill.train.saver import BestSaver, Kept
from distill.train.settings import TrainRun
from distill.train.setup import make_student, open_data, steps
from distill.train.team import Team
from distill.train.validation import Validation, is_over


def train(
    config: TrainRun, net: nn.Module | None = None, hooks: Sequence[Hook] = (), dataset: Dataset | None = None
) -> Path:
    """See ``distill.config.stages.train``, which checks ``config`` first; ``dataset``: it, where it is open already."""
    team = Team.join()
    config = config if net is None else named_after(config, net)
    t, device = config.train, team.device(pick_device(config.device))
    data = open_data(config, device, dataset, team)
    seed_weights(config.seed)
    student = (net or make_student(config, data.dataset)).to(device)
    team.share(data.sampler.batch_size, carried_share(config, data.plan))  # what cannot be shared leaves no folder
    try_adversary(config, student)
    total, last = steps(config, data.sampler)
    check = functools.partial(check_fork, config, student, data.dataset.task, last)
    with contextlib.ExitStack() as held:
        folder, resuming = team.agree(open_run(config, data.used, held, check) if team.main else (Path(), False))
        if team.agree(is_student(folder)):
            console.print(f"{folder}: already trained; nothing to do")
            return folder
        optimizer = AdamW(parameter_groups(student, t.weight_decay), lr=0.0, fused=True)
        again = how_to_go_on(t.out, folder, "--train.out", newest=t.resume)
        kept = Kept(student, optimizer, Progress(), config.to_dict(), again)
        best = begin(config, data, kept, folder if resuming else None, team)
        progress: Progress = kept.progress
        lesson = Lesson(config, student, data, progress.jacobian_scale, team)
        rate, size = lesson.learning_rate, lesson.batch_size
        model = Model(student, optimizer, rate, total, size, t.max_grad_norm, progress, team)
        if team.main:
            describe(config, data, student, total)
        with (
            _advice(folder),
            Loggers(t.loggers, folder if team.main else None, progress.step) as loggers,
            BestSaver(folder if team.main else None, kept, t.checkpoint_every, best, team) as saver,
            Bar(f"train {objective_name(config.objective)}", "steps", last, progress.step) as bar,
        ):
            watching = Hooks([Log(loggers), TrainingBar(bar)])
            watching.add(TrainingLoss(t.log_every, watching.measured))
            watching.add(Validation(lesson.score, t.val_every, last, saver, watching.measured))
            watching.add(*(hooks if team.main else ()), saver)
            if team.main:
                watching.add(SaliencyPicture(loggers, student, lesson.engine, data.loader, data.val_index))
            stream = lesson.batches(progress.step, last, total)
            fit(model, stream, lesson, watching, lambda now: is_over(now, last, t.patience, progress))
            if team.main:
                finish(lesson, folder, saver, loggers)
            return team.agree(folder)  # no one leaves before the student is written


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
