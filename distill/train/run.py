"""A run's folder: what was asked, with which versions, and whether it may be continued."""

from __future__ import annotations

import time
from pathlib import Path

from distill.dataset.used import DataUsed
from distill.errors import UserError
from distill.losses.settings import ObjectiveConfig
from distill.records.runs import DATA, describe_run, differences, plain, read_settings, refuse_other_data
from distill.records.seal import sealed
from distill.system.files import is_vacant, write_json
from distill.system.settings import fill
from distill.train.checkpoint import can_go_on
from distill.train.settings import TrainRun

MATTERS = ("env", "teacher", "preset", "tau", "seed", "student", "objective", "train")
"""What makes a run another run, section by section."""
FREE = tuple(
    f"train.{name}" for name in ("resume", "out", "checkpoint_every", "log_every", "verify", "hold_data", "cuda_graph")
)
"""Settings in those sections that may change."""


def objective_name(objective: ObjectiveConfig) -> str:
    """Short name for folders and tables: ``kl``, ``kl-sobolev0.01`` or ``kl-noise8``."""
    name: str = objective.divergence
    if objective.jacobian_weight > 0:
        name += f"-sobolev{objective.jacobian_weight:g}"
    return f"{name}-noise{objective.input_noise:g}" if objective.input_noise > 0 else name


def open_run(config: TrainRun, used: DataUsed) -> tuple[Path, bool]:
    """Create the run folder, or accept an existing one that may be resumed.

    Args:
        config: settings.
        used: the data to train on.

    Returns:
        (folder, True where there is a checkpoint to resume from).

    Raises:
        UserError: the folder exists and resume is off, or it holds a different run or one on other data.
    """
    folder = _folder(config, str(int(time.time())))
    if config.train.resume and "{time}" in config.train.out:
        # The newest run of these settings, whenever it was started.
        pattern = _folder(config, "*")
        folder = max(pattern.parent.glob(pattern.name), default=folder)
    asked = plain(config)
    if folder.exists() and not (folder.is_dir() and is_vacant(folder)):
        if not config.train.resume:
            raise UserError(f"{folder} exists; add --train.resume=true to continue it, or choose another --train.out")
        changed = differences(read_settings(folder, "--train.out", TrainRun), asked, MATTERS, FREE)
        if changed:
            raise UserError(f"{folder} is a different run: {'; '.join(changed)}; choose another --train.out")
        refuse_other_data(folder, used, "--train.out")
        if can_go_on(folder):
            return folder, True
    describe_run(folder, asked)
    write_json(folder / DATA, sealed(used.to_dict()))
    return folder, False


def _folder(config: TrainRun, when: str) -> Path:
    return fill(
        config.train.out,
        env=config.env,
        student=config.student.in_folders,
        objective=objective_name(config.objective),
        seed=config.seed,
        time=when,
    )
