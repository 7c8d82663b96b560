"""The study as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distill.grid import read_rows
from studies.synthetic.__main__ import FULL, grid
from studies.synthetic.tables import results
from studies.synthetic.training import METHODS


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "studies.synthetic", *words], capture_output=True, text=True)


def test_every_method_is_searched_over_the_settings_it_has() -> None:
    counts = {method: len(grid(method, FULL)) for method in METHODS}
    rates, modules, weights = len(FULL.lr), len(FULL.module_lr), len(FULL.weight)
    assert counts["backprop"] == counts["noprop"] == rates
    assert counts["dni"] == counts["critic"] == counts["vfbn"] == rates * modules
    assert counts["sobolev"] == (rates - 2) * modules * weights
    assert not set(FULL.seeds) & set(FULL.tuning_seeds)


def test_the_lead_is_paired_by_seed() -> None:
    def rows(*tests: float) -> list[dict[str, str]]:
        return [{"test": str(test), "loss@10": "1", "cosine@5": "0.25", "cosine@10": "0.75"} for test in tests]

    table = results({"sobolev": rows(0.5, 0.9), "critic": rows(0.4, 0.8)}, 10)[1]
    assert table.splitlines()[3].split(" | ")[2:4] == ["+10.0 (+10.0 .. +10.0)", "0.50 (0.50 .. 0.50)"]


@pytest.mark.slow
def test_the_quick_form_runs_and_goes_on_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    first = run("--quick", "--out", str(tmp_path))
    assert first.returncode == 0, first.stderr
    assert len(read_rows(tmp_path / "rows.csv")) == 2 * len(METHODS)
    assert all(0 <= float(row["test"]) <= 1 for row in read_rows(tmp_path / "rows.csv"))
    table = (tmp_path / "tables.md").read_text()
    assert all(f"| {label} |" in table for label in METHODS.values())
    assert (tmp_path / "synthetic.png").read_bytes().startswith(b"\x89PNG")
    again = run("--quick", "--out", str(tmp_path))
    assert "cell" in first.stdout
    assert "cell" not in again.stdout


@pytest.mark.slow
def test_a_wrong_folder_is_one_sentence(tmp_path: Path) -> None:
    done = run("--quick", "--data", str(tmp_path / "nowhere"), "--out", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot read ")
    assert done.stderr.count("\n") == 1
