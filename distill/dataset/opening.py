"""Opening a dataset as a training holds it, and moving one to and from a store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from distill.dataset.reader import Dataset
from distill.dataset.remote import fetch_shards, push_dataset
from distill.dataset.windowed import WindowedDataset
from distill.errors import UserError
from distill.system.files import at_home, is_vacant, replace_folder, write_bytes


def open_dataset(
    folder: str | Path, *, hold_data: str = "auto", window_shards: int = 0, verify: bool = False
) -> Dataset:
    """A dataset, all of it in memory, mapped, or in windows.

    Args:
        folder: dataset folder.
        hold_data: ``disk`` maps it; see ``TrainConfig``.
        window_shards: shards that are shuffled at a time; with ``auto`` one more is held. 0: all.
        verify: check its checksums first.

    Raises:
        UserError: no dataset, a lost shard, or damage.
    """
    if window_shards and hold_data == "auto":
        return WindowedDataset(folder, window_shards + 1, verify=verify)
    return Dataset(folder, verify=verify, mapped=hold_data == "disk")


def push_indexed(folder: Path, url: str) -> int:
    """Send a dataset to a store, with the index that readers open it by; returns how many shards it has.

    Raises:
        UserError: damage, another dataset there, or the store cannot be used.
    """
    WindowedDataset(folder, 1, verify=True).distinct_games  # noqa: B018 - makes both copies, or checks them
    return push_dataset(folder, url)


def pull(url: str, folder: Path) -> None:
    """Copy what is at a store's address to a new folder, a dataset with all its shards.

    Raises:
        UserError: nothing is there, the folder has something, or the store cannot be used.
    """
    copy = at_home(url)
    if not copy.exists():
        raise UserError(f"there is nothing at {url}; see its spelling, and what your credentials may list")
    if not folder.name:
        raise UserError(f"{folder} is where you are; name a folder to be made")
    if folder.exists() and not (folder.is_dir() and is_vacant(folder)):
        raise UserError(f"{folder} has something in it; choose a new folder")
    if (copy / "dataset.json").is_file():
        fetch_shards(copy)
    if copy.is_file():
        card, place = copy.with_suffix(".md"), folder.with_suffix(".md")  # a teacher's
        if card.is_file() and card != copy:
            if os.path.lexists(place):
                raise UserError(f"{place} is in the way of the card of {url}; choose another name")
            write_bytes(place, card.read_bytes())
        write_bytes(folder, copy.read_bytes())
    else:
        replace_folder(folder, lambda new: _copy(copy, new))


def _copy(folder: Path, new: Path) -> None:
    shutil.copytree(folder, new)
