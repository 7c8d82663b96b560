"""A run's folder: what was asked, with which versions, and whether it may be continued."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from distill.config.config import Config, ObjectiveConfig, fill
from distill.config.parser import read_saved
from distill.dataset.used import DataUsed
from distill.errors import UserError
from distill.records.seal import check_seal, sealed
from distill.system.files import is_vacant, read_json, write_bytes, write_json
from distill.system.provenance import command_line, versions
from distill.train.checkpoint import can_go_on

DATA = "data.json"
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


def open_run(config: Config, used: DataUsed) -> tuple[Path, bool]:
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
        changed = differences(read_settings(folder, "--train.out"), asked, MATTERS, FREE)
        if changed:
            raise UserError(f"{folder} is a different run: {'; '.join(changed)}; choose another --train.out")
        refuse_other_data(folder, used, "--train.out")
        if can_go_on(folder):
            return folder, True
    describe_run(folder, asked)
    write_json(folder / DATA, sealed(used.to_dict()))
    return folder, False


def refuse_other_data(folder: Path, used: DataUsed, flag: str) -> None:
    """A run must not go on, or count as finished, on other data than it began with.

    Args:
        folder: the run, finished or not.
        used: the data at hand.
        flag: the setting to change.
    """
    change = used.change_since(data_of(folder))
    if change:
        raise UserError(f"{folder} is of other data: {change}; choose another {flag}")


def data_of(folder: Path) -> dict[str, Any]:
    """What a run says of its data; runs of earlier versions say less."""
    path, papers = folder / DATA, folder / "student" / "student.json"
    if path.is_file():
        told: dict[str, Any] = read_json(path, "description of a run's data", *(f.name for f in fields(DataUsed)))
        check_seal(path, told, "description of a run's data")
        return told
    return dict(read_json(papers, "student description", "dataset")["dataset"]) if papers.is_file() else {}


def describe_run(folder: Path, settings: dict[str, Any]) -> None:
    """Write down what was asked, how and with which versions; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "config.yaml", yaml.safe_dump(settings, sort_keys=False).encode())
    write_bytes(folder / "command.txt", (command_line() + "\n").encode())
    write_json(folder / "versions.json", versions())


def _folder(config: Config, when: str) -> Path:
    return fill(
        config.train.out,
        env=config.env,
        student=config.student.name,
        objective=objective_name(config.objective),
        seed=config.seed,
        time=when,
    )


def read_settings(folder: Path, flag: str) -> dict[str, Any]:
    """The config.yaml of a run; where there is none, the error asks for another value of ``flag``."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{folder} exists and is not a run of this toolkit; choose another {flag}")
    return _completed(read_saved(path, f"choose another {flag}"))


def _completed(before: dict[str, Any]) -> dict[str, Any]:
    """Settings of an older run, where what it could not name yet has its default."""
    sections = {name: usual for name, usual in plain(Config()).items() if isinstance(usual, dict)}
    return before | {
        name: usual | before[name] for name, usual in sections.items() if isinstance(before.get(name), dict)
    }


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str], free: Container[str]
) -> list[str]:
    """``name was this, now that`` for every setting that changed.

    Args:
        before: settings by section, as in a config.yaml.
        now: the same.
        names: sections and dotted settings to compare.
        free: dotted settings that may differ.
    """
    found = []
    for name in names:
        old, new = _setting(before, name), _setting(now, name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(before, now, [f"{name}.{key}" for key in new], free)
        elif old != new and name not in free:
            found.append(f"{name} was {old}, now {new}")
    return found


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    value: Any = settings
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def plain(config: Config) -> dict[str, Any]:
    """Settings by section as YAML knows them: tuples are lists."""
    result: dict[str, Any] = yaml.safe_load(
        yaml.safe_dump(_without_tuples(dataclasses.asdict(config)), sort_keys=False)
    )
    return result


def _without_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_tuples(item) for key, item in value.items()}
    return [_without_tuples(item) for item in value] if isinstance(value, list | tuple) else value
