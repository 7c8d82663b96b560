"""Scores and fidelity as rows of text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from distill.envs.protocols import get_protocol
from distill.figures.shares import notes
from distill.system.progress import console, print_table

HEADER = ("agent", "parameters", "mean", "95 % interval", "median", "IQM", "human-norm.", "of teacher",
          "val KL", "total variation", "action error", "merged error", "Jacobian cosine", "Jacobian error")  # fmt: skip
SCORE_COLUMNS, FIDELITY_COLUMNS = (0, 2, 3, 4, 5, 6, 7), (0, 1, 8, 9, 10, 11, 12, 13)
FIDELITY = "fidelity on held-out games"


def table(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rows of scores.json as text, in the order of ``HEADER``."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None or math.isnan(value) else format(value, form)

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
            number(facts["val_kl"], ".4f"),
            number(facts.get("val_total_variation"), ".4f"),  # scores of earlier versions lack it
            number(facts["val_action_error"], ".1%"),
            number(facts.get("val_merged_action_error"), ".1%"),
            number(facts["val_jacobian_cosine"], ".3f"),
            number(facts.get("val_jacobian_relative_error"), ".3f"),
        )
        for name, facts in record["agents"].items()
    ]


def show(record: Mapping[str, Any]) -> None:
    """Print scores and, below them, fidelity: two tables that fit 80 columns."""
    protocol = get_protocol(record["protocol"])
    title = f"{record['game']}, {record['games']} whole games each, preset {record['preset']}"
    rows = table(record)
    stacked = [name.replace(" ", "\n") for name in HEADER]  # long names over short figures
    print_table(
        f"{title}\n{protocol.name}: {protocol.meaning}",
        [HEADER[c] for c in SCORE_COLUMNS],
        [[row[c] for c in SCORE_COLUMNS] for row in rows],
    )
    for note in notes(record["agents"]):
        console.print(note)
    print_table(FIDELITY, [stacked[c] for c in FIDELITY_COLUMNS], [[row[c] for c in FIDELITY_COLUMNS] for row in rows])
