"""Progress bars and tables, in one look for every stage; they fit 80 columns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, quiet=os.environ.get("RANK", "0") != "0")
"""Prints text as it is: folders and agents may be called ``[x]``. Of several processes that ``torchrun`` started, the
first one speaks."""


class Bar:
    """A progress bar with a note behind it; in a log file, a line every tenth of the way.

    Args:
        description: what is going on.
        unit: what is counted.
        total: how many there are.
        completed: how many an earlier run has done.
    """

    def __init__(self, description: str, unit: str, total: int, completed: int = 0) -> None:
        self._description, self._unit, self._total, self._printed = description, unit, total, completed
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=14),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + unit),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(description, total=total, completed=completed, note="")

    def update(self, completed: int, note: str) -> None:
        """Show how far it is, and one figure."""
        self._bar.update(self._task, completed=completed, note=note)
        due = completed - self._printed >= self._total / 10 or completed >= self._total > self._printed
        if not console.is_terminal and due:
            self._printed = completed
            console.print(f"{self._description}  {completed:,}/{self._total:,} {self._unit}  {note}")

    def stop(self) -> None:
        """Leave the bar as it is, so that what is printed next comes below it."""
        self._bar.stop()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under a header, which is left out where every name is empty."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_header=any(header),
        pad_edge=False,
        collapse_padding=True,
    )
    for index, name in enumerate(header):
        left = index == 0 or not any(header)
        longest = max(len(text) for text in [*name.split(), *(row[index] for row in rows), ""])
        # Figures stay in one piece; where there is no room, longer words fold.
        table.add_column(name, justify="left" if left else "right", overflow="fold", min_width=min(8, longest))
    for row in rows:
        table.add_row(*row)
    console.print(table)
