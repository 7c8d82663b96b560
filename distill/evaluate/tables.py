"""Scores and fidelity as rows of text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from distill.envs.protocols import get_protocol
from distill.figures.figure import OWN, for_tables
from distill.figures.shares import notes
from distill.system.progress import console, print_table

SCORES = ("agent", "parameters", "mean", "95 % interval", "median", "IQM", "human-norm.", "of teacher")
HEADER = (*SCORES, *(figure.title for figure in for_tables(OWN)))
SCORE_COLUMNS = (0, 2, 3, 4, 5, 6, 7)
FIDELITY = "fidelity on held-out games"


def header(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of all columns: ``HEADER``, and figures that somebody added."""
    return (*HEADER, *(figure["title"] for figure in record.get("figures", {}).values()))


def fidelity_columns(record: Mapping[str, Any]) -> list[int]:
    """Which of ``header``'s columns are of fidelity, the agents' names first."""
    return [0, 1, *range(len(SCORES), len(header(record)))]


def table(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rows of scores.json as text, in the order of ``header(record)``."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None or math.isnan(value) else format(value, form)

    forms = {figure.name: figure.form for figure in for_tables(OWN)}
    forms |= {name: figure["form"] for name, figure in record.get("figures", {}).items()}
    return [
        (
            name,
            f"{facts['parameters']:,}",
            number(facts["mean"], ".2f"),
            f"{facts['ci95'][0]:.2f} .. {facts['ci95'][1]:.2f}",
            number(facts["median"], ".1f"),
            number(facts["iqm"], ".2f"),
            number(facts["human_normalized"], ".2f"),
            number(facts["share_of_teacher"], ".0%"),
            # Scores of earlier versions lack some.
            *(number(facts.get(f"val_{figure}"), form) for figure, form in forms.items()),
        )
        for name, facts in record["agents"].items()
    ]


def show(record: Mapping[str, Any]) -> None:
    """Print scores and, below them, fidelity: two tables that fit 80 columns."""
    protocol = get_protocol(record["protocol"])
    title = f"{record['game']}, {record['games']} whole games each, preset {record['preset']}"
    rows = table(record)
    stacked = [name.replace(" ", "\n") for name in header(record)]  # long names over short figures
    columns = fidelity_columns(record)
    print_table(
        f"{title}\n{protocol.name}: {protocol.meaning}",
        [HEADER[c] for c in SCORE_COLUMNS],
        [[row[c] for c in SCORE_COLUMNS] for row in rows],
    )
    for note in notes(record["agents"]):
        console.print(note)
    print_table(FIDELITY, [stacked[c] for c in columns], [[row[c] for c in columns] for row in rows])
