"""Who plays in an evaluation: what ``evaluate.agents`` names, and which teacher is meant by ``teacher``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from distill.agents.actor import Uniform
from distill.agents.names import RANDOM, TEACHER, check_apart, check_commas, check_name, default_name, split_item
from distill.envs.games import game_info
from distill.envs.presets import get_preset
from distill.envs.settings import CommonConfig
from distill.errors import UserError
from distill.records.student import Training
from distill.students.folder import Student, is_student, load_student
from distill.system.progress import console
from teachers.formats.format import without_ending
from teachers.layouts import student_folder
from teachers.load import load_teacher
from teachers.mixture import PREFIX, parts_of
from teachers.protocol import Teacher


@dataclass
class Agent:
    """One player in an evaluation."""

    name: str
    """Its name in tables and scores.json."""
    what: str
    """Where it came from, as given on the command line."""
    net: nn.Module
    """Its network."""
    fingerprint: str
    """SHA-256 of its weights."""
    preset: str
    """What it sees."""
    student: Student | None = None
    """Its papers, for students."""
    exported: bool = False
    """A student without its papers: a zip that stands alone."""

    @property
    def kind(self) -> str:
        """``teacher``, ``student`` or ``random``."""
        if isinstance(self.net, Uniform):
            return RANDOM
        return "student" if self.student is not None or self.exported else "teacher"


def find_agents(config: CommonConfig, names: Sequence[str], beside: Sequence[Agent] = ()) -> list[Agent]:
    """Load every agent of ``evaluate.agents`` and check that they can be compared.

    ``random`` plays at random. ``teacher`` is ``config.teacher`` where one is given, else whoever taught the students
    in the list, else the game's bundled agent. It sees ``teacher_preset``, else ``preset``, else what the students'
    papers or its own tell.

    Args:
        config: game, teacher, presets and temperature.
        names: ``evaluate.agents``.
        beside: others, whose students ``teacher`` may have taught, too.

    Raises:
        UserError: an agent is unknown or of another game or preset, two have one name, or a name cannot be a file.
    """
    check_commas(names)
    items = [split_item(item) for item in names]
    loaded = [None if what == TEACHER else _load(config, name, what) for name, what in items]
    students = [agent for agent in (*loaded, *beside) if agent is not None and agent.student is not None]
    agents: list[Agent] = []
    for (name, _), agent in zip(items, loaded, strict=True):
        agents += _teachers(config, name, students) if agent is None else [agent]
    for agent in agents:
        check_name(agent.name)
    check_apart([agent.name for agent in agents])
    if config.preset is None and config.teacher_preset is None:
        _see_as_they_taught(agents)
    _see_what_others_see(agents)
    _check_presets(agents)
    return agents


def _see_what_others_see(agents: Sequence[Agent]) -> None:
    """Who plays at random looks at nothing, but is played on a preset: that of a student, else of the first agent."""
    others = sorted((agent for agent in agents if agent.kind != RANDOM), key=lambda agent: agent.kind != "student")
    for agent in agents:
        if agent.kind == RANDOM and others:
            agent.preset = others[0].preset


def _see_as_they_taught(agents: Sequence[Agent]) -> None:
    """A teacher of these students, known by its weights, sees what their papers say that it saw."""
    papers = [agent.student.training for agent in agents if agent.student]
    saw = {training.teacher: training.teacher_preset for training in papers}
    for agent in agents:
        if agent.student is None and agent.fingerprint in saw:
            agent.preset = get_preset(saw[agent.fingerprint]).name


def _check_presets(agents: Sequence[Agent]) -> None:
    """Refuse agents that see different presets, but for students of one and the teachers that their papers tell of."""
    presets = {agent.preset for agent in agents}
    told = {agent.preset for agent in agents if agent.student}
    if len(told) == 1:
        recorded = get_preset(next(iter(told)))
        taught = {agent.student.training.teacher_preset for agent in agents if agent.student}
        told |= {name for name in taught if get_preset(name).gray == recorded.gray}  # others cannot have been recorded
    if len(presets) > 1 and not presets <= told:
        raise UserError(f"these agents see different presets ({', '.join(sorted(presets))}); evaluate them apart")


def _load(config: CommonConfig, name: str, what: str) -> Agent:
    if what == RANDOM:
        actions = len(game_info(config.env).actions)
        digest = hashlib.sha256(f"{RANDOM} {actions}".encode()).hexdigest()
        return Agent(name or RANDOM, what, Uniform(actions), digest, get_preset(config.preset or "sb3").name)
    folder = student_folder(what)
    if is_student(folder) or (folder.is_dir() and (folder / "config.yaml").exists()):
        return _student(config, name, what, load_student(folder))
    sees = config.teacher_preset or config.preset
    teacher = load_teacher(what, game=config.env, preset=sees, tau=config.tau)
    agent = _agent(name or default_name(_stem(what)), what, teacher)
    agent.exported = teacher.info.algorithm == "student"
    return agent


def _stem(what: str) -> str:
    """The last part of a path; of a mixture those of its parts."""
    if what.startswith(PREFIX):
        return "+".join(map(_stem, parts_of(what)))
    return without_ending(Path(what).name)


def _student(config: CommonConfig, name: str, what: str, student: Student) -> Agent:
    _ = student.training  # says what is missing
    task = student.task
    task.refuse_other(task.but(game=config.env), f"student {what}", "set --env")
    task.refuse_other(task.but(preset=config.preset or task.preset), f"student {what}", "evaluate it on its own preset")
    name = name or default_name(student_folder(what).resolve().name)
    return Agent(name, what, student.net, student.fingerprint, task.preset, student)


def _agent(name: str, what: str, teacher: Teacher) -> Agent:
    return Agent(name, what, teacher.net, teacher.info.fingerprint, teacher.info.preset)


def _teachers(config: CommonConfig, name: str, students: Sequence[Agent]) -> list[Agent]:
    """Whom ``teacher`` means: several agents where the students learned from several."""
    taught = [student for student in students if _training(student).teacher]  # not those of reward alone
    if config.teacher or not taught:
        wanted = config.teacher or config.env
        sees = config.teacher_preset or config.preset
        teacher = load_teacher(wanted, game=config.env, preset=sees, tau=config.tau)
        return [_agent(name or "teacher", "teacher", teacher)]
    first_of: dict[str, Agent] = {}
    for student in taught:
        first_of.setdefault(_training(student).teacher, student)
    found = [_who_taught(config, student) for student in first_of.values()]
    for student, (what, _) in zip(first_of.values(), found, strict=True):
        console.print(f"teacher: {what}, from which {student.name} learned")
    if len(found) == 1:
        return [_agent(name or "teacher", *found[0])]
    if name:
        raise UserError(
            f"--evaluate.agents: {name}=teacher, but these students learned from {len(found)} teachers "
            f"({', '.join(what for what, _ in found)}); name each of them"
        )
    return [_agent(default_name(_stem(what)), what, teacher) for what, teacher in found]


def _who_taught(config: CommonConfig, student: Agent) -> tuple[str, Teacher]:
    """The teacher on a student's papers, known by its weights, and what to call it.

    Raises:
        UserError: it is not where the papers say, or another agent is.
    """
    training = _training(student)
    name = training.teacher_name or config.env
    why = ""
    for what, teacher in _candidates(config, training, name):
        if isinstance(teacher, UserError):
            why = f"cannot be loaded ({teacher})"
        elif teacher.info.fingerprint == training.teacher:
            return what, teacher
        elif what == name:
            why = "is now another agent"
    raise UserError(
        f"`teacher` in --evaluate.agents is {student.name}’s teacher {name}, which {why}; "
        "say with --teacher where it is or who is to play instead, or leave `teacher` out"
    )


def _candidates(config: CommonConfig, training: Training, name: str) -> Iterator[tuple[str, Teacher | UserError]]:
    tau = training.teacher_tau or config.tau
    sees = config.teacher_preset or config.preset or training.teacher_preset
    for what in dict.fromkeys((name, config.env)):
        try:
            yield what, load_teacher(what, game=config.env, preset=sees, tau=tau)
        except UserError as error:
            if what == name:
                yield what, error


def _training(agent: Agent) -> Training:
    assert agent.student is not None
    return agent.student.training
