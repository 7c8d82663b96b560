"""Settings are chosen by the first seed's validation games, apart for each method and number of states."""

from __future__ import annotations

from distill.grid import Cell, Row
from studies.atari.choose import as_text, chosen, own_best
from studies.atari.plan import LR, SEED, STATES, WEIGHT


def row(cell: Cell, seed: int, val: float, test: float) -> Row:
    return as_text({**cell, SEED: seed, "val_kl": val, "test_kl": test})


def cell(states: int, weight: float, rate: float) -> Cell:
    return {STATES: states, WEIGHT: weight, LR: rate}


TRIED = [cell(states, weight, rate) for states in (100, 200) for weight in (0.0, 1.0) for rate in (1e-3, 3e-3)]
VALIDATION = [0.4, 0.3, 0.2, 0.1, 0.1, 0.2, 0.3, 0.4]
BEST = [TRIED[1], TRIED[3], TRIED[4], TRIED[6]]


def test_validation_chooses_and_test_figures_do_not() -> None:
    rows = [row(tried, 1, val, 1 - val) for tried, val in zip(TRIED, VALIDATION, strict=True)]
    assert chosen(rows, TRIED) == BEST
    # Other seeds have no say, even where they have other settings.
    others = [row(tried, 2, 0.0, 0.0) for tried in TRIED]
    kept = own_best([*others, *rows])
    assert [found for found in kept if found[SEED] == "1"] == [row(c, 1, *pair(c)) for c in BEST]
    assert [found for found in kept if found[SEED] == "2"] == [row(c, 2, 0.0, 0.0) for c in BEST]


def pair(best: Cell) -> tuple[float, float]:
    val = VALIDATION[TRIED.index(best)]
    return val, 1 - val
