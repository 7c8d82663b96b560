"""A grid of experiments, one row of results per finished cell: kill it, run it again, and it goes on."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.errors import UserError, first_line
from distill.system.files import write_bytes
from distill.system.ranges import is_number

Cell = dict[str, Any]
Row = dict[str, str]
Form = Callable[[str], bool]
LARGEST = 10_000
"""Cells of a grid; at a minute each that is a week."""


def product(axes: Mapping[str, Sequence[Any]]) -> list[Cell]:
    """Every combination of the axes' values; the last axis changes fastest.

    Raises:
        UserError: an axis has no values, or there are more than ``LARGEST`` combinations.
    """
    for name, values in axes.items():
        if not values:
            raise UserError(f"a sweep needs values to go through, but {name!r} has none; give some or leave it out")
    count = math.prod(len(values) for values in axes.values())
    if count > LARGEST:
        sizes = " x ".join(f"{len(values)} of {name}" for name, values in axes.items())
        raise UserError(f"the grid has {count:,} cells ({sizes}), and at most {LARGEST:,} can be run; leave values out")
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def run_grid(
    cells: Iterable[Cell],
    run: Callable[[Cell], Mapping[str, Any] | None],
    path: Path,
    *,
    say: Callable[[str], object] = lambda text: None,
) -> list[Row]:
    """Run every cell that has no row yet, one after the other.

    Args:
        cells: settings by name, the same names in all; values that print differently are different cells.
        run: does the work of one cell and returns its results by name, or None where it came to none: such a
            cell has no row, and is run again next time.
        path: CSV file of rows, settings first; a row is written, durably, when its cell is done.
        say: told about every cell before it starts.

    Returns:
        The rows of these cells, in their order, as text; of those that have one.

    Raises:
        UserError: the file holds rows of other settings, or two cells are the same.
    """
    cells = list(cells)
    if not cells:
        return []
    names = list(cells[0])
    keys = _keys(cells, names, path)
    rows = _rows_of(names, path)
    done = {_key(row, names): row for row in rows}
    for number, (cell, key) in enumerate(zip(cells, keys, strict=True), 1):
        if key in done:
            continue
        say(f"cell {number} of {len(cells)}: " + ", ".join(f"{name} {cell[name]}" for name in names))
        result = run(cell)
        if result is None:
            continue
        done[key] = {name: _text(value) for name, value in {**cell, **result}.items()}
        rows.append(done[key])
        write_rows(path, rows)
    return [done[key] for key in keys if key in done]


def unfinished(cells: Sequence[Cell], path: Path) -> list[Cell]:
    """The cells that ``run_grid`` would run, in their order; it raises what that would."""
    names = list(cells[0]) if cells else []
    done = {_key(row, names) for row in _rows_of(names, path)}
    return [cell for cell, key in zip(cells, _keys(cells, names, path), strict=True) if key not in done]


def finished(cells: Sequence[Cell], path: Path) -> list[Row]:
    """The rows of those of these cells that have one, in their order; it raises what ``run_grid`` would."""
    names = list(cells[0]) if cells else []
    done = {_key(row, names): row for row in _rows_of(names, path)}
    return [done[key] for key in _keys(cells, names, path) if key in done]


def read_rows(path: Path) -> list[Row]:
    """The rows of finished cells, as text; none where there is no file.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable table ({first_line(error)}); restore it from a copy") from error
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise UserError(f"{path} is damaged: row {number} has not as many values as there are columns; remove it")
    return rows


def check_rows(rows: Sequence[Row], path: Path, forms: Mapping[str, Form]) -> None:
    """Compare rows with the columns that are read of them.

    Args:
        rows: as text.
        path: where they were read from.
        forms: tests of the columns' texts, of which a missing one is empty: ``filled``, ``a_number``, ...

    Raises:
        UserError: naming the first text that does not fit.
    """
    for number, row in enumerate(rows, 1):
        for name, fits in forms.items():
            text = row.get(name) or ""
            if not fits(text):
                wrong = f"row {number} has {text[:40]!r} as its {name}" if text else f"row {number} says no {name}"
                raise UserError(f"{path} is damaged: {wrong}; remove it")


def filled(text: str) -> bool:
    """Any text."""
    return text != ""


def a_number(text: str) -> bool:
    """A finite number."""
    try:
        return is_number(float(text))
    except ValueError:
        return False


def above_zero_or_nothing(text: str) -> bool:
    """A finite number above 0, or nothing: what could not be measured."""
    return text == "" or (a_number(text) and float(text) > 0)


def a_count(text: str) -> bool:
    """A whole number above 0."""
    return text.isascii() and text.isdigit() and a_number(text) and int(text) > 0


def number_or_nothing(text: str) -> bool:
    """A finite number, NaN, which a figure may be, or nothing: what was not measured."""
    return text in ("", "nan") or a_number(text)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Replace the file of rows, durably; a column that a row lacks is empty there."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, buffer.getvalue().encode())


def _rows_of(names: Sequence[str], path: Path) -> list[Row]:
    rows = read_rows(path)
    if not all(set(names) <= row.keys() for row in rows):
        raise UserError(f"{path} holds rows of other settings than {', '.join(names)}; choose another file")
    return rows


def _keys(cells: Sequence[Cell], names: Sequence[str], path: Path) -> list[tuple[str, ...]]:
    keys = [_key(cell, names) for cell in cells]
    seen: set[tuple[str, ...]] = set()
    for key in keys:
        if key in seen:
            settings = ", ".join(f"{name} {value}" for name, value in zip(names, key, strict=True))
            raise UserError(f"two cells for {path} have the same settings ({settings}); leave one out")
        seen.add(key)
    return keys


def _key(cell: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(_text(cell[name]) for name in names)


def _text(value: Any) -> str:
    """Numbers so that they can be read back exactly; nothing for None."""
    return "" if value is None else str(value)
