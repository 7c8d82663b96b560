from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from distill.records.data import DataUsed, OwnGames
from distill.records.scores import AgentScores, Scores
from distill.report.headline import comparable, headline, number
from tests.fixtures.records import agent_scores, scores, training

RANDOM = -20.7


def agent(
    kind: str, mean: float, low: float, high: float, *, parameters: int = 100, kl: float | None = None, **changes: Any
) -> AgentScores:
    share = (mean - RANDOM) / (20.0 - RANDOM)
    told = {"ci95": (low, high), "parameters": parameters, "metrics": {"val_kl": kl}, "share_of_teacher": share}
    return agent_scores(kind, mean, **{**told, **changes})


def record(games: int = 32, game: str = "pong", **agents: AgentScores) -> Scores:
    return scores(agents, game=game, games=games)


TEACHER = agent("teacher", 20.0, 19.5, 20.5, parameters=250)


def test_share_kept_with_fewer_parameters() -> None:
    lead, *rest = headline(record(teacher=TEACHER, s=agent("student", 15.0, 14.0, 16.0)), {"s": training(0.01)})
    assert lead == (
        "The Sobolev student s keeps 88 % of the teacher’s score above random with 2.5 times fewer parameters: "
        "15.0 (95 % interval 14.0 to 16.0) against 20.0 (19.5 to 20.5)."
    )
    assert len(rest) == 1
    assert "another seed" in rest[0]


@pytest.mark.parametrize(
    ("student", "says", "never"),
    [
        (agent("student", -10.0, -12.0, -8.0), "keeps only 26 %", "cannot"),
        (agent("student", 19.0, 17.0, 20.0), "cannot be told from its teacher by score, 98 % of", "keeps"),
        (agent("student", 0.0, -15.0, 19.7), "cannot be told from its teacher", "keeps"),
        (agent("student", 20.9, 20.6, 21.0), "outscores its teacher", "keeps"),
        (agent("student", -19.0, -21.0, -17.0), "cannot be told from random play", "%  of"),
        (agent("student", -20.95, -21.0, -20.8), "plays worse than random play", "keeps"),
        (agent("student", 15.0, 14.0, 16.0, parameters=250), "with about as many parameters", "fewer"),
        (agent("student", 15.0, 14.0, 16.0, parameters=500), "with 2.0 times more parameters", "fewer"),
    ],
)
def test_lead_claims_no_more_than_the_intervals_do(student: Any, says: str, never: str) -> None:
    lead = headline(record(teacher=TEACHER, s=student))[0]
    assert says in lead
    assert never not in lead
    assert "Sobolev" not in lead, "without papers, nothing is known of the objective"


def test_without_a_teacher_nothing_is_compared() -> None:
    assert headline(record(s=agent("student", 5.0, 4.0, 6.0)))[0] == (
        "The student s scores 5.0 (95 % interval 4.0 to 6.0); no teacher was evaluated beside it."
    )


def test_a_teacher_no_better_than_random_gives_no_share() -> None:
    bad = agent("teacher", -20.0, -21.0, -19.0)
    lead = headline(record(teacher=bad, s=agent("student", 5.0, 4.0, 6.0)))[0]
    assert lead.startswith("The teacher itself cannot be told from random play")
    assert "% of" not in lead


def test_a_game_without_a_reference_gives_no_share() -> None:
    student = agent("student", 5.0, 4.0, 6.0, share_of_teacher=None)
    lead = headline(record(game="adventure", teacher=TEACHER, s=student))[0]
    assert lead.startswith("The student s scores below its teacher with 2.5 times fewer parameters: 5.0")


def test_teachers_alone() -> None:
    assert headline(record(teacher=TEACHER)) == [
        "The teacher teacher scores 20.0 (95 % interval 19.5 to 20.5); no student was evaluated."
    ]


def test_overlapping_students_are_not_ranked() -> None:
    students = {"a": agent("student", 15.0, 13.0, 17.0, kl=0.02), "b": agent("student", 14.0, 12.0, 16.0, kl=0.03)}
    papers = {"a": training(0.01), "b": training(0.0)}
    text = " ".join(headline(record(teacher=TEACHER, **students), papers))
    assert "The best of 2 students, the Sobolev student a, keeps" in text
    assert "overlaps that of b, so these games do not settle which student is best" in text
    assert "by score the two cannot be told apart" in text
    assert "0.0200 and 0.0300 nats" in text


