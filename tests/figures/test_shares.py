"""Whose share ``of teacher`` is: of the teacher that taught the student, or of nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distill.figures.shares import notes, on_own_games_alone, own_games_notes, related, teacher_of
from distill.records.scores import AgentScores
from tests.fixtures.records import agent_scores

RANDOM = -20.7


def entry(kind: str, fingerprint: str, mean: float, teacher: str | None = None) -> AgentScores:
    return agent_scores(kind, mean, fingerprint=fingerprint, teacher=teacher)


def test_each_student_against_its_own_teacher() -> None:
    agents = {
        "a": entry("teacher", "1", RANDOM + 40),
        "b": entry("teacher", "2", RANDOM + 10),
        "of_b": entry("student", "3", RANDOM + 5, "2"),
        "of_a": entry("student", "4", RANDOM + 10, "1"),
    }
    agents = related("pong", agents)
    shares = {name: agent.share_of_teacher for name, agent in agents.items()}
    assert shares == pytest.approx({"a": 1, "b": 1, "of_b": 0.5, "of_a": 0.25})
    assert notes(agents) == []


def test_a_teacher_that_taught_no_one_here_is_no_measure() -> None:
    agents = {"a": entry("teacher", "1", 20.0), "s": entry("student", "3", 5.0, "0123456789")}
    agents = related("pong", agents, {"s": "mine.zip"})
    assert [agent.share_of_teacher for agent in agents.values()] == [None, None]
    assert agents["a"].share_note is None
    assert notes(agents) == ["of teacher: s learned from mine.zip (01234567), which did not play here."]


def test_a_student_can_have_taught_another() -> None:
    agents = {"first": entry("student", "1", RANDOM + 20, "0"), "second": entry("student", "2", RANDOM + 5, "1")}
    agents = related("pong", agents)
    assert agents["second"].share_of_teacher == pytest.approx(0.25)
    assert agents["first"].share_of_teacher is None
    assert agents["first"].share_note == "first learned from a teacher (0), which did not play here"
    assert notes(agents) == [], "no teacher stands beside it that could be taken for its own"


def test_who_plays_at_random_is_no_teacher() -> None:
    agents = {"random": entry("random", "0", RANDOM), "s": entry("student", "2", 5.0, "1")}
    agents = related("pong", agents)
    assert [agent.share_of_teacher for agent in agents.values()] == [None, None]
    assert notes(agents) == []
    agents = related("pong", {**agents, "t": entry("teacher", "1", 5.0)})
    assert [agent.share_of_teacher for agent in agents.values()] == pytest.approx([None, 1, 1])


def test_a_share_that_cannot_be_computed_says_why() -> None:
    agents = {"t": entry("teacher", "1", RANDOM), "s": entry("student", "2", 5.0, "1")}
    agents = related("pong", agents)
    assert agents["s"].share_note == "t scores no more than random play"
    agents = related("adventure", agents)
    assert agents["s"].share_note == "what random play scores in adventure is not known"
    agents["t"] = replace(agents["t"], mean=float("nan"))
    agents = related("pong", agents)
    assert agents["s"].share_of_teacher is None


def test_a_student_of_reward_alone_has_no_teacher() -> None:
    agents = {"t": entry("teacher", "1", 20.0), "s": entry("student", "2", 5.0, "")}
    found = related("pong", agents)["s"]
    assert (found.share_of_teacher, found.share_note) == (None, "s learned from no teacher")
    assert teacher_of(agents["s"], agents) is None


def test_a_student_of_unknown_origin_keeps_its_share() -> None:
    agents = {"t": entry("teacher", "1", 20.0), "s": replace(entry("student", "2", 5.0), share_of_teacher=0.3)}
    agents = related("pong", agents)
    assert agents["s"].share_of_teacher == 0.3


def test_whose_figures_are_on_its_own_games() -> None:
    """A student of reward alone has no figures."""
    online = agent_scores("student", 1.0, own_games=True, metrics={"val_kl": 0.1})
    alone = replace(online, metrics={"val_kl": None})
    agents = {"teacher": agent_scores("teacher", 2.0), "online": online, "alone": alone}
    assert own_games_notes(agents) == ["online: its figures are on states of its own games; none were held out."]
    assert on_own_games_alone(agents)
    assert not on_own_games_alone({**agents, "offline": agent_scores("student", 1.0)})
    assert not on_own_games_alone({"teacher": agents["teacher"]})
