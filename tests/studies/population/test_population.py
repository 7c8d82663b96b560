"""Settings of every search, what its table says of rows, and the study as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill.api import validated
from distill.sweep.grid import Row, read_rows
from studies.population.__main__ import table
from studies.population.run import DEFAULT, FULL, LONG, METHODS, POPULATION, QUICK, RANDOM, SEARCHES, configured


def test_all_have_as_many_steps_together_but_the_short_default() -> None:
    total = {}
    for method in METHODS:
        config = configured(FULL, {"game": "pong", "seed": 2, "method": method})
        members = config.pbt.members if method in SEARCHES else 1
        total[method] = members * validated(config, "pbt" if method in SEARCHES else "train").train.steps
    assert total[POPULATION] == total[RANDOM] == total[LONG] == FULL.members * total[DEFAULT]


def test_ratios_are_paired_by_seed() -> None:
    def row(method: str, seed: int, kl: float) -> Row:
        return {"game": "pong", "method": method, "seed": str(seed), "test_kl": str(kl)}

    rows = [row(method, seed, seed * 0.1) for method in METHODS for seed in (2, 1) if method != POPULATION]
    rows += [row(POPULATION, seed, seed * 0.05) for seed in (1, 2)]
    lines = {line.split(" | ")[0].strip("| "): line for line in table(rows, "test_kl").splitlines()}
    assert "0.500 (0.500 .. 0.500)" in lines[POPULATION]
    assert "1.00 (1.00 .. 1.00)" in lines[DEFAULT]


@pytest.mark.slow
def test_quick(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "studies.population", "--quick", "--out", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run(command, check=True, capture_output=True, timeout=900, cwd=tmp_path, env=environment)
    rows = read_rows(tmp_path / "out" / "rows.csv")
    assert [row["method"] for row in rows] == list(METHODS) * len(QUICK.seeds)
    assert "nan" not in (tmp_path / "out" / "tables.md").read_text()
