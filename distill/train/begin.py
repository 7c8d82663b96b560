"""Where a training begins: at its own last checkpoint, at another run's, or at the beginning."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.errors import UserError, first_line
from distill.records.data import DataUsed
from distill.system.progress import console
from distill.train.checkpoint import Progress, best_weights, newest_checkpoint
from distill.train.fork import read_fork
from distill.train.saver import Kept
from distill.train.settings import TrainRun
from distill.train.setup import Data, scale_of
from distill.train.team import ALONE, Team


def begin(config: TrainRun, data: Data, kept: Kept, folder: Path | None, team: Team = ALONE) -> dict[str, Tensor]:
    """Set the progress of a run that begins, or restore that in ``folder``; returns the best weights so far.

    The team's main process reads and measures, and tells the others, which may be on machines without that folder.

    Raises:
        UserError: a checkpoint that is damaged, of other data or of another network.
    """
    # What is told to other processes goes by the host's memory.
    device = data.loader.device if team.world == 1 else torch.device("cpu")
    if folder is not None:
        return _go_on(data, kept, folder, team, device)
    if team.world > 1:  # a student to begin from may be another one in another machine's folder
        mine = {name: tensor.cpu() for name, tensor in kept.net.state_dict().items()}
        kept.net.load_state_dict(team.agree(mine))
    scale = team.agree(scale_of(config, data) if team.main else 0.0)
    kept.progress = Progress(jacobian_scale=scale, train_states=len(data.train_index), data=data.used.to_dict())
    fork = config.train.fork_from
    if fork is not None:
        _take(config, kept, team.agree(read_fork(config, fork, device) if team.main else {}))
    return {}


def _go_on(data: Data, kept: Kept, folder: Path, team: Team, device: torch.device) -> dict[str, Tensor]:
    states, used = len(data.train_index), data.used
    content = team.agree(newest_checkpoint(folder, device) if team.main else {})
    before = Progress(**content["progress"])
    change = used.change_since(DataUsed.told(before.data))
    if before.train_states != states:
        change = change or f"it had {before.train_states:,} training states then and has {states:,} now"
    if change:
        raise UserError(f"the checkpoint in {folder} is of other data: {change}; choose another --train.out")
    if not before.data:
        console.print(f"{folder}: its checkpoint is of an earlier version, which does not say of which data it is")
    kept.restore(content)
    kept.progress = dataclasses.replace(before, data=used.to_dict())
    console.print(f"{folder}: continuing at step {before.step}")
    best = team.agree(best_weights(content, folder, device) if team.main else {})
    return {name: tensor.to(data.loader.device) for name, tensor in best.items()}


def _take(config: TrainRun, kept: Kept, content: dict[str, Any]) -> None:
    """Weights, optimizer and place of another run; which weights are best is judged anew, by this run's settings."""
    decay = [group["weight_decay"] for group in kept.optimizer.param_groups]
    try:
        kept.restore(content)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--train.fork_from={config.train.fork_from} is of another network ({first_line(error)}); choose another"
        ) from error
    for group, own in zip(kept.optimizer.param_groups, decay, strict=True):
        group["weight_decay"] = own
    before = Progress(**content["progress"])
    kept.progress.step, kept.progress.seconds = before.step, before.seconds
    console.print(f"{config.train.fork_from}: beginning at its step {before.step}")
