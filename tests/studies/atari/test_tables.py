"""Rows to tables: pairs by seed, and cells that were not run stay empty."""

from __future__ import annotations

import pytest

from distill.sweep.grid import Row
from studies.atari.ablation import ablated
from studies.atari.choose import as_text
from studies.atari.plan import QUICK, SEED, STATES, STEPS, UNTIL, WEIGHT, questions
from studies.atari.plan import ablated as ablated_cells
from studies.atari.tables import (
    FIGURES,
    against_validation,
    choices,
    comparison,
    cosines,
    headline,
    perturbed,
    pick,
    scores,
    set_of_test,
)


def row(percentage: int, weight: float, seed: int, kl: float, **more: object) -> Row:
    figures = {name: "0.5" for name, _ in FIGURES.values()}
    settings = {
        STATES: QUICK.share(percentage),
        WEIGHT: weight,
        SEED: seed,
        STEPS: 40,
        UNTIL: 0.5,
        "train_seconds": 1 + weight,
    }
    more = {"test_kl": kl, **more}
    return {**figures, **{name: str(value) for name, value in {**settings, **more}.items()}}


GRID = [row(10, 0, 1, 0.4), row(10, 1, 1, 0.1), row(10, 1, 2, 0.2), row(10, 0, 2, 0.8), row(50, 0, 1, 0.3)]

BY_GAME = [f"{figure}_by_game" for figure, _ in FIGURES.values()]
FIGURES_OF_A_ROW = dict.fromkeys(("val_kl", "val_action_error", "train_seconds", "steps"), "0.5")


def test_rows_are_found_by_settings_in_order_of_seeds() -> None:
    assert pick(GRID, "test_kl", states=160, method="KL").tolist() == [0.4, 0.8]
    assert pick(GRID, "test_kl", states=160, method="Sobolev").tolist() == [0.1, 0.2]
    assert pick(GRID, "test_kl", states=800, method="Sobolev").tolist() == []


def test_only_pairs_are_compared() -> None:
    lines = comparison(GRID, QUICK)[0].splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| 10 %"]  # at 50 % there is no Sobolev student
    cells = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert cells[1].startswith("0.566 (")  # the root of 0.4 * 0.8
    assert cells[3:] == ["0.250 (0.250 .. 0.250)", "2", "seeds only"]


def test_all_percentages_in_one_number() -> None:
    more = [row(50, 0, 2, 0.3), row(50, 1, 1, 0.3), row(50, 1, 2, 0.3)]
    last = comparison([*GRID, *more], QUICK)[0].splitlines()[-1]
    assert [cell.strip() for cell in last.strip("|").split("|")][3:] == ["0.500 (0.500 .. 0.500)", "2", "seeds only"]


def test_what_students_were_tested_on() -> None:
    known = [
        row(p, 0, seed, 0.4, test_games=12, test_states=3000, test_repeats=p * seed / 1000)
        for p in (10, 50) for seed in (1, 2)
    ]  # fmt: skip
    tested = "Tested on 3,000 states, evenly from 12 whole games."
    assert set_of_test(known) == (
        f"{tested} Of these states so many occur, pixel by pixel, among the training states, mean over seeds: "
        "1.5% at 160, 7.5% at 800."
    )
    for each in known:
        del each["test_repeats"]
    assert set_of_test(known) == tested


def test_the_headline_marks_what_is_beyond_the_interval() -> None:
    more = [row(50, 0, 2, 0.3), row(50, 1, 1, 0.1), row(50, 1, 2, 0.9)]
    lines = headline({"Pong": [*GRID, *more], "Breakout": GRID}, QUICK)[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][1:] == ["Pong", "Breakout"]
    assert cells[2] == ["10 %", "**0.250 (0.250 .. 0.250)**", "**0.250 (0.250 .. 0.250)**"]
    assert cells[3][1].startswith("1.00 (")
    assert cells[3][2] == ""
    assert cells[4][0] == "all"


def test_choices_are_named() -> None:
    table = choices(GRID, QUICK).splitlines()[2:]
    assert table[0] == "| 10 %, KL | 40 |  |  |  | 0.5 | 1 |"
    assert [line.split(" | ")[0] for line in table] == ["| 10 %, KL", "| 10 %, Sobolev", "| 50 %, KL"]


