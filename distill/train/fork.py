"""A run that begins where another one stands: a round of a longer training, or a copy with other settings."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from distill.errors import UserError
from distill.networks.settings import StudentConfig
from distill.records.runs import plain
from distill.students.folder import is_student, load_student
from distill.system.files import at_home
from distill.task import Task
from distill.train.checkpoint import Progress, can_go_on, newest_checkpoint
from distill.train.settings import TrainRun

SHAPE = ("name", "convs", "hidden", "activation", "band_limit", "noise", "noise_on")
"""Settings of a student that say which weights it has."""


def read_fork(config: TrainRun, fork: str, device: torch.device) -> dict[str, Any]:
    """The newest checkpoint of the run ``fork``.

    Raises:
        UserError: it is damaged, or of another stage, game or network.
    """
    folder = at_home(fork)
    if not can_go_on(folder):
        raise UserError(f"--train.fork_from={fork} has no checkpoint; name the folder of a run of `distill train`")
    content = newest_checkpoint(folder, device, "--train.fork_from")
    if content["progress"].keys() - vars(Progress()).keys():
        raise UserError(
            f"--train.fork_from={fork} is no run of `distill train`; start from its weights by --student.init"
        )
    settings, asked = content["config"], plain(config)
    if settings["env"] != config.env:
        raise UserError(f"--train.fork_from={fork} is of {settings['env']}, not {config.env}; choose another")
    usual = vars(StudentConfig())
    for name in SHAPE:
        before, now = settings["student"].get(name, usual[name]), asked["student"][name]
        if _as_lists(before) != now:
            raise UserError(f"--train.fork_from={fork} has student.{name} {before}, not {now}; choose another")
    return content


def check_fork(config: TrainRun, net: nn.Module, task: Task, last: int) -> None:
    """Refuse a fork that cannot be, before this run has a folder.

    Args:
        config: settings.
        net: the student, on its teacher's first layers where it is to have them.
        task: what the data are of.
        last: the run's last step.

    Raises:
        UserError: as ``read_fork``, or it has not those layers, learned to see something else, or has taken all those
            steps.
    """
    fork = config.train.fork_from
    if fork is None:
        return
    content = read_fork(config, fork, torch.device("cpu"))
    step, weights = content["progress"]["step"], content["model"]
    kept = {name: part.detach().cpu() for name, part in net.named_parameters() if not part.requires_grad}
    if config.student.teacher_layers and not all(torch.equal(part, weights[name]) for name, part in kept.items()):
        raise UserError(
            f"--student.teacher_layers={config.student.teacher_layers}, but --train.fork_from={fork} is not on this "
            "teacher's first layers; fork a run that is, or leave one of the two out"
        )
    if is_student(at_home(fork)):  # an unfinished run does not say what it sees
        load_student(fork).task.refuse_other(task, f"--train.fork_from={fork}", "choose one that fits --train.data")
    if step >= last:
        longer = config.train.length if config.train.last_step is None else "--train.last_step"
        raise UserError(
            f"--train.fork_from={fork} has taken {step} steps, and this run would end after {last}; raise {longer}"
        )


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value
