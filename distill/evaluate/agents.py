"""Who plays in an evaluation: what ``evaluate.agents`` names, and which teacher is meant by ``teacher``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.config import Config
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.evaluate.names import check_apart, check_commas, check_name, default_name, split_item
from distill.progress import console
from distill.students.folder import Student, is_student, load_student
from distill.students.nets import AtariCNN
from teachers.layouts import student_folder
from teachers.load import load_teacher
from teachers.protocol import Teacher


@dataclass
class Agent:
    """One player in an evaluation."""

    name: str
    """Its name in tables and scores.json."""
    what: str
    """Where it came from, as given on the command line."""
    net: AtariCNN
    """Its network."""
    fingerprint: str
    """SHA-256 of its weights."""
    preset: str
    """What it sees."""
    student: Student | None = None
    """Its papers, for students."""

    @property
    def kind(self) -> str:
        """``teacher`` or ``student``."""
        return "teacher" if self.student is None else "student"


def find_agents(config: Config) -> list[Agent]:
    """Load every agent of ``evaluate.agents`` and check that they can be compared.

    ``teacher`` is ``config.teacher`` where one is given, else whoever taught the students in the list, else the
    game's bundled agent.

    Raises:
        UserError: an agent is unknown or of another game or preset, two have one name, or a name cannot be a file.
    """
    check_commas(config.evaluate.agents)
    items = [split_item(item) for item in config.evaluate.agents]
    loaded = [None if what == "teacher" else _load(config, name, what) for name, what in items]
    students = [agent for agent in loaded if agent is not None and agent.student is not None]
    agents: list[Agent] = []
    for (name, _), agent in zip(items, loaded, strict=True):
        agents += _teachers(config, name, students) if agent is None else [agent]
    for agent in agents:
        check_name(agent.name)
    check_apart([agent.name for agent in agents])
    presets = {agent.preset for agent in agents}
    if len(presets) > 1:
        raise UserError(f"these agents see different presets ({', '.join(sorted(presets))}); evaluate them apart")
    return agents


def _load(config: Config, name: str, what: str) -> Agent:
    folder = student_folder(what)
    if is_student(folder) or (folder.is_dir() and (folder / "config.yaml").exists()):
        return _student(config, name, what, load_student(folder))
    teacher = load_teacher(what, game=config.env, preset=config.preset, tau=config.tau)
    return _agent(name or default_name(Path(what).name.removesuffix(".zip")), what, teacher)


def _student(config: Config, name: str, what: str, student: Student) -> Agent:
    student.check_papers("teacher", "metrics", "best_step")
    preset = get_preset(student.facts["preset"])
    if student.facts["game"] != config.env:
        raise UserError(f"student {what} plays {student.facts['game']}, not {config.env}; set --env")
    if student.facts["preset_hash"] != preset.hash or config.preset not in (None, preset.name):
        raise UserError(
            f"student {what} was trained on preset {preset.name} ({student.facts['preset_hash']}), "
            f"not on {config.preset or preset.name} ({get_preset(config.preset or preset.name).hash})"
        )
    name = name or default_name(student_folder(what).resolve().name)
    return Agent(name, what, student.net, student.fingerprint, preset.name, student)


def _agent(name: str, what: str, teacher: Teacher) -> Agent:
    return Agent(name, what, teacher.net, teacher.info.fingerprint, teacher.info.preset)


def _teachers(config: Config, name: str, students: Sequence[Agent]) -> list[Agent]:
    """Whom ``teacher`` means: several agents where the students learned from several."""
    if config.teacher or not students:
        wanted = config.teacher or config.env
        teacher = load_teacher(wanted, game=config.env, preset=config.preset, tau=config.tau)
        return [_agent(name or "teacher", "teacher", teacher)]
    first_of: dict[str, Agent] = {}
    for student in students:
        first_of.setdefault(_facts(student)["teacher"], student)
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
    return [_agent(default_name(Path(what).name.removesuffix(".zip")), what, teacher) for what, teacher in found]


def _who_taught(config: Config, student: Agent) -> tuple[str, Teacher]:
    """The teacher on a student's papers, known by its weights, and what to call it.

    Raises:
        UserError: it is not where the papers say, or another agent is.
    """
    facts = _facts(student)
    name = str(facts.get("teacher_name") or config.env)
    why = ""
    for what, teacher in _candidates(config, facts, name):
        if isinstance(teacher, UserError):
            why = f"cannot be loaded ({teacher})"
        elif teacher.info.fingerprint == facts["teacher"]:
            return what, teacher
        elif what == name:
            why = "is now another agent"
    raise UserError(
        f"`teacher` in --evaluate.agents is {student.name}’s teacher {name}, which {why}; "
        "say with --teacher where it is or who is to play instead, or leave `teacher` out"
    )


def _candidates(config: Config, facts: Mapping[str, Any], name: str) -> Iterator[tuple[str, Teacher | UserError]]:
    tau = facts.get("teacher_tau") or config.tau
    for what in dict.fromkeys((name, config.env)):
        try:
            yield what, load_teacher(what, game=config.env, preset=config.preset, tau=tau)
        except UserError as error:
            if what == name:
                yield what, error


def _facts(agent: Agent) -> dict[str, Any]:
    assert agent.student is not None
    return agent.student.facts
