"""Two processes that ``torchrun`` starts train the student that one process trains on the whole batches."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.config.config import Config
from distill.config.stages import train
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.train.run import objective_name
from distill.train.setup import make_student
from distill.train.team import Team


def torchrun(config: Config, folder: Path, *, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Run ``distill train`` with a config as ``torchrun`` would."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(yaml.safe_dump(_plain(config.to_dict())))))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, "-m", "distill.cli", "train", "--config", str(path)],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def losses(run: Path) -> list[float]:
    events = EventAccumulator(str(run)).Reload()
    return [event.value for event in events.Scalars("train/loss")]


@pytest.mark.parametrize(
    "objective",
    [
        {"jacobian_weight": 0.05},
        {"jacobian_weight": 0.05, "jacobian_targets": "online", "law": "fisher", "k": 2},
        {"jacobian_weight": 0.05, "jacobian_targets": "online", "law": "fisher", "input_noise": 8.0},
        {"jacobian_weight": 0.0},
        {"jacobian_weight": 0.05, "jacobian_schedule": "linear", "jacobian_share": 0.25, "jacobian_until": 0.5},
    ],
    ids=["stored", "online", "noise", "plain", "share"],
)
def test_two_processes_train_as_one_does(
    quick: Callable[..., Config], tmp_path: Path, objective: dict[str, Any]
) -> None:
    compare(quick, tmp_path, objective)


def test_two_processes_share_the_states_that_carry_derivatives(
    quick: Callable[..., Config], tmp_path: Path, pong_quarter: Path
) -> None:
    compare(quick, tmp_path, {"jacobian_weight": 0.05, "jacobian_share": 0.25}, data=str(pong_quarter))


def compare(quick: Callable[..., Config], tmp_path: Path, objective: dict[str, Any], **changes: Any) -> None:
    alone = train(quick("alone", objective=objective, train=changes))
    ended = torchrun(quick("team", objective=objective, train=changes), tmp_path)
    assert ended.returncode == 0, ended.stderr
    name = objective_name(quick("team", objective=objective).objective)
    assert len(re.findall(f"trained {re.escape(name)}\n", ended.stdout)) == 1  # one of them speaks
    team = tmp_path / "team"
    one, two = (torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (alone, team))
    assert one["progress"]["step"] == two["progress"]["step"] == 12
    torch.manual_seed(1)
    start = make_student(quick("alone"), Dataset(quick("alone").train.data)).state_dict()
    for name, weight in one["model"].items():
        # Sums in another order; Adam makes a full step of a gradient that is nearly nothing.
        assert torch.dist(two["model"][name], weight) < 0.01 * torch.dist(start[name], weight), name
    assert losses(team) == pytest.approx(losses(alone), rel=1e-4)
    assert (team / "student").is_dir()


def test_a_batch_that_cannot_be_shared_is_refused(quick: Callable[..., Config], tmp_path: Path) -> None:
    ended = torchrun(quick("team", train={"batch_size": 15}), tmp_path)
    assert ended.returncode != 0
    assert "error: a batch of 15 states cannot be shared by 2 processes equally" in ended.stderr
    assert not (tmp_path / "team").exists()


def test_shares_are_the_batch() -> None:
    rows = torch.arange(12)
    shares = [rows[Team(rank, 3).share(12, 1.0)] for rank in range(3)]
    assert sorted(torch.cat(shares).tolist()) == rows.tolist()
    assert [len(share) for share in shares] == [4, 4, 4]
    with pytest.raises(UserError, match="equally"):
        Team(0, 5).share(12, 1.0)
    with pytest.raises(UserError, match=r"jacobian_share=0\.25 gives 4 of 16 states derivatives, which 8 processes"):
        Team(0, 8).share(16, 0.25)
    assert Team(0, 8).share(16, None) == slice(0, None, 8)


def test_a_number_that_nobody_stands_behind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match=r"^WORLD_SIZE=2 in the environment, but no RANK; start by torchrun, or unset"):
        Team.join()
