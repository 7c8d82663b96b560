"""A run's folder: what was asked, with which versions, and whether it may be continued."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import yaml

from distill.config import Config, ObjectiveConfig, fill
from distill.errors import UserError, first_line
from distill.files import is_vacant, write_bytes, write_json
from distill.provenance import command_line, versions

MATTERS = ("env", "teacher", "preset", "tau", "seed", "student", "objective", "train")
FREE = ("resume", "out", "checkpoint_every", "log_every", "verify", "hold_data", "cuda_graph")


def objective_name(objective: ObjectiveConfig) -> str:
    """Short name for folders and tables: ``kl``, ``kl-sobolev0.01`` or ``kl-noise8``."""
    name: str = objective.divergence
    if objective.jacobian_weight > 0:
        name += f"-sobolev{objective.jacobian_weight:g}"
    return f"{name}-noise{objective.input_noise:g}" if objective.input_noise > 0 else name


def open_run(config: Config) -> tuple[Path, bool]:
    """Create the run folder, or accept an existing one that may be resumed.

    Returns:
        (folder, True where there is a checkpoint to resume from).

    Raises:
        UserError: the folder exists and resume is off, or it holds a different run.
    """
    folder = _folder(config, str(int(time.time())))
    if config.train.resume and "{time}" in config.train.out:
        # The newest run of these settings, whenever it was started.
        pattern = _folder(config, "*")
        folder = max(pattern.parent.glob(pattern.name), default=folder)
    asked = yaml.safe_load(yaml.safe_dump(_plain(config)))
    if folder.exists() and not (folder.is_dir() and is_vacant(folder)):
        if not config.train.resume:
            raise UserError(f"{folder} exists; add --train.resume=true to continue it, or choose another --train.out")
        _same(folder, asked)
        if (folder / "checkpoints" / "last.pt").exists():
            return folder, True
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "config.yaml", yaml.safe_dump(asked, sort_keys=False).encode())
    write_bytes(folder / "command.txt", (command_line() + "\n").encode())
    write_json(folder / "versions.json", versions())
    return folder, False


def _folder(config: Config, when: str) -> Path:
    return fill(
        config.train.out,
        env=config.env,
        student=config.student.name,
        objective=objective_name(config.objective),
        seed=config.seed,
        time=when,
    )


def _same(folder: Path, asked: dict[str, Any]) -> None:
    """Refuse to continue a run with settings that would make it a different one."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{folder} exists and is not a run of this toolkit; choose another --train.out")
    try:
        before = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not readable ({first_line(error)}); choose another --train.out") from error
    if not isinstance(before, dict):
        raise UserError(f"{path} does not hold a run's settings; choose another --train.out")
    changed, defaults = [], _plain(Config())
    for section in MATTERS:
        old, new = before.get(section), asked.get(section)
        if isinstance(new, dict) and isinstance(old, dict):
            old = {**defaults[section], **old}  # an older run does not name newer settings
            changed += [f"{section}.{k} was {old.get(k)}, now {new[k]}" for k in new
                        if k not in FREE and old.get(k) != new[k]]  # fmt: skip
        elif old != new:
            changed.append(f"{section} was {old}, now {new}")
    if changed:
        raise UserError(f"{folder} is a different run: {'; '.join(changed)}; choose another --train.out")


def _plain(config: Config) -> dict[str, Any]:
    """Dataclasses to dictionaries and tuples to lists, as YAML knows them."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    result: dict[str, Any] = plain(dataclasses.asdict(config))
    return result
