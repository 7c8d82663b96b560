"""The cells of every part: distinct, comparable, and chosen without a look at what is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.cells import cell_config, typed_cells
from distill.grid import Cell
from studies.atari.plan import (
    ABLATIONS,
    CANDIDATES,
    DEFAULT,
    FULL,
    GAMES,
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
    best = [cell for cell in grid(FULL, "pong") if cell[STATES] == FULL.share(1)][1:3]
    return {
        "grid": grid(FULL, "pong", best),
        "longer": longer(FULL, "pong", best),
        **{part: ablated(part, FULL, "pong") for part in ABLATIONS},
    }


@pytest.mark.parametrize("part", ["grid", "longer", *ABLATIONS])
def test_cells_are_valid_and_distinct(part: str) -> None:
    cells = typed_cells(parts()[part])
    assert len({str(cell) for cell in cells}) == len(cells)
    for cell in cells:
        cell_config(part_config(part, "pong", FULL), cell, Path(FULL.runs))


def test_the_first_seed_tries_and_the_others_follow() -> None:
    cells = parts()["grid"]
    first, *others = FULL.seeds
    assert len(cells) == len(CANDIDATES) * len(FULL.percentages) + 2 * len(others)
    for seed in others:
        assert [cell[WEIGHT] for cell in cells if cell[SEED] == seed] == [0.0, 1.0]
    assert {cell[SEED] for cell in cells[: len(CANDIDATES) * len(FULL.percentages)]} == {first}


def test_longer_is_plain_for_twice_the_steps() -> None:
    cells = parts()["longer"]
    assert [cell[SEED] for cell in cells] == list(FULL.seeds)
    assert {(cell[WEIGHT], cell[STEPS]) for cell in cells} == {(0.0, 2 * FULL.steps)}


def test_test_games_are_other_games() -> None:
    train, test = recordings(FULL, ablations=False)
    assert train.seed != test.seed


def test_the_recipe_stands_in_every_ablation() -> None:
    for question, variations in {**questions(FULL, GAMES[0]), **much_data(FULL, GAMES[0])}.items():
        same = [label for label, cell in variations.items() if all(cell.get(n, v) == v for n, v in DEFAULT.items())]
        assert same or "noisy" in question, question
