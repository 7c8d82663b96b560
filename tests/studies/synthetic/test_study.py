"""The study as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distill.sweep.grid import read_rows
from studies.synthetic.__main__ import FULL, grid, protocols
from studies.synthetic.tables import rates, results
from studies.synthetic.training import METHODS, Recipe


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
    def rows(method: str, *tests: float) -> list[dict[str, str]]:
        settings = {"method": method, "lr": "0.01", "module_lr": "", "weight": ""}
        curves = {"loss@10": "1", "cosine@5": "0.25", "cosine@10": "0.75"}
        return [{**settings, "test": str(test), **curves} for test in tests]

    table = results({"own": {"sobolev": rows("sobolev", 0.5, 0.9), "critic": rows("critic", 0.4, 0.8)}}, 10)[2]
    assert table.splitlines()[3].split(" | ")[5:7] == ["+10.0 (+10.0 .. +10.0)", "0.50 (0.50 .. 0.50)"]


def test_one_learning_rate_is_the_true_gradients_best_that_all_were_tried_at() -> None:
    ranked = {
        "backprop": [(Recipe("backprop", lr), score) for lr, score in ((0.1, 0.9), (0.03, 0.8), (0.01, 0.7))],
        "dni": [(Recipe("dni", lr, module), module / 100) for lr, module in ((0.01, 3.0), (0.03, 2.0), (0.03, 1.0))],
    }
    own, shared = protocols(ranked, [0.01, 0.03]).values()
    assert own == [ranked["backprop"][0][0], ranked["dni"][0][0]]
    assert shared == [ranked["backprop"][1][0], ranked["dni"][1][0]]
    line = rates(ranked)[2].splitlines()[3]
    assert line == f"| {METHODS['dni']} | 3.0 | 2.0 |  | 2.0 | 3 |"


@pytest.mark.slow
def test_the_quick_form_runs_and_goes_on_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    first = run("--quick", "--out", str(tmp_path))
    assert first.returncode == 0, first.stderr
    assert {row["method"] for row in read_rows(tmp_path / "rows.csv")} == set(METHODS)
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