def test_students_with_separate_intervals_are_ranked() -> None:
    students = {"a": agent("student", 15.0, 14.0, 16.0), "b": agent("student", 5.0, 4.0, 6.0)}
    text = " ".join(headline(record(teacher=TEACHER, **students), {"a": training(0.0), "b": training(0.01)}))
    assert "With derivatives, b scores 5.0" in text
    assert "without, a scores 15.0 (14.0 to 16.0): the intervals are apart" in text
    assert "settle" not in text


USED = DataUsed("data/pong", "2026-01-01T00:00:00+00:00", 600, digest="d", train="t", held="h")
OWN = OwnGames(1000, 5)


def test_students_of_fewer_training_states_are_comparable() -> None:
    """Wherever their data lay: what was held out is the same."""
    fewer = replace(USED, train="fewer", folder="copies/pong")
    assert comparable([training(0.01, data=USED), training(0.0, data=fewer)])
    assert not comparable([training(data=USED), training(data=replace(USED, held="other"))])
    assert not comparable([training(data=USED), training(data=replace(USED, digest="other"))])


def test_students_of_games_of_their_own_are_not_comparable() -> None:
    assert comparable([training(data=OWN)])
    assert not comparable([training(data=OWN), training(data=OWN)])
    assert comparable([])


@pytest.mark.parametrize("other", [training(0.0, temperature=0.5), training(0.0, seed=2)])
def test_kl_on_other_states_or_temperatures_is_not_compared(other: Any) -> None:
    students = {"a": agent("student", 15.0, 14.0, 16.0, kl=0.02), "b": agent("student", 5.0, 4.0, 6.0, kl=0.03)}
    papers = {"a": training(0.01), "b": other}
    assert not comparable(list(papers.values()))
    text = " ".join(headline(record(teacher=TEACHER, **students), papers))
    assert "With derivatives" in text
    assert "nats" not in text


def test_few_games_are_called_few() -> None:
    student = agent("student", 15.0, 14.0, 16.0)
    assert "With only 4 games per agent, take the intervals as rough." in headline(
        record(4, teacher=TEACHER, s=student)
    )
    one = {"a": agent("student", 15.0, 15.0, 15.0, returns=[15.0])}
    one["b"] = agent("student", -21.0, -21.0, -21.0, returns=[-21.0])
    text = " ".join(headline(record(1, teacher=TEACHER, **one), {"a": training(0.01), "b": training(0.0)}))
    assert "in a single game" in text
    assert "nothing follows from it" in text
    assert "With derivatives" not in text
    assert "keeps" not in text


@pytest.mark.parametrize(
    ("value", "text"), [(-20.66, "−20.7"), (-0.04, "0.0"), (12345.6, "12,346"), (99.96, "100.0"), (-1234.0, "−1,234")]
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def taught(by: str, mean: float, low: float, high: float, **more: Any) -> AgentScores:
    return agent("student", mean, low, high, teacher=by, **more)


def test_a_student_is_compared_with_the_teacher_that_taught_it() -> None:
    one = agent("teacher", 20.0, 19.5, 20.5, fingerprint="1")
    two = agent("teacher", 10.0, 9.5, 10.5, fingerprint="2")
    lead = headline(record(one=one, two=two, s=taught("2", 5.0, 4.0, 6.0, share_of_teacher=0.84)))[0]
    assert "keeps 84 % of its teacher two’s score above random" in lead
    assert lead.endswith("against 10.0 (9.5 to 10.5).")


def test_another_teacher_is_not_taken_for_the_students() -> None:
    other = replace(TEACHER, fingerprint="1")
    lead = headline(record(other=other, s=taught("2", 5.0, 4.0, 6.0, share_of_teacher=None)))[0]
    assert lead == "The student s scores 5.0 (95 % interval 4.0 to 6.0); its teacher was not evaluated beside it."


def test_papers_tell_whose_student_it_is_where_older_scores_do_not() -> None:
    other = replace(TEACHER, fingerprint="1")
    student = agent("student", 15.0, 14.0, 16.0)
    lead = headline(record(other=other, s=student), {"s": training(0.0, teacher="2")})[0]
    assert "its teacher was not evaluated beside it" in lead
    assert "keeps" in headline(record(other=other, s=student), {"s": training(0.0, teacher="1")})[0]
