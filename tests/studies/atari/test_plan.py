"""The cells of every part: distinct, comparable, and chosen without a look at what is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.sweep.cells import cell_config, typed_cells
from distill.sweep.grid import Cell
from studies.atari.plan import (
    ABLATIONS,
    DEFAULT,
    FULL,
    GAMES,
    KL,
    LR,
    SEED,
    STATES,
    STEPS,
    WEIGHT,
    ablated,
    grid,
    longer,
    much_data,
    part_config,
    questions,
    recordings,
)


def parts() -> dict[str, list[Cell]]:
    best = [cell for cell in grid(FULL, "pong") if cell[STATES] == FULL.share(1) and cell[LR] == KL[LR]]
    return {
        "grid": grid(FULL, "pong"),
        "longer": longer(FULL, "pong", best),
        **{part: ablated(part, FULL, "pong") for part in ABLATIONS},
    }


@pytest.mark.parametrize("part", ["grid", "longer", *ABLATIONS])
def test_cells_are_valid_and_distinct(part: str) -> None:
    cells = typed_cells(parts()[part])
    assert len({str(cell) for cell in cells}) == len(cells)
    for cell in cells:
        cell_config(part_config(part, "pong", FULL), cell, Path(FULL.runs))


def test_longer_is_plain_for_twice_the_steps() -> None:
    cells = parts()["longer"]
    assert [cell[SEED] for cell in cells] == list(FULL.seeds)
    assert {(cell[WEIGHT], cell[STEPS]) for cell in cells} == {(0.0, 2 * FULL.steps)}


def test_test_games_are_other_games() -> None:
    train, test = recordings(FULL, "breakout")
    assert train.seed != test.seed


def test_the_recipe_stands_in_every_ablation() -> None:
    for question, variations in {**questions(FULL, GAMES[0]), **much_data(FULL, GAMES[0])}.items():
        same = [label for label, cell in variations.items() if all(cell.get(n, v) == v for n, v in DEFAULT.items())]
        assert same or "noisy" in question, question
