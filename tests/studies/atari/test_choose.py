"""Settings are chosen by validation games of all seeds, apart for each method and number of states."""

from __future__ import annotations

from distill.sweep.grid import Cell, Row
from studies.atari.choose import as_text, best_by_others, by_auto, chosen, compared, method, own_best, scored
from studies.atari.plan import CANDIDATES, EARLY_LR, LR, SEED, STATES, STEPS, UNTIL, WEIGHT


def row(cell: Cell, seed: int, val: float, test: float) -> Row:
    return as_text({**cell, SEED: seed, "val_kl": val, "test_kl": test})


def cell(states: int, weight: float, rate: float) -> Cell:
    return {STATES: states, WEIGHT: weight, LR: rate, UNTIL: 0.5, STEPS: 60}


TRIED = [cell(states, weight, rate) for states in (100, 200) for weight in (0.0, 1.0) for rate in (1e-3, 3e-3)]
VALIDATION = {1: [0.4, 0.3, 0.2, 0.1, 0.1, 0.2, 0.3, 0.4], 2: [0.4, 0.9, 0.2, 0.1, 0.1, 0.2, 0.3, 0.1]}
BEST = [TRIED[0], TRIED[3], TRIED[4], TRIED[7]]
"""The first seed alone prefers the second cell to the first, and the last but one to the last."""


def rows(seed: int) -> list[Row]:
    return [row(tried, seed, val, 1 - val) for tried, val in zip(TRIED, VALIDATION[seed], strict=True)]


def test_validation_of_all_seeds_chooses_and_test_figures_do_not() -> None:
    kept = own_best([*rows(1), *rows(2)])
    for seed in (1, 2):
        assert [found for found in kept if found[SEED] == str(seed)] == [rows(seed)[TRIED.index(best)] for best in BEST]


def test_chosen_cells_are_of_all_seeds() -> None:
    cells = [{**tried, SEED: seed} for seed in (1, 2) for tried in TRIED]
    assert chosen([*rows(1), *rows(2)], cells) == [{**best, SEED: seed} for seed in (1, 2) for best in BEST]


def test_methods_are_told_by_their_settings() -> None:
    names = [method(as_text({UNTIL: 1.0, **cell})) for cell in CANDIDATES]
    assert names == ["KL"] * 3 + ["Sobolev"] * 2 + ["Sobolev throughout"]


def test_what_auto_stands_for_is_found() -> None:
    """600 steps of 32 pass over 1,000 states 19 times, and over 2,000 less than 10 times."""
    rows = [
        as_text({STATES: states, SEED: seed, STEPS: 600, **cell})
        for seed in (1, 2) for states in (1000, 2000) for cell in CANDIDATES
    ]  # fmt: skip
    found = [(row[SEED], row[STATES], row[WEIGHT], row[EARLY_LR], row[UNTIL]) for row in by_auto(rows)]
    assert found == [
        (seed, states, weight, "0.001", until if weight == "1.0" else "0.5")
        for seed in ("1", "2") for states, until in (("1000", "0.5"), ("2000", "0.3")) for weight in ("0.0", "1.0")
    ]  # fmt: skip


def test_other_seeds_choose_for_a_seed() -> None:
    found = best_by_others([*rows(1), *rows(2)])
    chosen_by = {1: [TRIED[0], TRIED[3], TRIED[4], TRIED[7]], 2: [TRIED[1], TRIED[3], TRIED[4], TRIED[6]]}
    assert found == [rows(seed)[TRIED.index(cell)] for seed, cells in chosen_by.items() for cell in cells]


def test_students_are_tested_that_some_table_shows() -> None:
    given = [*rows(1), *rows(2)]
    shown = compared(given)
    assert [row for row in given if row in own_best(given) or row in best_by_others(given)] == shown
    assert len(shown) == 10  # of each seed the four that are best, and two that only the other seed prefers
    assert scored([*shown, {**shown[0], "test_kl": ""}]) == shown


def test_a_seed_more_in_one_cell_leaves_the_others_as_they_were() -> None:
    more = [row(tried, 3, 0.1, 0.1) for tried in TRIED[4:]]
    kept = own_best([*rows(1), *rows(2), *more])
    assert [found[LR] for found in kept if found[STATES] == "100"] == ["0.001", "0.003"] * 2


def test_settings_that_a_seed_lacks_are_left_out() -> None:
    kept = own_best([*rows(1), *rows(2)[:-1]])
    assert {found[LR] for found in kept if (found[STATES], found[WEIGHT]) == ("200", "1.0")} == {str(TRIED[6][LR])}
