"""The cells of every part: distinct, comparable, and chosen without a look at what is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.sweep.cells import cell_config, typed_cells
from distill.sweep.grid import Cell
from studies.atari.plan import (
    CANDIDATES,
    FULL,
    LR,
    PLAIN,
    SHARE,
    SOBOLEV,
    STATES,
    STEPS,
    UNTIL,
    WEIGHT,
    WHOLE,
    ablated,
    afforded,
    grid,
    layered,
    part_config,
    questions,
    recordings,
    same_steps,
)


def parts() -> dict[str, list[Cell]]:
    best = [cell for cell in grid(FULL, "pong") if cell[STATES] == FULL.share(1) and cell[LR] == PLAIN[LR]]
    return {
        "grid": grid(FULL, "pong"),
        "steps": same_steps(FULL, best),
        "ablation": ablated(FULL),
        "layers": layered(FULL),
    }


@pytest.mark.parametrize("part", ["grid", "steps", "ablation", "layers"])
def test_cells_are_valid_and_distinct(part: str) -> None:
    cells = typed_cells(parts()[part])
    assert len({str(cell) for cell in cells}) == len(cells)
    for cell in cells:
        cell_config(part_config(part, "pong", FULL), cell, Path(FULL.runs))


def test_steps_cost_what_was_asked_for() -> None:
    """A step with derivatives on a share m costs 1 + 1.23 m plain ones."""
    for cell in CANDIDATES:
        steps = afforded(cell, 6000)
        first = steps * cell.get(UNTIL, 1.0) if cell[WEIGHT] else 0
        assert steps + first * 1.23 * cell.get(SHARE, 1.0) == pytest.approx(6000, abs=2)
    assert [afforded(cell, 6000) for cell in (PLAIN, SOBOLEV, WHOLE)] == [6000, 5200, 2691]


def test_the_same_steps_for_both() -> None:
    cells = parts()["steps"]
    assert {(cell[WEIGHT], cell[UNTIL], cell[STEPS]) for cell in cells} == {
        (1.0, 0.5, FULL.cost),
        (1.0, 0.3, FULL.cost),
    }
    assert len(cells) == 2 * len(FULL.seeds)


def test_test_games_are_other_games() -> None:
    train, test = recordings(FULL, "breakout")
    assert train.seed != test.seed


def test_the_recipe_stands_in_every_ablation() -> None:
    asked = questions(FULL)
    recipe = asked["share of the batch"]["0.25"]
    for question, variations in asked.items():
        assert recipe in variations.values(), question
