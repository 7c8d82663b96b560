"""The cells of every part: distinct, comparable, and chosen without a look at what is reported."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distill.cells import cell_config, typed_cells
from distill.grid import Cell
from studies.atari.plan import (
    FULL,
    GAMES,
    SEED,
    STATES,
    WEIGHT,
    Scale,
    ablation,
    grid,
    longer,
    part_config,
    questions,
    recordings,
)


@pytest.mark.parametrize("part", [grid, longer, ablation])
def test_cells_are_valid_and_distinct(part: Callable[[Scale, str], list[Cell]]) -> None:
    cells = typed_cells(part(FULL, "pong"))
    assert len({str(cell) for cell in cells}) == len(cells)
    for cell in cells:
        cell_config(part_config(part.__name__, "pong", FULL), cell, FULL.runs)  # type: ignore[arg-type]


def test_every_student_has_its_pair() -> None:
    cells = grid(FULL, "breakout")
    for states, seed in {(cell[STATES], cell[SEED]) for cell in cells}:
        weights = [cell[WEIGHT] for cell in cells if (cell[STATES], cell[SEED]) == (states, seed)]
        assert [weight > 0 for weight in weights] == [False, False, True]
    assert len(cells) == 3 * len(FULL.percentages) * len(FULL.seeds)


def test_test_games_are_other_games() -> None:
    train, test = recordings(FULL, ablations=False)
    assert train.seed != test.seed


def test_the_recipe_stands_in_every_ablation() -> None:
    recipe = next(cell for cell in grid(FULL, GAMES[0]) if cell[WEIGHT] > 0 and cell[STATES] == FULL.share(1))
    recipe = {name: value for name, value in recipe.items() if name != SEED}
    for question, variations in questions(FULL, GAMES[0]).items():
        same = [label for label, cell in variations.items() if all(cell.get(n, v) == v for n, v in recipe.items())]
        assert same or "fresh" in question or "noisy" in question, question
