"""A grid goes on where it was cut off, and loses nothing."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from distill.errors import UserError
from distill.sweep.grid import Cell, product, read_rows, run_grid

CELLS = product({"method": ["kl", "sobolev"], "seed": [1, 2]})


def test_the_last_axis_changes_fastest() -> None:
    assert [tuple(cell.values()) for cell in CELLS] == [("kl", 1), ("kl", 2), ("sobolev", 1), ("sobolev", 2)]


def test_a_killed_grid_continues_with_the_cell_it_was_in(tmp_path: Path) -> None:
    path, ran = tmp_path / "rows.csv", []

    def run(cell: Cell) -> dict[str, float]:
        if cell == CELLS[2] and len(ran) == 2:
            ran.append("killed")
            raise KeyboardInterrupt
        ran.append(cell)
        return {"error": 0.1 + 0.2}

    with pytest.raises(KeyboardInterrupt):
        run_grid(CELLS, run, path)
    assert len(read_rows(path)) == 2
    rows = run_grid(CELLS, run, path)
    assert ran == [*CELLS[:2], "killed", *CELLS[2:]]
    assert [(row["method"], row["seed"]) for row in rows] == [(c["method"], str(c["seed"])) for c in CELLS]
    assert all(float(row["error"]) == 0.1 + 0.2 for row in rows)
    assert read_rows(path) == rows


def test_a_cell_without_results_has_no_row_and_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = run_grid(CELLS, lambda cell: None if cell == CELLS[1] else {"error": 1}, path)
    assert [(row["method"], row["seed"]) for row in rows] == [("kl", "1"), ("sobolev", "1"), ("sobolev", "2")]
    ran: list[Cell] = []
    run_grid(CELLS, lambda cell: ran.append(cell) or {"error": 2}, path)
    assert ran == [CELLS[1]]


def test_more_cells_keep_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    run_grid(CELLS, lambda cell: {"error": 1}, path)
    more = [*CELLS, {"method": "noise", "seed": 1}]
    rows = run_grid(more, lambda cell: {"error": 2, "extra, quoted": "a,b"}, path)
    assert [row["error"] for row in rows] == ["1"] * 4 + ["2"]
    assert read_rows(path)[-1]["extra, quoted"] == "a,b"
    assert read_rows(path)[0]["extra, quoted"] == ""


def test_rows_of_other_settings_are_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    run_grid(CELLS, lambda cell: {"error": 1}, path)
    before = path.read_bytes()
    with pytest.raises(UserError, match="other settings than depth"):
        run_grid([{"depth": 1}], lambda cell: {"error": 1}, path)
    assert path.read_bytes() == before


def test_the_same_cell_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="same settings"):
        run_grid([CELLS[0], CELLS[0]], lambda cell: {}, tmp_path / "rows.csv")


@pytest.mark.parametrize("sizes", [(100,) * 5, (10_001,), (2,) * 200])
def test_a_grid_too_large_to_run_is_refused_at_once(sizes: tuple[int, ...]) -> None:
    axes = {f"axis{number}": range(size) for number, size in enumerate(sizes)}
    started = time.perf_counter()
    with pytest.raises(UserError, match=rf"the grid has {math.prod(sizes):,} cells \({sizes[0]} of axis0"):
        product(axes)
    assert time.perf_counter() - started < 1
    assert len(product({"a": range(100), "b": range(100)})) == 10_000


def test_an_axis_without_values_is_named() -> None:
    with pytest.raises(UserError, match="a sweep needs values to go through, but 'seed' has none"):
        product({"depth": [1, 2], "seed": []})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"method,seed,error\nkl,1\n", "row 1 has not as many values as there are columns"),
        (b"method,seed\nkl,1\nkl,2,3\n", "row 2 has not as many values as there are columns"),
        (b"method,seed\nkl,\xff\n", "not a readable table"),
        (b'method,seed\n"kl,1\n', "not a readable table"),
        (b'method,seed\n"kl"x,1\n', "not a readable table"),
    ],
)
def test_damaged_rows_are_refused_and_kept(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"rows\.csv is .*{says}"):
        run_grid(CELLS, lambda cell: {"error": 1}, path)
    assert path.read_bytes() == content
