"""A run's folder: what was asked, with which versions, and on which data."""

from __future__ import annotations

import dataclasses
import glob
import time
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from distill.errors import UserError
from distill.records.data import DATA, DATA_FIELDS, DataUsed, OwnGames
from distill.records.student import read_student
from distill.system.files import is_vacant, write_bytes, write_json
from distill.system.parser import read_saved
from distill.system.provenance import command_line, versions
from distill.system.settings import Section

DESCRIPTION = ("config.yaml", "command.txt", "versions.json")
"""What is written down of a run before it begins."""


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


def data_of(folder: Path) -> DataUsed | OwnGames | None:
    """What a run says of its data, None for nothing; runs of earlier versions say less."""
    path, papers = folder / "data.json", folder / "student" / "student.json"
    if path.is_file():
        return DataUsed.told(DATA.read(path, *DATA_FIELDS))
    return read_student(papers).training(papers).data if papers.is_file() else None


def is_same_run(
    folder: Path, asked: Mapping[str, Any], kind: type[Section], flag: str, free: Container[str], matters: Iterable[str]
) -> bool:
    """Whether ``folder`` has a run of these settings, finished or not; False where there is nothing yet.

    Args:
        folder: of the run.
        asked: settings by section.
        kind: class of the settings, for what an older run could not name yet.
        flag: the setting that names the folder, for errors.
        free: dotted settings that may differ.
        matters: sections and dotted settings that make a run another run.

    Raises:
        UserError: it holds something else, or a run of other settings, which it names.
    """
    if not folder.exists() or (folder.is_dir() and is_vacant(folder)):
        return False
    changed = differences(read_settings(folder, flag, kind), asked, matters, free)
    if changed:
        raise UserError(f"{folder} is a different run: {'; '.join(changed)}; choose another {flag}")
    return True


def run_folder(template: str, name: Callable[[str], Path], *, newest: bool) -> Path:
    """The folder of a run that starts now, or of the newest one like it.

    Args:
        template: the setting that names the folder.
        name: that folder with its ``{time}`` filled in.
        newest: where ``template`` has ``{time}``, look for the newest run, whenever it was started.
    """
    folder = name(str(int(time.time())))
    if newest and "{time}" in template:
        pattern = glob.escape(str(name("{time}"))).replace("{time}", "[0-9]*")
        folder = max(map(Path, glob.glob(pattern)), default=folder)
    return folder


def how_to_go_on(template: str, folder: Path, flag: str, *, newest: bool) -> str:
    """What continues a run that was cut off; with ``{time}`` in its name, another start makes another run.

    Args:
        template: the setting ``flag`` as it was given.
        folder: what became of it.
        flag: the setting that names the folder.
        newest: the newest folder of that name is looked for.
    """
    if "{time}" in template and not newest:
        return f"the same command with {flag}={folder} continues"
    return "the same command continues"


def only_described(folder: Path) -> bool:
    """Whether nothing but a description is there: a run that was refused before it began, and may be corrected."""
    names = {path.name for path in folder.iterdir() if path.suffix != ".lock"} if folder.is_dir() else set()
    return names - {"data.json"} == set(DESCRIPTION)


def describe_run(folder: Path, settings: dict[str, Any]) -> None:
    """Write down what was asked, how and with which versions; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "config.yaml", yaml.safe_dump(settings, sort_keys=False).encode())
    write_bytes(folder / "command.txt", (command_line() + "\n").encode())
    write_json(folder / "versions.json", versions())


def read_settings(folder: Path, flag: str, kind: type[Section]) -> dict[str, Any]:
    """The config.yaml of a run, completed by the defaults of ``kind``; errors ask for another value of ``flag``."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{folder} exists and is not a run of this toolkit; choose another {flag}")
    return completed(read_saved(path, f"choose another {flag}"), kind)


def completed(before: dict[str, Any], kind: type[Section]) -> dict[str, Any]:
    """Settings of an older run, where what it could not name yet has its default."""
    sections = {name: usual for name, usual in plain(kind()).items() if isinstance(usual, dict)}
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
    return [change for name in names for change in _changes(name, _setting(before, name), _setting(now, name), free)]


def _changes(name: str, old: Any, new: Any, free: Container[str]) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        # A section of an older version may have fields that are none any more; a setting that is a mapping may not.
        keys = [*new, *(key for key in old if key not in new and "." in name)]
        return [change for key in keys for change in _changes(f"{name}.{key}", old.get(key), new.get(key), free)]
    if old is None and isinstance(new, dict):
        return [f"it is of another command, without settings of {name}"]
    return [f"{name} was {old}, now {new}"] if old != new and name not in free else []


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    value: Any = settings
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def plain(config: Section) -> dict[str, Any]:
    """Settings by section as YAML knows them: tuples are lists."""
    result: dict[str, Any] = yaml.safe_load(
        yaml.safe_dump(_without_tuples(dataclasses.asdict(config)), sort_keys=False)
    )
    return result


def _without_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_tuples(item) for key, item in value.items()}
    return [_without_tuples(item) for item in value] if isinstance(value, list | tuple) else value
