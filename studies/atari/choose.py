"""Each method's own best settings, by the validation games of the first seed; test games have no part in it."""

from __future__ import annotations

from collections.abc import Sequence

from distill.grid import Cell, Row
from studies.atari.plan import SEED, STATES, WEIGHT

METHODS = ("KL", "Sobolev")


def method(row: Row) -> str:
    """The method of a row of the grid."""
    return METHODS[float(row[WEIGHT]) > 0]


def own_best(rows: Sequence[Row]) -> list[Row]:
    """At every number of states the rows, of all seeds, with the settings that each method did best with."""
    first = min(int(row[SEED]) for row in rows)
    best: dict[tuple[str, str], Row] = {}
    for row in sorted(rows, key=lambda row: float(row["val_kl"])):
        if int(row[SEED]) == first:
            best.setdefault((method(row), row[STATES]), row)
    settings = {key: _settings(row) for key, row in best.items()}
    return [row for row in rows if _settings(row) == settings.get((method(row), row[STATES]))]


def chosen(rows: Sequence[Row], tried: Sequence[Cell]) -> list[Cell]:
    """The cells among those tried whose settings did best."""
    best = own_best(rows)
    return [cell for cell in tried if any(as_text(cell).items() <= row.items() for row in best)]


def as_text(cell: Cell) -> Row:
    """Settings as rows have them."""
    return {name: "" if value is None else str(value) for name, value in cell.items()}


def _settings(row: Row) -> Row:
    return {name: text for name, text in row.items() if name.partition(".")[0] in ("train", "objective")}
