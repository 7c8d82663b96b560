"""Each method's own best settings, by the validation games of all seeds; test games have no part in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from distill.sweep.grid import Cell, Row
from distill.train.auto import until
from studies.atari.plan import PLAIN, RISING, SEED, SOBOLEV, STATES, STATES_A_STEP, STEPS, UNTIL, WEIGHT

METHODS = ("KL", "Sobolev", "Sobolev throughout")
"""Plain distillation; derivatives first, on a part of each batch; derivatives of all states to the end."""


def method(row: Row) -> str:
    """The method of a row of the grid."""
    if float(row[WEIGHT]) == 0:
        return METHODS[0]
    return METHODS[1] if float(row[UNTIL]) < 1 else METHODS[2]


def own_best(rows: Sequence[Row]) -> list[Row]:
    """At every number of states the rows, of all seeds, with the settings that each method did best with.

    Best is the lowest geometric mean over seeds of the KL on validation games; settings that some seed lacks are
    left out.
    """
    tried: dict[Settings, list[Row]] = defaultdict(list)
    for row in rows:
        tried[_settings(row)].append(row)
    seeds: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        seeds[row[STATES]].add(row[SEED])
    best: dict[tuple[str, str], tuple[float, Settings]] = {}
    for settings, found in tried.items():
        if {row[SEED] for row in found} == seeds[found[0][STATES]]:
            kl = float(np.mean([np.log(float(row["val_kl"])) for row in found]))
            key = (method(found[0]), found[0][STATES])
            best[key] = min((kl, settings), best.get(key, (np.inf, settings)))
    kept = {settings for _, settings in best.values()}
    return [row for row in rows if _settings(row) in kept]


def by_auto(rows: Sequence[Row]) -> list[Row]:
    """The rows with what ``auto`` stands for, of plain distillation and of Sobolev (``distill.train.auto``)."""
    kept = []
    for row in rows:
        passes = int(row[STEPS]) * STATES_A_STEP / int(row[STATES])
        for cell in ({**PLAIN, **RISING}, {**SOBOLEV, UNTIL: until(passes)}):
            if as_text(cell).items() <= row.items():
                kept.append(row)
    return kept


def best_by_others(rows: Sequence[Row]) -> list[Row]:
    """For every seed its rows with the settings that the other seeds chose."""
    kept = []
    for seed in dict.fromkeys(row[SEED] for row in rows):
        best = {_settings(row) for row in own_best([row for row in rows if row[SEED] != seed])}
        kept += [row for row in rows if row[SEED] == seed and _settings(row) in best]
    return kept


def scored(rows: Sequence[Row]) -> list[Row]:
    """The rows of students with figures on test games."""
    return [row for row in rows if row.get("test_kl")]


def compared(rows: Sequence[Row]) -> list[Row]:
    """All rows of the grid that a table of test figures shows."""
    shown = {id(row) for kept in (own_best(rows), best_by_others(rows), by_auto(rows)) for row in kept}
    return [row for row in rows if id(row) in shown]


def chosen(rows: Sequence[Row], tried: Sequence[Cell]) -> list[Cell]:
    """The cells among those tried, of all seeds, whose settings did best."""
    best = own_best(rows)
    return [cell for cell in tried if any(as_text(cell).items() <= row.items() for row in best)]


def as_text(cell: Cell) -> Row:
    """Settings as rows have them."""
    return {name: "" if value is None else str(value) for name, value in cell.items()}


Settings = tuple[tuple[str, str], ...]


def _settings(row: Row) -> Settings:
    """What a student was trained with, its steps aside; sorted by name."""
    names = (name for name in sorted(row) if name.partition(".")[0] in ("train", "objective") and name != STEPS)
    return tuple((name, row[name]) for name in names)
