"""A sweep whose trainings run on a real Ray cluster on this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.config.config import Config
from distill.config.stages import sweep
from distill.errors import DivergedError, UserError
from distill.sweep.settings import SweepConfig
from distill.system.settings import check_settings
from tests.fixtures.ray_cluster import Nodes

TIMES = ("train_seconds",)


@pytest.fixture
def run(make_config: Callable[..., Config], pong_data: Path, tmp_path: Path) -> Callable[..., Any]:
    """``run("name", grid, workers="ray", steps=8)``: a sweep of a very small student into ``tmp_path / name``."""

    def start(name: str, grid: dict[str, list[Any]], steps: int = 8, **settings: Any) -> Any:
        train = {"data": str(pong_data), "steps": steps, "batch_size": 16, "warmup": 2, "val_every": 4,
                 "val_states": 20, "checkpoint_every": 2}  # fmt: skip
        out = {"grid": grid, "out": str(tmp_path / name), **settings}
        return sweep(make_config(student={"convs": [(4, 8, 4)], "hidden": [8]}, train=train, sweep=out))

    return start


def test_rows_are_those_of_one_process(nodes: Nodes, run: Callable[..., Any]) -> None:
    grid = {"seed": [1, 2], "train.learning_rate": [0.001, 0.01]}
    here, there = run("here", grid), run("there", grid, workers="ray", num_workers=2)
    assert [{k: v for k, v in row.items() if k not in TIMES} for row in here] == [
        {k: v for k, v in row.items() if k not in TIMES} for row in there
    ]
    assert run("there", grid, workers="ray", num_workers=2) == there, "nothing is trained again"


def test_a_diverged_cell_is_named(nodes: Nodes, run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"1 of 2 cells diverged and have no row: learning_rate-1e\+30"):
        run("some", {"train.learning_rate": [1e30, 0.001]}, workers="ray", num_workers=2)
    assert len((tmp_path / "some" / "rows.csv").read_text().splitlines()) == 2


def test_a_killed_worker_is_replaced_and_its_training_goes_on(
    nodes: Nodes, run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: list[int] = []

    def kill() -> None:
        checkpoint, end = tmp_path / "killed" / "seed-1" / "checkpoints" / "last.pt", time.monotonic() + 60
        while time.monotonic() < end and not killed:
            time.sleep(0.005)
            for pid in nodes.processes("ray::train_here") if checkpoint.exists() else []:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    (row,) = run("killed", {"seed": [1]}, steps=300, workers="ray", num_workers=1)
    thread.join()
    assert killed
    said = capsys.readouterr().out
    assert "its worker died; another one goes on" in said
    (same,) = run("alone", {"seed": [1]}, steps=300)
    assert {k: v for k, v in row.items() if k not in TIMES} == {k: v for k, v in same.items() if k not in TIMES}


def test_settings_of_ray_alone_are_refused_without_it() -> None:
    with pytest.raises(UserError, match=r"--sweep.num_workers is of --sweep.workers=ray; add that, or leave it out"):
        check_settings(Config(sweep=SweepConfig(num_workers=2)))
