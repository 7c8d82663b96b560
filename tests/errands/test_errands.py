"""A user's teacher format, preset and network go through every stage, without a line changed in the toolkit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.fixtures.errands import PLAY, RECORD, TINY, Distill, papers

TRAIN = ("--train.data=data", *TINY)


@pytest.fixture(scope="module")
def data(distill: Distill, home: Path) -> Path:
    distill("collect", "--teacher=agent.seeded", "--collect.out=data", *RECORD)
    return home / "data"


@pytest.fixture(scope="module")
def run(distill: Distill, data: Path, home: Path) -> Path:
    distill("train", *TRAIN, "--student.name=my_package.nets:TwoPaths", "--train.out=run", "--seed=3")
    return home / "run"


def test_a_teacher_of_ones_own_format_records_ones_own_preset(distill: Distill, data: Path) -> None:
    identity = json.loads((data / "dataset.json").read_text())["identity"]
    assert (identity["game"], identity["preset"]) == ("pong", "my-eyes")
    assert "waves" in distill("info", "agent.seeded")
    assert "derivatives" in distill("verify", "data", "--sample=20")


def test_a_network_of_ones_own_becomes_a_student(run: Path) -> None:
    told = papers(run)
    assert (told["network"], told["student"], told["num_actions"]) == (*["my_package.nets:TwoPaths"] * 2, 6)
    assert "net" not in told
    assert sorted(path.name for path in (run / "student").iterdir()) == ["model.safetensors", "student.json"]
    assert set(told["sha256"]) == {"model.safetensors"}


def test_it_is_evaluated_beside_its_teacher_and_reported(distill: Distill, run: Path, home: Path) -> None:
    distill("evaluate", "--evaluate.agents=[run,teacher]", *PLAY, "--evaluate.out=scores")
    agents = json.loads((home / "scores" / "scores.json").read_text())["agents"]
    assert {agent["kind"] for agent in agents.values()} == {"student", "teacher"}
    distill("report", "--report.scores=scores/scores.json", "--report.out=page", "--device=cpu")
    page = (home / "page" / "index.html").read_text()
    assert "my_package.nets:TwoPaths: " in page
    assert "parameters, built by a program" in page


def test_it_is_described_and_exported_as_far_as_that_goes(distill: Distill, run: Path, home: Path) -> None:
    assert "my_package.nets:TwoPaths" in distill("info", "run")
    distill("export", "run", "--format=safetensors", "--out=student.safetensors")
    assert (home / "student.safetensors").read_bytes() == (run / "student" / "model.safetensors").read_bytes()
    refused = distill("export", "run", "--format=sb3", "--out=student.zip", fails=True)
    assert "which a program builds, and stable-baselines3 has no such policy; export it as safetensors" in refused
    assert not (home / "student.zip").exists()


def test_it_starts_another_training_and_teaches(distill: Distill, run: Path, home: Path) -> None:
    distill("train", *TRAIN, "--student.name=my_package.nets:TwoPaths", "--student.init=run", "--train.out=again")
    other = distill("train", *TRAIN, "--student.init=run", "--train.out=other", fails=True)
    assert "--student.init=run is another network than --student.name=mnih2013 asks for" in other
    distill("collect", "--teacher=run", "--collect.out=taught", "--collect.states=20", "--collect.num_envs=2")
    taught = json.loads((home / "taught" / "dataset.json").read_text())["identity"]
    assert taught["teacher"] == papers(run)["fingerprint"]


def test_it_learns_online(distill: Distill, home: Path) -> None:
    distill(
        "imitate", "--teacher=my_package.agents:load", "--student.name=two-paths", "--imitate.states=120",
        "--imitate.num_envs=2", "--imitate.learning_starts=16", "--imitate.batch_size=8", "--imitate.ring=200",
        "--imitate.out=online", "--device=cpu",
    )  # fmt: skip
    told = papers(home / "online")
    assert (told["network"], told["preset"], told["teacher_name"]) == ("two-paths", "my-eyes", "my_package.agents:load")


def test_a_sweep_goes_through_names(distill: Distill, data: Path, home: Path) -> None:
    distill("sweep", *TRAIN, "--sweep.grid={student.name: [two-paths, 'my_package.nets:TwoPaths', mnih2013]}",
            "--sweep.out=sweep")  # fmt: skip
    with (home / "sweep" / "rows.csv").open() as file:
        rows = {row["student.name"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"two-paths", "my_package.nets:TwoPaths", "mnih2013"}
    assert rows["two-paths"]["val_kl"] == rows["my_package.nets:TwoPaths"]["val_kl"] != rows["mnih2013"]["val_kl"]


def test_a_preset_by_its_path(distill: Distill, home: Path) -> None:
    distill(
        "collect", "--teacher=my_package.agents:load", "--preset=my_package.eyes:slow",
        "--teacher_preset=my_package.eyes:slow", "--collect.out=slow", "--collect.states=20", "--collect.num_envs=2",
    )  # fmt: skip
    identity = json.loads((home / "slow" / "dataset.json").read_text())["identity"]
    assert identity["preset"] == identity.get("teacher_preset", "my_package.eyes:slow") == "my_package.eyes:slow"


def test_without_the_package_it_is_said_what_is_missing(distill: Distill, data: Path, run: Path) -> None:
    told = distill("train", *TRAIN, "--train.out=none", plugins=False, fails=True)
    assert "data is of preset 'my-eyes', which is not registered here; import the package that registers it" in told
    told = distill("info", "run", plugins=False, fails=True)
    assert "is of preset 'my-eyes', which is not registered here" in told
    told = distill("train", *TRAIN, "--student.name=two-path", "--train.out=none", fails=True)
    assert "unknown network 'two-path' (did you mean 'two-paths'?); known: mnih2013" in told
    told = distill("train", *TRAIN, "--student.name=two-paths", "--student.hidden=[8]", "--train.out=none", fails=True)
    assert "--student.hidden changes networks that are described by their layers, and two-paths is built by a" in told
