"""A user's population based training, by the public library: lineage, settings, and a kill in the middle."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.fixtures.errands import papers

Program = Callable[..., "subprocess.Popen[str]"]
RUNS = [f"{turn}-{number}" for turn in range(3) for number in range(3)]


@pytest.fixture(scope="module")
def whole(home: Path, pong: str) -> Path:
    return home / "population"


def settings(run: Path) -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    return told


def last(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    return content


def test_the_worst_takes_over_the_best_and_goes_on_from_there(program: Program, whole: Path) -> None:
    process = program("my_package.population", whole.name, "pong")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "step 4 of 12: " in said
    for turn in (1, 2):
        before = [whole / f"{turn - 1}-{number}" for number in range(3)]
        scores = [papers(run)["metrics"]["val_kl"] for run in before]
        best, worst = scores.index(min(scores)), scores.index(max(scores))
        for number in range(3):
            now = settings(whole / f"{turn}-{number}")
            parent = before[best if number == worst else number]
            assert now["train"]["fork_from"] == f"{whole.name}/{parent.name}"
            for section, name in (("train", "learning_rate"), ("objective", "jacobian_weight")):
                factor = now[section][name] / settings(parent)[section][name]
                assert (
                    factor == pytest.approx(1) if number != worst else min(abs(factor - f) for f in (0.8, 1.25)) < 1e-9
                )
            steps = {float(state["step"]) for state in last(whole / f"{turn}-{number}")["optimizer"]["state"].values()}
            assert steps == {4.0 * (turn + 1)}, "Adam goes on, too"


def test_a_killed_one_goes_on_to_the_bit(program: Program, whole: Path, home: Path) -> None:
    process = program("my_package.population", "killed", "pong")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 8 of 12"):  # the first member's second round has been measured, and nobody has saved
            process.kill()
    process.wait()
    done = [name for name in RUNS if (home / "killed" / name / "student" / "student.json").exists()]
    assert 3 <= len(done) < 9
    process = program("my_package.population", "killed", "pong")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert said.count("already trained; nothing to do") == len(done)
    for name in RUNS:
        one, other = last(whole / name), last(home / "killed" / name)
        assert all(torch.equal(one["model"][key], other["model"][key]) for key in one["model"]), name
