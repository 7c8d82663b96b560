"""The whole study, in its quick form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distill.sweep.grid import read_rows
from studies.regression.run import FULL, QUICK, Rows, cells, run
from studies.regression.tables import by_function


def test_every_fit_is_in_the_grid_once() -> None:
    every = [tuple(cell.values()) for cell in cells(FULL)]
    assert len(set(every)) == len(every)
    assert FULL.seeds >= 10
    main = [cell for cell in cells(FULL) if cell["weight"] in (0.0, 1.0) and cell["points"] in (20, 100)]
    assert len([cell for cell in main if cell["order"] < 2]) == 7 * 2 * 4 * 2 * FULL.seeds


def test_a_fit_is_repeatable_and_methods_share_points() -> None:
    cell = {**cells(QUICK)[0], "steps": 2}
    first = run(cell)
    assert run(cell) == first
    assert all(0 < error < 10 for error in first.values())
    other = run({**cell, "order": 1, "weight": 1.0})
    assert other != first
    assert run({**cell, "order": 1, "weight": 0.0}) == first


def test_ratios_are_sobolevs_error_over_that_of_values_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def halved(cell: dict[str, Any]) -> dict[str, float]:
        """Sobolev halves the error of values on Ackley's function and doubles that of gradients everywhere."""
        sobolev, seed = cell["order"] > 0, cell["seed"]
        better = 0.5 if sobolev and cell["function"] == "ackley" else 1.0
        return {"value": (1 + seed) * better, "gradient": 2.0 if sobolev else 1.0}

    monkeypatch.setattr("studies.regression.run.run", halved)
    table = by_function(Rows(QUICK, tmp_path / "rows.csv"), 20)
    lines = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in table.splitlines()}
    assert lines["Ackley"][:2] == ["1.41", "0.707"]
    assert lines["Ackley"][2] == "0.500 (0.500 .. 0.500)"
    assert lines["Styblinski–Tang"][2] == "1.00 (1.00 .. 1.00)"
    assert lines["Styblinski–Tang"][5].startswith("2.00 (2.00 .. 2.00)")
    assert lines["all"][2] == "0.707 (0.707 .. 0.707)"


@pytest.mark.slow
def test_quick(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "studies.regression", "--quick", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    rows = read_rows(tmp_path / "rows.csv")
    assert len(rows) == len(cells(QUICK))
    text = (tmp_path / "tables.md").read_text()
    assert "## 20 points, ReLU" in text
    assert "nan" not in text
    for name in ("ratios", *QUICK.functions):
        picture = (tmp_path / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 200_000
    before = (tmp_path / "rows.csv").stat().st_mtime_ns
    again = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    assert "cell" not in again.stdout
    assert (tmp_path / "rows.csv").stat().st_mtime_ns == before
