"""Scores and fidelity as rows of text."""

from __future__ import annotations

import math

from distill.attack.policy import in_words
from distill.envs.protocols import get_protocol
from distill.figures.figure import OWN, for_tables
from distill.figures.shares import notes, on_own_games_alone, own_games_notes, repeat_notes
from distill.records.scores import FIGURE, Scores
from distill.system.progress import console, print_table

SCORES = ("agent", "parameters", "mean", "95 % interval", "median", "IQM", "human-norm.", "of teacher")
HEADER = (*SCORES, *(figure.title for figure in for_tables(OWN)))
SCORE_COLUMNS = (0, 2, 3, 4, 5, 6, 7)
FIDELITY = ("fidelity on held-out games", "fidelity on states of the students' own games")


def header(scores: Scores) -> tuple[str, ...]:
    """Names of all columns: ``HEADER``, and figures that somebody added."""
    return (*HEADER, *(figure["title"] for figure in scores.figures.values()))


def fidelity_columns(scores: Scores) -> list[int]:
    """Which of ``header``'s columns are of fidelity, the agents' names first."""
    return [0, 1, *range(len(SCORES), len(header(scores)))]


def table(scores: Scores) -> list[tuple[str, ...]]:
    """The rows of scores as text, in the order of ``header(scores)``."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None or math.isnan(value) else format(value, form)

    forms = {figure.name: figure.form for figure in for_tables(OWN)}
    forms |= {name: figure["form"] for name, figure in scores.figures.items()}
    return [
        (
            name,
            f"{agent.parameters:,}",
            number(agent.mean, ".2f"),
            f"{agent.ci95[0]:.2f} .. {agent.ci95[1]:.2f}",
            number(agent.median, ".1f"),
            number(agent.iqm, ".2f"),
            number(agent.human_normalized, ".2f"),
            number(agent.share_of_teacher, ".0%"),
            # Scores of earlier versions lack some.
            *(number(agent.metrics.get(f"{FIGURE}{figure}"), form) for figure, form in forms.items()),
        )
        for name, agent in scores.agents.items()
    ]


def how_played(scores: Scores) -> str:
    """What a title says below its first line: the attack, where there was one, and the protocol."""
    protocol = get_protocol(scores.protocol)
    attack = f"{in_words(scores.attack)}\n" if scores.attack else ""
    return f"{attack}{protocol.name}: {protocol.meaning}"


def show(scores: Scores) -> None:
    """Print scores and, below them, fidelity: two tables that fit 80 columns."""
    title = f"{scores.game}, {scores.games} whole games each, preset {scores.preset}"
    rows = table(scores)
    stacked = [name.replace(" ", "\n") for name in header(scores)]  # long names over short figures
    columns = fidelity_columns(scores)
    print_table(
        f"{title}\n{how_played(scores)}",
        [HEADER[c] for c in SCORE_COLUMNS],
        [[row[c] for c in SCORE_COLUMNS] for row in rows],
    )
    for note in notes(scores.agents):
        console.print(note)
    where = FIDELITY[on_own_games_alone(scores.agents)]
    print_table(where, [stacked[c] for c in columns], [[row[c] for c in columns] for row in rows])
    for note in (*own_games_notes(scores.agents), *repeat_notes(scores.agents)):
        console.print(note)