def test_ratios_over_games_say_so() -> None:
    """Two games of 10 and 30 states; Sobolev has half the sums of both for every seed."""
    sums = dict.fromkeys(BY_GAME, "1.0 19.0")
    half = dict.fromkeys(BY_GAME, "0.5 9.5")
    common = {"games": "t:0:10 t:1:30", "test_games": 2, "test_states": 40, "run": "a"}
    figures = {figure: 0.5 for figure, _ in FIGURES.values()}
    rows = [row(10, 0, seed, 0.5, **figures, **sums, **common) for seed in (1, 2)]
    rows += [row(10, 1, seed, 0.25, **dict.fromkeys(figures, 0.25), **half, **common) for seed in (1, 2)]
    for table in comparison(rows, QUICK):
        cells = [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]
        assert cells[3:] == ["0.500 (0.500 .. 0.500)", "2", "seeds and 2 games"]


def test_test_games_against_validation_games() -> None:
    table = against_validation({"pong": [row(10, 0, seed, 0.2 * seed, val_kl=0.1 * seed) for seed in (1, 2)]})
    assert table.splitlines()[2] == "| Pong | 2.00 (2.00 .. 2.00) | 2 |"


def test_scores_of_what_was_played() -> None:
    common = {"agent": "x", "protocol": "zoo"}
    rows = [row(50, 1, seed, 0.1, mean=mean, **common) for seed, mean in ((1, 10.0), (2, 20.0))]
    rows.append({"agent": "teacher", "protocol": "zoo", "mean": "19", "low": "18", "high": "20", WEIGHT: ""})
    table = scores(rows, QUICK).splitlines()[2:]
    assert table[0] == "| teacher | 19 (18 .. 20) |  |"
    assert table[1].startswith("| 50 %, Sobolev | 15.0 (")


def test_cosines_are_compared_by_difference() -> None:
    values = {(0, 1): -0.1, (0, 2): 0.1, (1, 1): 0.6, (1, 2): 0.8}
    rows = [row(10, weight, seed, 0.1, test_jacobian_cosine=value) for (weight, seed), value in values.items()]
    line = cosines(rows, QUICK).splitlines()[2]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert [cell.split(" (")[0] for cell in cells] == ["10 %", "0", "0.700", "0.700", "2"]


def test_perturbed_shares_are_percent() -> None:
    names = [f"{kind}_error" for kind in ("noise4", "noise8", "noise16", "shift1", "shift2")]
    table = perturbed([row(10, 0, 1, 0.4, **dict.fromkeys(names, 0.25))], QUICK)
    assert table.splitlines()[2] == "| 10 %, KL | 50.0 |" + " 25.0 |" * 5
    with pytest.raises(KeyError):
        pick(GRID, "test_kl", colour="red")


def test_variations_are_compared_with_the_recipe_and_plain_distillation() -> None:
    asked = questions(QUICK)
    shown = {"until": {"30% of the steps": 0.4, "50% of the steps": 0.2}, "learning rate": {"KL, 0.003": 0.8}}
    rows = [
        {**as_text({**asked[question][label], SEED: seed}), **FIGURES_OF_A_ROW, "val_kl": str(seed * kl)}
        for question, labels in shown.items() for label, kl in labels.items() for seed in (1, 2)
    ]  # fmt: skip
    tables = [table.splitlines() for table in ablated(rows, asked)]
    assert [table[0].split(" | ")[0] for table in tables] == ["| until", "| learning rate"]
    cells = {line.split(" | ")[0]: line.split(" | ")[2:4] for table in tables for line in table[2:]}
    assert cells == {
        "| 30% of the steps": ["2.00 (2.00 .. 2.00)", "0.500 (0.500 .. 0.500)"],
        "| 50% of the steps": ["", "0.250 (0.250 .. 0.250)"],
        "| KL, 0.003": ["4.00 (4.00 .. 4.00)", ""],
        "| 0.001 rising to 0.003": ["", "0.250 (0.250 .. 0.250)"],
    }


def test_every_variation_has_a_line_in_every_question() -> None:
    rows = [{**as_text(cell), **FIGURES_OF_A_ROW} for cell in ablated_cells(QUICK)]
    tables = [
        [line.split(" | ")[0].strip("| ") for line in table.splitlines()] for table in ablated(rows, questions(QUICK))
    ]
    asked = questions(QUICK)
    assert [[table[0], *table[2:]] for table in tables] == [[question, *labels] for question, labels in asked.items()]
