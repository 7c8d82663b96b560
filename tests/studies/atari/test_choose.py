"""Settings are chosen by validation games of all seeds, apart for each method and number of states."""

from __future__ import annotations

from distill.sweep.grid import Cell, Row
from studies.atari.choose import as_text, best_by_others, chosen, defaults, faster, longer_than, own_best
from studies.atari.plan import CANDIDATES, LR, SEED, STATES, STEPS, WEIGHT


def row(cell: Cell, seed: int, val: float, test: float) -> Row:
    return as_text({**cell, SEED: seed, "val_kl": val, "test_kl": test})


def cell(states: int, weight: float, rate: float) -> Cell:
    return {STATES: states, WEIGHT: weight, LR: rate}


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


def test_the_default_recipe_and_its_plain_form_are_found() -> None:
    tried = [as_text({STATES: 100, SEED: seed, **cell}) for seed in (1, 2) for cell in CANDIDATES]
    assert [(found[SEED], found[WEIGHT], found[LR]) for found in defaults(tried)] == [
        (seed, weight, "0.001") for seed in ("1", "2") for weight in ("0.0", "1.0")
    ]
    assert [(found[SEED], found[WEIGHT], found[LR]) for found in faster(tried)] == [
        (seed, weight, "0.003") for seed in ("1", "2") for weight in ("0.0", "1.0")
    ]


def test_other_seeds_choose_for_a_seed() -> None:
    found = best_by_others([*rows(1), *rows(2)])
    chosen_by = {1: [TRIED[0], TRIED[3], TRIED[4], TRIED[7]], 2: [TRIED[1], TRIED[3], TRIED[4], TRIED[6]]}
    assert found == [rows(seed)[TRIED.index(cell)] for seed, cells in chosen_by.items() for cell in cells]


def test_only_longer_runs_of_the_best_settings_are_kept() -> None:
    best = [row({**TRIED[0], STEPS: 10}, 1, 0.1, 0.1)]
    longer = [row({STEPS: 20, **TRIED[i]}, seed, 0.1, 0.1) for i in (0, 1) for seed in (1, 2)]
    assert longer_than(best, longer) == longer[:1]


def test_settings_that_a_seed_lacks_are_left_out() -> None:
    kept = own_best([*rows(1), *rows(2)[:-1]])
    assert {found[LR] for found in kept if (found[STATES], found[WEIGHT]) == ("200", "1.0")} == {str(TRIED[6][LR])}
