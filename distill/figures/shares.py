"""How much of its teacher's score a student keeps: of the teacher that taught it, and of no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.envs.games import REFERENCE_SCORES

Facts = Mapping[str, Any]


def relate(game: str, agents: Mapping[str, dict[str, Any]], teachers: Mapping[str, str] | None = None) -> None:
    """Set ``share_of_teacher`` of every agent, and ``share_note``, which says why there is none.

    The share is (mean - random) / (teacher's mean - random). A teacher's own is 1, if it taught a student here.
    A student that does not say who taught it (an earlier version's) keeps the share that it has.

    Args:
        game: canonical game name.
        agents: entries of scores.json.
        teachers: what the students' teachers are called, by student.
    """
    referees = {teacher_of(facts, agents) for facts in agents.values() if facts["kind"] == "student"}
    for name, facts in agents.items():
        if facts["kind"] == "student" and facts.get("teacher") is None:
            continue
        teacher: str | None = name if name in referees else None
        facts["share_of_teacher"] = facts["share_note"] = None
        if facts["kind"] == "student":
            teacher = teacher_of(facts, agents)
            called = (teachers or {}).get(name, "a teacher")
            mark = str(facts["teacher"])[:8]
            facts["share_note"] = _reason(game, name, f"{called} ({mark})", teacher, agents)
        if teacher is not None and _span(game, agents[teacher]) > 0:
            random = REFERENCE_SCORES[game][0]
            facts["share_of_teacher"] = (facts["mean"] - random) / _span(game, agents[teacher])


def teacher_of(student: Facts, agents: Mapping[str, Facts], paper: Facts | None = None) -> str | None:
    """Name of the agent that taught a student, or None where it is not in this evaluation.

    Scores of an earlier version do not say who taught a student. Where its paper is not at hand either, it is
    taken to be the first teacher, with which that version compared it.
    """
    taught_by = student.get("teacher") or (paper or {}).get("teacher")
    if taught_by is None:
        return next((name for name, facts in agents.items() if facts["kind"] == "teacher"), None)
    return next((name for name, facts in agents.items() if facts.get("fingerprint") == taught_by), None)


def notes(agents: Mapping[str, Facts]) -> list[str]:
    """Why "of teacher" is empty, for people; nothing where no teacher played that one could take for theirs."""
    if all(facts["kind"] == "student" for facts in agents.values()):
        return []
    found = (facts.get("share_note") for facts in agents.values())
    return list(dict.fromkeys(f"of teacher: {note}." for note in found if note))


def _span(game: str, teacher: Facts) -> float:
    """The teacher's mean above random play; NaN where the latter is not known."""
    return float(teacher["mean"]) - REFERENCE_SCORES[game][0] if game in REFERENCE_SCORES else float("nan")


def _reason(game: str, name: str, called: str, teacher: str | None, agents: Mapping[str, Facts]) -> str | None:
    if teacher is None:
        return f"{name} learned from {called}, which did not play here"
    if game not in REFERENCE_SCORES:
        return f"what random play scores in {game} is not known"
    if not _span(game, agents[teacher]) > 0:
        return f"{teacher} scores no more than random play"
    return None
