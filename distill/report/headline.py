"""What an evaluation shows, in sentences that claim no more than its numbers do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distill.envs.games import REFERENCE_SCORES
from distill.figures.shares import teacher_of
from distill.records.data import OwnGames
from distill.records.scores import AgentScores, Scores
from distill.records.student import Training

FEW_GAMES = 10


def headline(record: Scores, papers: Mapping[str, Training] | None = None) -> list[str]:
    """Sentences about an evaluation, the most important first.

    Two agents are told apart only where their 95 % intervals do not overlap, which is stricter than
    a test of the difference.

    Args:
        record: the scores.
        papers: training of each student that is still at hand.
    """
    agents = record.agents
    known = papers or {}
    students = {name: agent for name, agent in agents.items() if agent.kind == "student"}
    if not students:
        return _only_teachers(agents) + _caution(record, students)
    best = max(students, key=lambda name: students[name].mean)
    taught_by = teacher_of(students[best], agents, known.get(best))
    random = REFERENCE_SCORES.get(record.game, (None,))[0]
    subject = _subject(best, len(students), known.get(best))
    several = sum(agent.kind == "teacher" for agent in agents.values()) > 1
    whose = f"its teacher {taught_by}’s" if several else "the teacher’s"
    lead = _lead(subject, students[best], None if taught_by is None else agents[taught_by], random, whose)
    if taught_by is None and any(agent.kind == "teacher" for agent in agents.values()):
        lead = lead.replace("no teacher was evaluated", "its teacher was not evaluated")
    compared = [] if record.games == 1 else [*_rivals(best, students), *_with_and_without(students, known)]
    return [lead, *compared, *_caution(record, students)]


def number(value: float) -> str:
    """A score as people write it: a true minus sign, thousands apart, no needless digits."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")


def interval(agent: AgentScores, what: str = "95 % interval ") -> str:
    """Mean and 95 % interval of an agent's score; ``what`` may be left out where it has been said."""
    if len(agent.returns) < 2:
        return number(agent.mean)
    low, high = agent.ci95
    return f"{number(agent.mean)} ({what}{number(low)} to {number(high)})"


def overlap(a: AgentScores, b: AgentScores) -> bool:
    """True where the 95 % intervals of two agents have a score in common."""
    return a.ci95[0] <= b.ci95[1] and b.ci95[0] <= a.ci95[1]


def comparable(papers: Sequence[Training]) -> bool:
    """True where val_kl means the same for all: equal held-out states and equal temperature."""
    marks = [(_held_out(paper), paper.temperature) for paper in papers]
    apart = any(isinstance(paper.data, OwnGames) for paper in papers)  # each is measured on games of its own
    return len(papers) < 2 or (not apart and all(mark == marks[0] for mark in marks))


def _held_out(paper: Training) -> tuple[object, ...]:
    """Which states were held out; by what decides it where an earlier version did not say."""
    data = paper.data
    if data.held is not None:
        return data.digest, data.held
    return data.folder, data.created, data.states, paper.seed, paper.val_fraction


def _only_teachers(agents: Mapping[str, AgentScores]) -> list[str]:
    who = {
        name: "Playing at random" if agent.kind == "random" else f"The teacher {name}" for name, agent in agents.items()
    }
    return [f"{who[name]} scores {interval(agent)}; no student was evaluated." for name, agent in agents.items()]


def _subject(name: str, students: int, paper: Training | None) -> str:
    kind = "Sobolev student" if paper and paper.jacobian_weight > 0 else "student"
    return f"The {kind} {name}" if students == 1 else f"The best of {students} students, the {kind} {name},"


def _lead(subject: str, student: AgentScores, teacher: AgentScores | None, random: float | None, whose: str) -> str:
    scores = interval(student)
    if len(student.returns) < 2:
        beside = "" if teacher is None else f" and its teacher {number(teacher.mean)}"
        return f"{subject} scored {number(student.mean)}{beside} in a single game."
    if random is not None and student.ci95[1] < random:
        return f"{subject} plays worse than random play: it scores {scores}, random play {number(random)}."
    if random is not None and student.ci95[0] <= random:
        return f"{subject} cannot be told from random play: it scores {scores}, random play {number(random)}."
    if teacher is None:
        return f"{subject} scores {scores}; no teacher was evaluated beside it."
    if random is not None and teacher.ci95[0] <= random:
        return (
            f"The teacher itself cannot be told from random play ({interval(teacher)} against {number(random)}), "
            f"so there is no share of it to give; {subject[0].lower()}{subject[1:]} scores {scores}."
        )
    share = student.share_of_teacher
    size = _size(student.parameters, teacher.parameters)
    against = f"{scores} against {interval(teacher, '')}"
    of_teacher = "" if share is None else f", {share:.0%} of {whose} score above random".replace("%", " %")
    if overlap(student, teacher):
        return f"{subject} cannot be told from its teacher by score{of_teacher}, {size}: {against}."
    if student.mean > teacher.mean:
        return f"{subject} outscores its teacher {size}: {against}."
    if share is None:
        return f"{subject} scores below its teacher {size}: {against}."
    keeps = "keeps" if share >= 0.5 else "keeps only"
    return f"{subject} {keeps} {of_teacher[2:]} {size}: {against}."


def _size(student: int, teacher: int) -> str:
    ratio = teacher / student
    if ratio > 1.1:
        return f"with {ratio:.1f} times fewer parameters"
    return f"with {1 / ratio:.1f} times more parameters" if ratio < 1 / 1.1 else "with about as many parameters"


def _rivals(best: str, students: Mapping[str, AgentScores]) -> list[str]:
    """Which other students might be the best one."""
    rivals = [name for name, agent in students.items() if name != best and overlap(agent, students[best])]
    if not rivals:
        return []
    return [f"Its interval overlaps that of {_listed(rivals)}, so these games do not settle which student is best."]


def _with_and_without(students: Mapping[str, AgentScores], papers: Mapping[str, Training]) -> list[str]:
    """The best student trained on derivatives against the best one trained without."""
    ranked = sorted((name for name in students if name in papers), key=lambda name: -students[name].mean)
    a = next((name for name in ranked if papers[name].jacobian_weight > 0), None)
    b = next((name for name in ranked if papers[name].jacobian_weight == 0), None)
    if a is None or b is None:
        return []
    one, other = students[a], students[b]
    apart = "the intervals are apart"
    verdict = "the intervals overlap, so by score the two cannot be told apart" if overlap(one, other) else apart
    text = f"With derivatives, {a} scores {interval(one)}; without, {b} scores {interval(other, '')}: {verdict}."
    mine, theirs = one.metrics["val_kl"], other.metrics["val_kl"]
    if comparable([papers[a], papers[b]]) and mine is not None and theirs is not None:
        text += f" On held-out states their KL divergence from the teacher is {mine:.4f} and {theirs:.4f} nats."
    return [text]


def _caution(record: Scores, students: Mapping[str, AgentScores]) -> list[str]:
    games = record.games
    cautions = []
    if games == 1:
        cautions.append("One game per agent has no interval; nothing follows from it.")
    elif games < FEW_GAMES:
        cautions.append(f"With only {games} games per agent, take the intervals as rough.")
    if students:
        cautions.append(
            "Intervals are over games of these very networks: they say nothing about training again with another seed."
        )
    return cautions


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
