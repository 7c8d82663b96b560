"""From settings to who learns and who teaches."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass

import torch
from torch import nn

from distill.agents.reference import Reference, reference
from distill.envs.games import game_info
from distill.envs.presets import Preset, get_preset
from distill.envs.second_sight import refuse_other_screens
from distill.errors import UserError
from distill.finetune.settings import FinetuneRun
from distill.networks.build import build_student, student_spec
from distill.networks.inherit import FLAG, inherit, refuse_other_eyes, refuse_start
from distill.networks.nets import AtariCNN, NetSpec, described, other_network, spec_of
from distill.networks.registry import build_network, find_network, name_of
from distill.networks.settings import StudentConfig
from distill.records.student import Training
from distill.students.folder import is_student, load_student
from distill.system.progress import console
from distill.system.streams import seed_weights
from distill.task import Task
from distill.train.network import settings_of
from teachers.layouts import short_names, student_folder
from teachers.load import load_teacher
from teachers.protocol import Teacher


@dataclass(frozen=True)
class Start:
    """Who learns, as it is at the beginning."""

    net: nn.Module
    """An ``AtariCNN`` with a value head, or any network from pixels to logits."""
    student: StudentConfig
    """What its network is called."""
    task: Task
    """What it plays and sees."""
    fingerprint: str | None = None
    """Of the agent that it is at first; None for a fresh network."""
    papers: Training | None = None
    """How that became what it is, where it says so."""


def set_up(config: FinetuneRun) -> tuple[Start, Teacher | None]:
    """Who learns and who teaches; None where nobody does and nobody is needed.

    Raises:
        UserError: one of them cannot be loaded, or does not fit.
    """
    if config.student.init is not None:
        raise UserError(f"--student.init={config.student.init} is of `distill train`; use --finetune.init")
    if config.finetune.init is not None:
        start = _agent(config, config.finetune.init)
        return start, _teacher(config, start)
    teacher = _teacher(config, None)
    preset = get_preset(config.preset or (teacher.info.preset if teacher else "sb3"))
    task = Task(config.env, preset.name, preset.hash, len(game_info(config.env).actions))
    seed_weights(config.seed)
    net = _with_value(build_student(config.student, task.num_actions))
    if config.student.teacher_layers:
        if teacher is None:
            raise UserError(f"{FLAG}: there is no teacher; name one by --teacher, or leave it at 0")
        refuse_other_eyes(teacher.info.preset, preset.name)
        inherit(net, teacher.net, config.student.teacher_layers)
    return Start(net, config.student, task), teacher


def _agent(config: FinetuneRun, init: str) -> Start:
    """The agent that is gone on with."""
    agent = load_teacher(init, game=config.env, preset=config.preset)
    agent.info.require_policy(f"--finetune.init={init}")
    student, papers = _described(init, agent.net, agent.info.num_actions)
    _refuse_other_network(config, agent.net, student)
    seed_weights(config.seed)
    return Start(
        _going_on(agent.net, student, agent.info.num_actions), student, agent.info.task, agent.info.fingerprint, papers
    )


def _described(init: str, net: nn.Module, num_actions: int) -> tuple[StudentConfig, Training | None]:
    """What an agent's network is called, and its papers, if it is a student that has some."""
    folder = student_folder(init)
    if not is_student(folder):
        if described(net):
            return settings_of(net), None
        name = name_of(net, num_actions)
        if name is None:
            raise UserError(
                f"--finetune.init={init} is a network that no name builds again, so its student could not be kept; "
                "make its class importable, called with the number of actions (docs/concepts.md)"
            )
        return StudentConfig(name=name), None
    record = load_student(folder).record
    papers = record.training(folder / "student.json") if "teacher" in record.told else None
    named = isinstance(record.network, str)
    return StudentConfig(name=str(record.network)) if named else settings_of(net), papers


def _refuse_other_network(config: FinetuneRun, net: nn.Module, found: StudentConfig) -> None:
    """A network that was asked for must be that of the agent; by default no one asks."""
    asked = config.student
    refuse_start(asked.teacher_layers, config.finetune.init, "--finetune.init")
    if asked == StudentConfig():
        return
    wanted = student_spec(asked) if isinstance(find_network(asked.name), NetSpec) else None
    has = spec_of(net)
    if asked.name != found.name if wanted is None or has is None else wanted != has:
        raise other_network(f"--finetune.init={config.finetune.init}", asked.name, has, wanted)


