"""Each method's own best settings, by the validation games of all seeds; test games have no part in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from distill.sweep.grid import Cell, Row
from studies.atari.plan import DEFAULT, DEFAULT_KL, KL, SEED, SOBOLEV, STATES, STEPS, WEIGHT

METHODS = ("KL", "Sobolev")


def method(row: Row) -> str:
    """The method of a row of the grid."""
    return METHODS[float(row[WEIGHT]) > 0]


def own_best(rows: Sequence[Row]) -> list[Row]:
    """At every number of states the rows, of all seeds, with the settings that each method did best with.

    Best is the lowest geometric mean over seeds of the KL on validation games; settings that some seed lacks are
    left out.
    """
    tried: dict[Settings, list[Row]] = defaultdict(list)
    for row in rows:
        tried[_settings(row)].append(row)
    seeds = {row[SEED] for row in rows}
    best: dict[tuple[str, str], tuple[float, Settings]] = {}
    for settings, found in tried.items():
        if {row[SEED] for row in found} == seeds:
            kl = float(np.mean([np.log(float(row["val_kl"])) for row in found]))
            key = (method(found[0]), found[0][STATES])
            best[key] = min((kl, settings), best.get(key, (np.inf, settings)))
    kept = {settings for _, settings in best.values()}
    return [row for row in rows if _settings(row) in kept]


def defaults(rows: Sequence[Row]) -> list[Row]:
    """The rows with the default recipe, and with the same without the Sobolev term."""
    return [row for row in rows if any(as_text(cell).items() <= row.items() for cell in (DEFAULT_KL, DEFAULT))]


def faster(rows: Sequence[Row]) -> list[Row]:
    """The rows with three times the default learning rate, with the Sobolev term and without."""
    return [row for row in rows if any(as_text(cell).items() <= row.items() for cell in (KL, SOBOLEV))]


def best_by_others(rows: Sequence[Row]) -> list[Row]:
    """For every seed its rows with the settings that the other seeds chose."""
    kept = []
    for seed in dict.fromkeys(row[SEED] for row in rows):
        best = {_settings(row) for row in own_best([row for row in rows if row[SEED] != seed])}
        kept += [row for row in rows if row[SEED] == seed and _settings(row) in best]
    return kept


def longer_than(best: Sequence[Row], longer: Sequence[Row]) -> list[Row]:
    """The rows of longer training whose settings, steps aside, are among the best."""
    kept = {(row[SEED], _settings(row)) for row in best}
    return [row for row in longer if (row[SEED], _settings(row)) in kept]


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
