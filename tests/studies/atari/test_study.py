"""The study as a user runs it, in its small form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distill.sweep.grid import read_rows
from studies.atari.ideas.run import variations
from studies.atari.plan import CANDIDATES, QUICK, ablated, layered

ROOT = Path(__file__).parents[3]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """In a folder of its own, where data and runs go."""
    command = [sys.executable, "-m", "studies.atari", "--quick", "--out", str(folder / "results"), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env={"PYTHONPATH": str(ROOT)})


def test_tables_without_rows_are_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "--parts", "tables")
    assert (done.returncode, done.stderr) == (
        1,
        f"error: {tmp_path}/results has no rows of the grid that were tested yet; run the parts grid and test first\n",
    )


@pytest.mark.slow
def test_the_quick_form_runs_and_goes_on_where_it_was(tmp_path: Path) -> None:
    first = run(tmp_path, "--games", "pong")
    assert first.returncode == 0, first.stderr
    results = tmp_path / "results"
    rows = read_rows(results / "grid-pong.csv")
    assert len(rows) == len(QUICK.percentages) * len(CANDIDATES) * len(QUICK.seeds)
    tested = read_rows(results / "test-pong.csv")
    assert all(0 < float(row["test_kl"]) < 2 for row in tested)
    assert {row["part"] for row in tested} == {"grid", "steps"}
    assert len(read_rows(results / "play-pong.csv")) == 2 * (1 + 2 * len(QUICK.played) * len(QUICK.seeds))
    assert len(read_rows(results / "ablation-pong.csv")) == len(ablated(QUICK))
    assert len(read_rows(results / "ideas-pong.csv")) == len(variations(QUICK)) * len(QUICK.seeds)
    assert len(read_rows(results / "tested-layers-pong.csv")) == len(layered(QUICK))
    assert len(read_rows(results / "steps-pong.csv")) == len(QUICK.percentages) * len(QUICK.seeds)
    table = (results / "tables.md").read_text()
    assert "## Pong" in table
    assert "Breakout" not in table
    for name in ("headline", "others"):
        assert (results / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/**/model.safetensors")}
    again = run(tmp_path, "--games", "pong")
    assert again.returncode == 0, again.stderr
    assert before
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/**/model.safetensors")}