def _going_on(net: nn.Module, student: StudentConfig, num_actions: int) -> nn.Module:
    """A copy of an agent's network that can be trained; an agent's own is frozen, and may teach.

    Layers that are described all train; of others, those that a fresh one of the name trains.
    """
    whole = _with_value(net)
    if not described(net):
        with torch.random.fork_rng(devices=[]):
            fresh = dict(build_network(student.name, num_actions).named_parameters())
        for name, part in whole.named_parameters():
            part.requires_grad_(fresh[name].requires_grad)
    return whole


def _with_value(net: nn.Module) -> nn.Module:
    """A copy with a value head, which is drawn where there is none, if its layers are known."""
    if not described(net):
        return copy.deepcopy(net)
    whole = AtariCNN(net.spec, net.num_actions, value=True)
    whole.load_state_dict(net.state_dict(), strict=False)
    return whole


def _teacher(config: FinetuneRun, start: Start | None) -> Teacher | None:
    """Who teaches: ``config.teacher``; else who taught the student so far; else the game's bundled agent.

    Args:
        config: settings; the teacher is empty, or the game's name, where none was asked for.
        start: the agent that is gone on with.

    Returns:
        The teacher; None where there is none, and none is needed.

    Raises:
        UserError: there is none, or none that could see these games, and its weight is above 0, or it was named.
    """
    asked = config.teacher not in ("", config.env)
    before = None if asked or start is None else _teacher_before(config, start)
    if before is not None:
        return before
    recorded = config.preset or (None if start is None else start.task.preset)
    try:
        teacher = load_teacher(
            config.teacher or config.env, game=config.env, preset=config.teacher_preset, tau=config.tau,
            recorded=recorded,
        )  # fmt: skip
        second_preset(teacher, get_preset(recorded or teacher.info.preset))
        return teacher
    except UserError:
        if asked or config.finetune.teacher_weight > 0:
            raise
        return None


def _teacher_before(config: FinetuneRun, start: Start) -> Teacher | None:
    """The teacher on a student's papers, if it is still where they say."""
    papers = start.papers
    if papers is None or not papers.teacher:
        return None
    sees, tau = config.teacher_preset or papers.teacher_preset, papers.teacher_tau or config.tau
    name = papers.teacher_name or config.env
    if config.tau not in (type(config).tau, tau):
        raise UserError(
            f"--tau={config.tau:g}, but {name} taught the student so far at {tau:g}; leave it out, or name the teacher "
            f"too: --teacher={name}"
        )
    with contextlib.suppress(UserError):
        teacher = load_teacher(name, game=config.env, preset=sees, tau=tau)
        if teacher.info.fingerprint == papers.teacher:
            console.print(f"teacher: {name}, who taught the student so far{_how_else(config.env, name)}")
            return teacher
    console.print(f"teacher: {name}, who taught the student so far, is not there any more, or another agent now")
    return None


def _how_else(game: str, name: str) -> str:
    """How to name the bundled agent of the game, where there is one and another teaches."""
    bundled = short_names().get(game)
    return "" if bundled is None or name in (game, bundled.stem) else f"; --teacher={bundled.stem} is the bundled agent"


def second_preset(teacher: Teacher | None, preset: Preset) -> Preset | None:
    """What the teacher sees, where that is not what the student sees.

    Raises:
        UserError: it needs other screens of the emulator.
    """
    if teacher is None:
        return None
    sees = get_preset(teacher.info.preset)
    refuse_other_screens(sees, preset)
    return None if sees.sees_as(preset) else sees


def reference_of(config: FinetuneRun, start: Start, teacher: Teacher | None) -> Reference | None:
    """What scores are compared with, for schedule=score; None where nothing follows from them.

    Raises:
        UserError: neither settings nor card tell the teacher's score, or it is no better than random play.
    """
    c = config.finetune
    if c.schedule != "score" or teacher is None or c.teacher_weight == 0:
        return None
    return reference(
        teacher.info, get_preset(start.task.preset), config.seed, c.teacher_score,
        setting="--finetune.teacher_score", asking="--finetune.schedule=score",
    )  # fmt: skip
