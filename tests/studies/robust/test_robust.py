"""Which cells the study has, what its tables say of rows, and the study as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distill.api import validated
from distill.envs.games import REFERENCE_SCORES
from distill.evaluate.settings import EvaluateRun
from distill.sweep.grid import Row, read_rows
from distill.system.settings import part as settings_of
from studies.robust import plan
from studies.robust.plan import FULL, KINDS, METHODS, QUICK, SIZES, TEACHER
from studies.robust.run import PARTS, cells
from studies.robust.tables import in_play, on_states, sections

ROOT = Path(__file__).parents[3]


def test_settings_are_valid_and_every_cell_has_a_name_of_its_own() -> None:
    for name in KINDS:
        for seed in FULL.seeds:
            assert validated(plan.training("pong", FULL, name, seed)).seed == seed
    assert validated(plan.recording("pong", FULL, test=True)).collect.states == FULL.test_states // 2
    validated(plan.attacking("pong", FULL, "noise", 1, "pgd", 2.0))
    assert validated(plan.playing("pong", FULL, TEACHER, 1, "pgd")).threat.draws == 1
    assert validated(plan.playing("pong", FULL, "noise", 1, "pgd")).threat.draws > 1
    for how in (None, "pgd"):
        settings_of(validated(plan.playing("pong", FULL, "noise", 1, how)), EvaluateRun).check_stage()
    for part, names in PARTS.items():
        found = [tuple(cell[name] for name in names) for seed in FULL.seeds for cell in cells(part, seed, FULL)]
        assert len(set(found)) == len(found)
    assert len(cells("attack", 1, FULL)) == (1 + len(KINDS)) * (1 + 3 * len(SIZES) + 1)
    assert set(METHODS) == {"noise", "fgsm", "pgd", "swarm"}


def row(**fields: object) -> Row:
    return {name: str(value) for name, value in fields.items()}


def test_what_is_kept_is_above_random_play() -> None:
    chance = REFERENCE_SCORES["pong"][0]
    rows = []
    for seed in (1, 2):
        scores = {"teacher": (40.0, 4.0), "kl": (38.0, 9.5), "noise": (20.0, 16.0)}
        for kind, (clean, under) in scores.items():
            rows.append(row(kind=kind, seed=seed, attack="none", mean=chance + clean))
            rows.append(row(kind=kind, seed=seed, attack="pgd", mean=chance + under))
    rows.append(row(kind="kl", seed=3, attack="none", mean=0))  # without its other half
    lines = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in in_play(rows, "pong").splitlines()}
    assert lines["teacher"][2:5] == ["10.0 (10.0 .. 10.0)", "100 %", "1"]
    assert lines["KL"][2:5] == ["25.0 (25.0 .. 25.0)", "95 %", "2.5"]
    assert lines["adversarial, white noise"][2:5] == ["80.0 (80.0 .. 80.0)", "50 %", "8"]
    assert lines["KL"][5].strip(" |") == "2"


def test_disagreement_on_states_by_attack_and_size() -> None:
    rows = [row(kind="kl", seed=s, method="pgd", eps=2.0, action_error=0.1 * s) for s in (1, 2)]
    rows.append(row(kind="kl", seed=1, method="none", eps=0.0, action_error=0.02))
    lines = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in on_states(rows).splitlines()}
    assert lines["pgd, 2"][0].startswith("15.0 (")
    assert lines["none"][0].strip(" |") == "2.00"
    assert lines["pgd, 4"][0].strip(" |") == "–"
    assert sections({part: [] for part in PARTS}, "pong", FULL) == []


@pytest.mark.slow
def test_quick(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "studies.robust", "--quick", "--out", str(tmp_path / "results")]
    first = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert first.returncode == 0, first.stderr
    for part in PARTS:
        assert len(read_rows(tmp_path / "results" / f"{part}-pong.csv")) == len(cells(part, 1, QUICK))
    text = (tmp_path / "results" / "tables.md").read_text()
    assert "### In play" in text
    assert "nan" not in text
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert "cell" not in again.stdout
