"""Machines with folders of their own train one student, and what dies is started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from distill.config.config import Config
from distill.config.stages import train
from distill.dataset.opening import push_indexed
from distill.dataset.reader import Dataset
from distill.system.settings import with_values
from distill.train.setup import make_student

PARTS: dict[str, Any] = {"parts": 2, "steps": 12}
LONG: dict[str, Any] = {"steps": 300, "val_every": 100, "checkpoint_every": 20, "log_every": 100}
FRESH = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Else processes that are started again may be told the addresses of those that died."""
OBJECTIVE = {"jacobian_weight": 0.05, "jacobian_share": 0.25}


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """What a test starts is ended with it, children included."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for one in processes:
        with suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def launch(started: list[subprocess.Popen[str]], config: Config, folder: Path, *words: str) -> subprocess.Popen[str]:
    """``torchrun`` with these words, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    settings = yaml.safe_load(yaml.safe_dump(_plain({**config.to_dict()})))
    settings["train"]["out"] = "run"
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=1", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DISTILL_CACHE": str(folder / "cache"), **FRESH,
                   "PYTHONPATH": str(Path(__file__).parents[2])}  # fmt: skip
    started.append(
        subprocess.Popen(
            [*command, "-m", "distill.cli", "train", "--config", "config.yaml"],
            cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    )  # fmt: skip
    return started[-1]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def two_machines(started: list[subprocess.Popen[str]], config: Config, tmp_path: Path, backend: str) -> None:
    """Start both."""
    port = free_port()
    if backend == "static":
        meeting = ["--master_addr=127.0.0.1", f"--master_port={port}"]
    else:
        meeting = ["--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{port}", "--rdzv_id=test"]
        meeting += ["--local_addr=127.0.0.1"]
    for rank in range(2):
        launch(started, config, tmp_path / f"node{rank}", "--nnodes=2", f"--node_rank={rank}", *meeting)


def ended(processes: list[subprocess.Popen[str]]) -> None:
    for one in processes:
        output, _ = one.communicate(timeout=150)
        assert one.returncode == 0, output


def weights(run: Path) -> dict[str, torch.Tensor]:
    content: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]
    return content


def compare(quick: Callable[..., Config], alone: Path, team: Path) -> None:
    """The same student, but for sums in another order and Adam's full steps of gradients that are nearly nothing."""
    torch.manual_seed(1)
    start = make_student(quick("alone"), Dataset(quick("alone").train.data)).state_dict()
    other = weights(team)
    for name, weight in weights(alone).items():
        assert torch.dist(other[name], weight) < 0.01 * torch.dist(start[name], weight), name
    assert (team / "student").is_dir()


@pytest.mark.parametrize("backend", ["static", "c10d"])
def test_two_machines_that_each_hold_a_part_train_as_one_does(
    quick: Callable[..., Config], tmp_path: Path, pong_copy: Path, started: list[Any], backend: str
) -> None:
    alone = train(quick("alone", objective=OBJECTIVE, train={**PARTS, "data": str(pong_copy)}))
    url = f"file://{tmp_path}/store/pong"
    push_indexed(pong_copy, url)
    two_machines(started, quick("team", objective=OBJECTIVE, train={**PARTS, "data": url}), tmp_path, backend)
    ended(started)
    compare(quick, alone, tmp_path / "node0" / "run")
    assert not (tmp_path / "node1" / "run").exists()
    here = {path.parent.name for path in (tmp_path / "node1").glob("cache/stores/*/shards/*/jacobian.npy")}
    # Shards go to the part that has fewer states; the first one tells everybody what there is.
    assert here == {"teacher-00000", "teacher-00001", "teacher-00003"}


@pytest.mark.slow
def test_machines_that_died_go_on(
    quick: Callable[..., Config], tmp_path: Path, pong_copy: Path, started: list[Any]
) -> None:
    """Only the main one has checkpoints."""
    changes = {"objective": OBJECTIVE, "train": {**LONG, "parts": 2, "data": str(pong_copy)}}
    alone = train(quick("alone", **changes))
    two_machines(started, quick("team", **changes), tmp_path, "static")
    wait_for(tmp_path / "node0" / "run" / "checkpoints" / "last.pt")
    for one in started:
        os.killpg(one.pid, signal.SIGKILL)
        one.wait()
    assert not (tmp_path / "node0" / "run" / "student").exists()
    started.clear()
    two_machines(started, quick("team", **changes), tmp_path, "c10d")
    output = started[0].communicate(timeout=150)[0]
    assert "continuing at step" in output
    ended(started[1:])
    compare(quick, alone, tmp_path / "node0" / "run")


@pytest.mark.slow
def test_a_process_that_died_is_started_again(quick: Callable[..., Config], tmp_path: Path, started: list[Any]) -> None:
    """And the student is that of two processes of which none died, to the bit."""
    config = quick("team", objective=OBJECTIVE, train=LONG)
    for name in ("whole", "killed"):
        meeting = ["--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{free_port()}"]
        one = launch(started, config, tmp_path / name, "--nproc_per_node=2", "--max-restarts=2", *meeting)
        if name == "killed":
            wait_for(tmp_path / name / "run" / "checkpoints" / "last.pt")
            workers = Path(f"/proc/{one.pid}/task/{one.pid}/children").read_text().split()
            os.kill(int(workers[-1]), signal.SIGKILL)
        output, _ = one.communicate(timeout=150)
        assert one.returncode == 0, output
    assert "continuing at step" in output
    whole, killed = (weights(tmp_path / name / "run") for name in ("whole", "killed"))
    assert all(torch.equal(killed[name], value) for name, value in whole.items())
    assert (tmp_path / "killed" / "run" / "student").is_dir()


def wait_for(path: Path) -> None:
    end = time.monotonic() + 200
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.02)


def test_other_data_on_one_machine_is_refused(
    quick: Callable[..., Config], tmp_path: Path, pong_copy: Path, pong_quarter: Path, started: list[Any]
) -> None:
    port = free_port()
    for rank, data in enumerate((pong_copy, pong_quarter)):
        (tmp_path / f"node{rank}").mkdir()
        (tmp_path / f"node{rank}" / "data").symlink_to(data)
        words = ["--nnodes=2", f"--node_rank={rank}", "--master_addr=127.0.0.1", f"--master_port={port}"]
        launch(started, quick("team", train={"data": "data"}), tmp_path / f"node{rank}", *words)
    output = started[1].communicate(timeout=150)[0]
    assert started[1].returncode != 0
    assert "error: process 1 has other data than process 0; let --train.data be the same on all machines" in output


def test_a_student_to_begin_from_is_that_of_the_main_machine(
    quick: Callable[..., Config], tmp_path: Path, started: list[Any]
) -> None:
    for rank in range(2):
        start = train(quick(f"start{rank}", seed=rank + 1, train={"steps": 3}))
        (tmp_path / f"node{rank}").mkdir()
        (tmp_path / f"node{rank}" / "start").symlink_to(start)
    alone = train(with_values(quick("alone"), {"student.init": str(tmp_path / "start0")}))
    two_machines(started, with_values(quick("team"), {"student.init": "start"}), tmp_path, "static")
    ended(started)
    compare(quick, alone, tmp_path / "node0" / "run")
