"""A user's proximal distillation, by the public library: the student plays, and learns from reward and teacher."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file

from teachers.load import load_teacher
from tests.fixtures.errands import PLAY, RECORD, Distill, papers

Program = Callable[..., "subprocess.Popen[str]"]


def test_it_learns_from_its_own_games(program: Program, home: Path) -> None:
    process = program("my_package.proximal", "proximal")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    steps = [
        {name: float(value) for name, value in re.findall(r"(\w+) (-?[\d.]+)", line)}
        for line in said.splitlines()
        if re.match(r"\d+ total", line)
    ]
    assert len(steps) == 32
    assert abs(steps[0]["clipped"]) < 1e-4, "nothing has changed yet: the ratio is 1, and advantages have mean 0"
    assert any(abs(step["clipped"]) > 1e-3 for step in steps)
    first, *_, last = (sum(step["teacher"] for step in steps[start : start + 4]) for start in (0, 4, 8, 12))
    assert last < 0.95 * first, "four passes over the first rollout bring it nearer to its teacher there"
    told = papers(home / "proximal")
    assert (told["game"], told["teacher_name"], told["dataset"]["online"]) == ("pong", "pong", True)
    assert told["dataset"]["states"] > 300


def test_it_is_a_student_with_a_value(distill: Distill, home: Path) -> None:
    """It plays in an evaluation, and it can teach: its value head is there."""
    assert "value.weight" in load_file(home / "proximal" / "student" / "model.safetensors")
    distill("evaluate", "--env=pong", "--evaluate.agents=[proximal,teacher]", *PLAY, "--evaluate.out=proximal-scores")
    agents = json.loads((home / "proximal-scores" / "scores.json").read_text())["agents"]
    assert (agents["proximal"]["kind"], agents["teacher"]["kind"]) == ("student", "teacher")
    assert agents["proximal"]["share_of_teacher"] is not None
    distill("collect", "--teacher=proximal", "--collect.out=of-proximal", *RECORD)
    assert load_teacher(str(home / "proximal")).has_value
