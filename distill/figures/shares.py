"""How much of its teacher's score a student keeps: of the teacher that taught it, and of no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from distill.envs.games import REFERENCE_SCORES
from distill.records.scores import FIGURE, REPEATS, AgentScores
from distill.records.student import Training

Agents = Mapping[str, AgentScores]


def related(game: str, agents: Agents, teachers: Mapping[str, str] | None = None) -> dict[str, AgentScores]:
    """The agents with ``share_of_teacher``, and ``share_note``, which says why there is none.

    The share is (mean - random) / (teacher's mean - random). A teacher's own is 1, if it taught a student here.
    A student that does not say who taught it (an earlier version's) keeps the share that it has.

    Args:
        game: canonical game name.
        agents: by name.
        teachers: what the students' teachers are called, by student.
    """
    referees = {teacher_of(agent, agents) for agent in agents.values() if agent.kind == "student"}
    found = {}
    for name, agent in agents.items():
        found[name] = agent
        if agent.kind == "student" and agent.teacher is None:
            continue
        teacher, note, share = name if name in referees else None, None, None
        if agent.kind == "student":
            teacher = teacher_of(agent, agents)
            called = (teachers or {}).get(name, "a teacher")
            note = _reason(game, name, f"{called} ({str(agent.teacher)[:8]})", teacher, agents)
        if teacher is not None and _span(game, agents[teacher]) > 0:
            share = (agent.mean - REFERENCE_SCORES[game][0]) / _span(game, agents[teacher])
        found[name] = replace(agent, share_of_teacher=share, share_note=note)
    return found


def teacher_of(student: AgentScores, agents: Agents, paper: Training | None = None) -> str | None:
    """Name of the agent that taught a student, or None where it is not in this evaluation, or nobody did.

    Scores of an earlier version do not say who taught a student. Where its paper is not at hand either, it is
    taken to be the first teacher, with which that version compared it.
    """
    taught_by = student.teacher if student.teacher is not None or paper is None else paper.teacher
    if taught_by is None:
        return next((name for name, agent in agents.items() if agent.kind == "teacher"), None)
    return next((name for name, agent in agents.items() if agent.fingerprint == taught_by), None)


def notes(agents: Agents) -> list[str]:
    """Why "of teacher" is empty, for people; nothing where no teacher played that one could take for theirs."""
    if not any(agent.kind == "teacher" for agent in agents.values()):
        return []
    return list(dict.fromkeys(f"of teacher: {agent.share_note}." for agent in agents.values() if agent.share_note))


def on_own_games_alone(agents: Agents) -> bool:
    """True where no student's figures are on games that were held out: each has them on states that it played."""
    students = [agent for agent in agents.values() if agent.kind == "student"]
    return bool(students) and all(agent.own_games for agent in students)


def own_games_notes(agents: Agents) -> list[str]:
    """Whose figures are not on held-out games, for people."""
    return [
        f"{name}: its figures are on states of its own games; none were held out."
        for name, agent in agents.items()
        if agent.own_games and any(figure is not None for figure in agent.metrics.values())
    ]


def repeat_notes(agents: Agents) -> list[str]:
    """Whose figures are not of held-out states alone, for people."""
    found = {name: agent.metrics.get(f"{FIGURE}{REPEATS}") for name, agent in agents.items()}
    return [
        f"{name}: {share:.1%} of the states scored occur, pixel by pixel, among its training games."
        for name, share in found.items()
        if share
    ]


def _span(game: str, teacher: AgentScores) -> float:
    """The teacher's mean above random play; NaN where the latter is not known."""
    return teacher.mean - REFERENCE_SCORES[game][0] if game in REFERENCE_SCORES else float("nan")


def _reason(game: str, name: str, called: str, teacher: str | None, agents: Agents) -> str | None:
    if agents[name].teacher == "":
        return f"{name} learned from no teacher"
    if teacher is None:
        return f"{name} learned from {called}, which did not play here"
    if game not in REFERENCE_SCORES:
        return f"what random play scores in {game} is not known"
    if not _span(game, agents[teacher]) > 0:
        return f"{teacher} scores no more than random play"
    return None
