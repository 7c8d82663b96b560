"""What is to be collected, and by whom: settings, agents and a folder, ready to be sent to another process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.agents.actor import Actor, Policy
from distill.collect.settings import CollectRun
from distill.dataset.writer import DatasetWriter
from distill.envs.games import game_info
from distill.envs.presets import Preset, get_preset
from distill.envs.second_sight import refuse_other_screens
from distill.errors import UserError
from distill.records.dataset import Identity
from distill.system.progress import console
from distill.system.provenance import command_line
from distill.system.settings import fill
from teachers.layouts import is_agent, student_folder
from teachers.load import load_teacher
from teachers.protocol import Teacher


@dataclass(frozen=True)
class Order:
    """A collection that is about to begin. It holds all that its writers need, agents included, and can be pickled."""

    config: CollectRun
    """Settings."""
    folder: Path
    """The dataset."""
    teacher: Teacher
    """Who labels."""
    identity: Identity
    """What every state has in common."""
    student: nn.Module | None
    """Who acts, where that is not the teacher."""
    actor: str
    """Short name of who acts."""
    command: str
    """The command that asked for it."""

    @property
    def writer(self) -> str:
        """Name of the stream of shards."""
        return self.config.collect.writer or self.actor

    def open(self, name: str) -> DatasetWriter:
        """The writer of that name.

        Raises:
            UserError: as ``DatasetWriter``.
        """
        c = self.config.collect
        behaviour = {
            "actor": self.actor,
            "behaviour": c.behaviour,
            "epsilon": c.epsilon if c.behaviour == "epsilon" else None,
            "beta": c.beta,
            "sticky": c.sticky,
            "seed": self.config.seed,
        }
        described: dict[str, Any] = dict(vars(self.teacher.info))
        return DatasetWriter(self.folder, self.identity, name, behaviour, described, self.command)

    def actors(self, device: torch.device) -> Callable[[int], Actor]:
        """Who acts, made anew for every thread, of the number of its first game."""
        c, student = self.config.collect, self.student

        def make(first: int) -> Actor:
            teacher = Policy(self.teacher.net, device, second_sight=not self.identity.same_eyes, lane=first)
            if student is None:
                return Actor(teacher, c.behaviour, c.epsilon)
            expert = teacher if c.beta else None
            return Actor(Policy(student, device, lane=first), c.behaviour, c.epsilon, expert, c.beta)

        return make


def make_order(config: CollectRun) -> Order:
    """Load the agents.

    Raises:
        UserError: one cannot be used, or the recorded preset does not go with the teacher's.
    """
    eyes = {"preset": config.teacher_preset, "recorded": config.preset}
    teacher = load_teacher(config.teacher, game=config.env, tau=config.tau, **eyes)
    identity = identify(config, teacher)
    student, name = None, "teacher"
    if config.collect.actor != "teacher":
        student, mark = _student(config, teacher, get_preset(identity.preset))
        share = f"mix{round(100 * config.collect.beta):02d}" if config.collect.beta else "student"
        name = f"{share}-{mark[:8]}"
    folder = fill(config.collect.out, env=config.env)
    if not (folder / "dataset.json").is_file():  # else the first to tell is what differs from that
        _check_eyes(config, identity)
    return Order(config, folder, teacher, identity, student, name, command_line())


def identify(config: CollectRun, teacher: Teacher) -> Identity:
    """What every state of this collection has in common."""
    c, info = config.collect, game_info(config.env)
    sees = get_preset(teacher.info.preset)
    preset = get_preset(config.preset or sees.name)
    rows = {"projected": c.k, "full": teacher.info.num_actions, "none": 0}[c.jacobian]
    return Identity(
        game=config.env,
        rom_md5=info.rom_md5,
        preset=preset.name,
        preset_hash=preset.hash,
        teacher=teacher.info.fingerprint,
        jacobian=c.jacobian,
        k=rows,
        law=c.law,
        space=c.space,
        codec=c.codec,
        teacher_preset=sees.name,
        teacher_preset_hash=sees.hash,
        jacobian_share=1.0 if c.jacobian == "none" else c.jacobian_share,
    )


def _check_eyes(config: CollectRun, identity: Identity) -> None:
    """Refuse to record what the teacher's eyes, where they are other ones, cannot be told from."""
    if identity.same_eyes:
        return
    refuse_other_screens(get_preset(identity.teacher_preset), get_preset(identity.preset))
    if identity.jacobian != "none":
        raise UserError(
            f"teacher {config.teacher} sees preset {identity.teacher_preset} and {identity.preset} is recorded, so its "
            "derivatives are by pixels that no student sees; use --collect.jacobian=none, or one preset for both"
        )
    console.print(f"teacher: it sees preset {identity.teacher_preset}; recorded is {identity.preset}")


def _student(config: CollectRun, teacher: Teacher, recorded: Preset) -> tuple[nn.Module, str]:
    """Network and fingerprint of a student with its papers, or of any other agent that a teacher's name can mean."""
    from distill.students.folder import is_student, load_student

    actor, wanted = config.collect.actor, teacher.info.task.but(config.env, recorded.name)
    change = "choose another actor, or set --env or --preset"
    folder = student_folder(actor)
    if is_student(folder) or not is_agent(actor):
        student = load_student(folder)
        student.task.refuse_other(wanted, f"--collect.actor: student {student.folder}", change)
        return student.net, student.fingerprint
    agent = load_teacher(actor, game=config.env, preset=config.preset, tau=config.tau)
    agent.info.task.refuse_other(wanted, f"--collect.actor={actor}", change)
    return agent.net, agent.info.fingerprint
