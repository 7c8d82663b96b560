"""Population based training of very small students, on a real Ray cluster, and its schedule replayed without."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import gc
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from distill.config.config import Config
from distill.config.stages import evaluate, pbt
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.figures.fidelity import measure
from distill.pbt import run as module
from distill.pbt.rounds import ROUND
from distill.pbt.schedule import read_schedule
from distill.students.folder import load_student
from distill.system.files import sha256
from distill.system.progress import Bar
from distill.train.setup import training_split
from tests.fixtures.ray_cluster import Nodes

SPACE = {"objective.jacobian_weight": [0.1, 10.0], "train.learning_rate": [0.0001, 0.03],
         "objective.temperature": [0.8, 1.25]}  # fmt: skip
Make = Callable[..., Config]


@pytest.fixture
def make(make_config: Make, pong_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """``make("out", train={...}, members=4, ...)``: twelve steps of very small students, in three rounds.

    Paths are relative, as most people give them.
    """
    monkeypatch.chdir(tmp_path)

    def build(out: str = "population", train: dict[str, Any] | None = None, **settings: Any) -> Config:
        of_train = {"data": str(pong_data), "steps": 12, "batch_size": 16, "warmup": 2, "val_every": 4,
                    "val_states": 40, "loggers": [], **(train or {})}  # fmt: skip
        p = {"out": out, "members": 4, "space": SPACE, "perturbation_interval": 4, "num_workers": 2}
        return make_config(student={"convs": [(4, 8, 4)], "hidden": [8]}, train=of_train, pbt={**p, **settings})

    return build


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "rounds.csv").open() as file:
        return list(csv.DictReader(file))


def last(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    return content


def interrupted(config: Config, folder: Path) -> dict[Path, float]:
    """Ctrl-C once some rounds of the second turn are done; returns what is there, and when it was written."""

    def stop(bar: Bar, completed: int, note: str) -> None:
        if completed >= 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(Bar, "update", stop)
        pbt(config)
    gc.collect()  # Tune's actors, which hold cores
    return {path: path.stat().st_mtime for path in folder.glob(f"*/{ROUND}")}


def test_a_population_and_its_schedule_replayed_without_ray(
    nodes: Nodes, make: Make, pong_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = interrupted(make(), Path("population"))
    assert 5 <= len(before) < 12
    folder = pbt(make())
    assert {path: path.stat().st_mtime for path in before} == before
    rows = rows_of(folder)
    assert [row["round"] for row in rows] == [*"1111", *"2222", *"3333"], "it decided as before, and nothing came twice"
    assert {row["step"] for row in rows} == {"4", "8", "12"}
    by_name = {row["run"]: row for row in rows}
    copied = 0
    for row in rows:
        told = yaml.safe_load((folder / row["run"] / "config.yaml").read_text())
        parent = by_name.get(row["parent"])
        assert told["train"]["fork_from"] == (str(folder / parent["run"]) if parent else None)
        assert {float(one["step"]) for one in last(folder / row["run"])["optimizer"]["state"].values()} == {
            float(row["step"])
        }, "Adam goes on, too"
        for name, (low, high) in SPACE.items():
            section, _, key = name.partition(".")
            assert told[section][key] == float(row[name])
            assert low <= float(row[name]) <= high
        copied += parent is not None and any(parent[name] != row[name] for name in SPACE)
    assert copied >= 2, "after each of two rounds the worst one copied"
    best = min((row for row in rows if row["step"] == "12"), key=lambda row: float(row["val_kl"]))
    assert best["best"] == "1"
    assert sha256(folder / "student" / "model.safetensors") == sha256(
        folder / best["run"] / "student" / "model.safetensors"
    )
    config = make()
    data = Dataset(pong_data)
    index = training_split(config, data)[1]
    net = load_student(folder).net
    net.load_state_dict(last(folder / best["run"])["model"])
    assert measure(net, data, index).kl == pytest.approx(float(best["val_kl"]), rel=1e-4), "at the temperature of all"
    assert (folder / "population.png").read_bytes().startswith(b"\x89PNG")

    monkeypatch.setitem(sys.modules, "ray", None)
    again = pbt(make("replayed", replay=str(folder / "schedule.yaml")))
    one, other = (last(folder / best["run"]), last(again / rows_of(again)[-1]["run"]))
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
    assert (again / "schedule.yaml").read_text() == (folder / "schedule.yaml").read_text()
    assert pbt(make()) == folder, "nothing to do, and Ray is not needed for that"
    scores = evaluate(make_evaluation(make(), [f"found={folder}", f"again={again}"], tmp_path))
    assert {agent["kind"] for agent in scores["agents"].values()} == {"student"}


def make_evaluation(config: Config, agents: list[str], out: Path) -> Config:
    played = dataclasses.replace(config.evaluate, agents=agents, games=1, num_envs=1, out=str(out / "scores"))
    return dataclasses.replace(config, evaluate=played)


def test_nobody_copies_before_the_burn_in_is_over(nodes: Nodes, make: Make) -> None:
    rows = {row["run"]: row for row in rows_of(pbt(make("late", burn_in_period=5)))}
    turned = {row["round"] for row in rows.values()
              if row["parent"] and any(row[name] != rows[row["parent"]][name] for name in SPACE)}  # fmt: skip
    assert turned == {"3"}, "five steps end in the second round of four"


def test_random_search_keeps_what_it_drew(nodes: Nodes, make: Make) -> None:
    folder = pbt(make("random", scheduler="random", members=2))
    rows = {row["run"]: row for row in rows_of(folder)}
    assert len(rows) == 6
    for row in rows.values():
        assert all(row[name] == rows[row["parent"]][name] for name in SPACE) if row["parent"] else True
    assert json.loads((folder / next(iter(rows)) / ROUND).read_text())["number"] == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": {"patience": 2}}, r"--train.patience does not go with distill pbt, whose rounds are trainings"),
        ({"perturbation_interval": 12}, r"--pbt.perturbation_interval must be below --train.steps=12, got 12"),
        ({"burn_in_period": 9}, r"--pbt.burn_in_period must be at most 8, where the last round begins, got 9"),
        ({"space": {"train.lr": [0.1, 1]}}, r"--pbt.space cannot change 'train.lr' .*; it can change objective"),
        ({"space": {"train.weight_decay": [0, 1]}}, r"--pbt.space: train.weight_decay must be two values above 0"),
        ({"space": {"train.weight_decay": 1}}, r"--pbt.space: train.weight_decay must be list\[float\], got 1"),
        ({"space": {"objective.jacobian_share": [0.5, 2.0]}}, r"--objective.jacobian_share must be above 0, and at mo"),
        ({"members": 1}, r"--pbt.members must be at least 2"),
        ({"replay": "nowhere.yaml"}, r"--pbt.replay=nowhere.yaml cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(make: Make, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        pbt(make("refused", **settings))
    assert not (tmp_path / "refused").exists()


def test_a_space_that_leaves_no_state_to_attack_is_refused(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "import_ray", lambda wanted_by: None)
    space, train = {"objective.jacobian_share": [0.25, 0.8]}, {"adversary": "pgd", "adversary_share": 0.5}
    message = r"--pbt\.space, at an end of it: --train\.adversary_share=0\.5 of each batch .* but 0\.8 of it carries"
    with pytest.raises(UserError, match=message):
        pbt(make("refused", space=space, train=train))
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "is no schedule of distill pbt of this version"),
        ("form: pbt-schedule\nversion: 1\nsegments: [{until: 4}, {until: 4}]", "must end after ever more steps"),
        ("form: pbt-schedule\nversion: 1\nsegments: [{until: 4}]", "is of 4 steps, not 12; set --train.steps=4"),
        ("form: pbt-schedule\nversion: 1\nsegments: 5", "must say until which step it lasts"),
        ("form: pbt-schedule\nversion: 1\nsegments: [{until: true}]", "must say until which step it lasts"),
        ("form: pbt-schedule\nversion: 1\nsegments: [{train.steps: 4}]", "must say until which step it lasts"),
        ("form: pbt-schedule\nversion: 1\nsegments: [{until: 12, train.steps: 4}]", "changes 'train.steps'; a sch"),
        ("form: pbt-schedule\nversion: 1\nsegments: [{until: 12, train.weight_decay: x}]", "must be a number, got 'x'"),
    ],
)
def test_schedules_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_schedule(str(tmp_path / "s.yaml"), 12)


def write_schedule(path: Path, *rates: float, ends: tuple[int, ...] = (6, 12)) -> str:
    segments = [{"until": end, "train.learning_rate": rate} for end, rate in zip(ends, rates, strict=True)]
    path.write_text(yaml.safe_dump({"form": "pbt-schedule", "version": 1, "seed": 1, "segments": segments}))
    return str(path)


def test_an_edited_schedule_is_another_training(make: Make, tmp_path: Path) -> None:
    given = write_schedule(tmp_path / "s.yaml", 0.001, 0.002)
    again = make("edited", replay=given, perturbation_interval=500)  # has no say in a replay
    folder = pbt(again)
    assert pbt(again) == folder, "nothing to do"
    write_schedule(tmp_path / "s.yaml", 0.001, 0.01)
    with pytest.raises(UserError, match=r"edited was trained by another schedule than .*s\.yaml is now; choose anoth"):
        pbt(again)
    for ends in ((6, 12), (4, 12)):
        write_schedule(tmp_path / "s.yaml", 0.001, 0.01, ends=ends)
        shutil.rmtree(folder / "student")  # as if it was killed before its end
        pbt(again)
        told = [(int(row["step"]), float(row["train.learning_rate"])) for row in rows_of(folder)]
        assert told == [(ends[0], 0.001), (12, 0.01)], "only what it says now"


def test_values_of_a_schedule_are_checked_like_flags(make: Make, tmp_path: Path) -> None:
    given = write_schedule(tmp_path / "s.yaml", 0.001, -0.001)
    with pytest.raises(UserError, match=r"s\.yaml, until step 12: --train.learning_rate must be"):
        pbt(make("negative", replay=given))
    assert not (tmp_path / "negative").exists()


def test_without_ray_one_sentence_says_what_to_install(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^distill pbt needs Ray, .*: pip install -e \"\.\[ray\]\"$"):
        pbt(make("none"))
