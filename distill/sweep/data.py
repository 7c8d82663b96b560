"""Rows of a sweep stand side by side only where their students learned from, and were tested on, the same data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from distill.dataset.shards import folder_digest
from distill.errors import UserError
from distill.records.runs import data_of
from distill.sweep.grid import Row
from distill.sweep.settings import SweepRun
from distill.system.progress import console
from distill.system.settings import fill


def refuse_other_data(config: SweepRun, folder: Path, rows: Sequence[Row]) -> None:
    """Compare the data behind the rows with what lies on disk now.

    Args:
        config: settings that all cells share.
        folder: the sweep's.
        rows: all that are written; rows of earlier versions tell their data by their runs' papers, if at all.

    Raises:
        UserError: a dataset has changed since a row was written.
    """
    digest = functools.cache(lambda name: _digest_now(config, name))
    untold = 0
    for row in rows:
        trained = row.get("train.data") or config.train.data
        untold += not _same(folder, row, "train", trained, row.get("data") or _data_of(folder, row), digest)
        if config.sweep.data is not None:
            untold += not _same(folder, row, "test", config.sweep.data, row.get("test_data"), digest)
    if untold:
        console.print(f"{folder}: rows of an earlier version do not tell their data; they are taken to be of this one")


def _same(folder: Path, row: Row, what: str, name: str, told: str | None, digest: Callable[[str], str | None]) -> bool:
    """False where a row does not tell its data."""
    now = digest(name)
    if told and now is not None and not now.startswith(told):
        raise UserError(
            f"{name} has changed since {folder / 'rows.csv'} got its row of {row.get('run')}, so rows would be of "
            f"different {what} data; choose another --sweep.out, or bring the data back"
        )
    return bool(told) or now is None


def _digest_now(config: SweepRun, name: str) -> str | None:
    """Digest of a dataset, or None where it is not there any more."""
    folder = fill(name, env=config.env)
    return folder_digest(folder) if (folder / "dataset.json").exists() else None


def _data_of(folder: Path, row: Row) -> str | None:
    """What the papers of a row's student say."""
    used = data_of(folder / row["run"]) if row.get("run") else None
    return used.digest if used is not None else None
