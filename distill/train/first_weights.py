"""Weights that a training begins with: another student's, or those of any agent of the same network."""

from __future__ import annotations

from torch import nn

from distill.dataset.reader import Dataset
from distill.networks.nets import same_network, take_weights
from distill.students.folder import is_student, load_student
from distill.task import Task
from distill.train.settings import TrainRun
from teachers.layouts import is_agent, student_folder
from teachers.load import load_teacher

FLAG = "--student.init"


def start_from(net: nn.Module, config: TrainRun, dataset: Dataset) -> None:
    """Give a student the weights of ``student.init``, if there is one. A value head that it may have is left out.

    Args:
        net: fresh, (B, 4, 84, 84) to logits; changed in place.
        config: settings.
        dataset: what it is trained on.

    Raises:
        UserError: nothing there, of another game or preset, or another network.
    """
    s = config.student
    if s.init is None:
        return
    task, start, same = _agent(s.init, s.name, net, config.env, dataset)
    task.refuse_other(dataset.task, f"{FLAG}={s.init}", f"choose one that fits {dataset.folder}")
    take_weights(net, start, f"{FLAG}={s.init}", s.name, same=same)


def _agent(init: str, name: str, net: nn.Module, game: str, dataset: Dataset) -> tuple[Task, nn.Module, bool]:
    """What is begun with: its task, its network, and whether that is the student's, which is called ``name``."""
    if is_student(student_folder(init)) or not is_agent(init):
        student = load_student(student_folder(init))  # says what is missing
        return student.task, student.net, student.is_like(net, name)
    agent = load_teacher(init, game=game, preset=dataset.identity.preset)
    agent.info.require_policy(f"{FLAG}={init}")
    return agent.info.task, agent.net, same_network(agent.net, net)
