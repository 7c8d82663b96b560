"""The cells of a sweep: settings by dotted name, with their types, all checked before the first is trained."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from distill.errors import UserError, nearest
from distill.sweep.grid import Cell
from distill.sweep.settings import SweepRun
from distill.system.parser import make_parser, readable
from distill.system.settings import check_settings, part, with_values
from distill.train.settings import TrainRun

VARIES = ("seed", "teacher", "preset", "tau", "device", "student", "objective", "train")
OWN = ("train.out", "train.resume", "train.verify")
LONGEST = 100


def typed_cells(cells: Sequence[Cell]) -> list[Cell]:
    """The same cells with values of their settings' types: 0 for a float becomes 0.0.

    Raises:
        UserError: no cells, cells with different settings, a setting that cannot vary, or a value of a wrong type.
    """
    if not cells or not cells[0]:
        raise UserError("a sweep needs values to go through; give --sweep.grid, such as '{seed: [1, 2, 3]}'")
    names = list(cells[0])
    if any(cell.keys() != set(names) for cell in cells):
        raise UserError(f"all cells of a sweep must give the same settings; the first gives {', '.join(names)}")
    for name in names:
        _check_name(name)
    read = _Reader()
    return [{name: read(name, cell[name]) for name in names} for cell in cells]


def cell_config(base: SweepRun, cell: Cell, folder: Path) -> TrainRun:
    """The settings of one cell, validated; its run is in ``folder`` and goes on from its last checkpoint."""
    changed = with_values(part(base, TrainRun), {**cell, "train.out": str(folder), "train.verify": False})
    with naming(cell):
        check_settings(changed)
    return changed


@contextlib.contextmanager
def naming(cell: Cell) -> Iterator[None]:
    """Say which cell an error is about."""
    try:
        yield
    except UserError as error:
        settings = ", ".join(f"{name} {value}" for name, value in cell.items())
        raise type(error)(f"the cell with {settings}: {error}") from error


def cell_name(cell: Cell) -> str:
    """Folder of a cell: its settings, such as ``states-1000__seed-1``, with a hash where they do not fit a name.

    It depends on nothing but the settings, in whatever order, so that a grid may grow and be written down
    anew. It can stand in a list on the command line.
    """
    names = sorted(cell, key=lambda name: ("." not in name, name))
    parts, exact = [], True
    for name, short in zip(names, short_names(names), strict=True):
        value = cell[name]
        text = value_text(value)
        clean = re.sub(r"[^A-Za-z0-9.+-]+|__+", "_", text).strip("_")
        exact &= clean == text and value != "none"
        parts.append(f"{short}-{clean}")
    joined = "__".join(parts)
    if exact and len(joined) <= LONGEST:
        return joined
    digest = hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:8]
    return f"{joined[: LONGEST - 10]}__{digest}"


def short_names(names: Sequence[str]) -> list[str]:
    """Last parts of dotted names; the whole name where another ends alike."""
    lasts = [name.rpartition(".")[2] for name in names]
    return [last if lasts.count(last) == 1 else name for name, last in zip(names, lasts, strict=True)]


def value_text(value: Any) -> str:
    """A value as one would write it by hand."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return value if isinstance(value, str) else json.dumps(value)


def _check_name(name: str) -> None:
    fields = {
        key: dataclasses.fields(value) for key, value in vars(SweepRun()).items() if dataclasses.is_dataclass(value)
    }
    known = [key for key in vars(SweepRun()) if key not in fields]
    known += [f"{section}.{field.name}" for section, members in fields.items() for field in members]
    varies = [key for key in known if key.partition(".")[0] in VARIES and key not in OWN]
    if name in varies:
        return
    if name not in known:
        close = nearest(str(name), varies)
        raise UserError(
            f"--sweep.grid has the unknown setting {name!r}{close}; distill train --help has all that it may go through"
        )
    if name == "env":
        why = "a sweep is of one game; make one for each"
    elif name in OWN or name.startswith("sweep."):
        why = "the sweep itself takes care of it"
    else:
        why = "it changes nothing in training"
    raise UserError(f"--sweep.grid cannot vary {name!r}: {why}")


class _Reader:
    """Reads values as the command line does, each of them once."""

    def __init__(self) -> None:
        self._parser = make_parser("distill sweep", "one cell", TrainRun)
        self._read: dict[tuple[str, str], Any] = {}

    def __call__(self, name: str, value: Any) -> Any:
        key = (name, repr(value))
        if key not in self._read:
            self._read[key] = self._typed(name, value)
        return self._read[key]

    def _typed(self, name: str, value: Any) -> Any:
        section, _, field = name.rpartition(".")
        given: Mapping[str, Any] = {section: {field: value}} if section else {field: value}
        try:
            result = self._parser.instantiate(self._parser.parse_object(given))
        except ArgumentError as error:
            raise UserError(f"--sweep.grid: {readable(str(error), [name])}") from error
        typed = getattr(result[section], field) if section else result[field]
        kind = get_type_hints(type(result[section]) if section else TrainRun)[field]
        if typed is None and type(None) not in getattr(kind, "__args__", ()):
            raise UserError(f"--sweep.grid: --{name} must have a value, got null")
        if name == "seed" and typed == -1:
            raise UserError("--sweep.grid: a seed that is drawn (-1) would be another one when the sweep goes on")
        return 0.0 if typed == 0 and isinstance(typed, float) else typed  # -0.0 is no other setting
