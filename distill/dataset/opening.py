"""Opening a dataset as a training holds it."""

from __future__ import annotations

from pathlib import Path

from distill.dataset.reader import Dataset
from distill.dataset.windowed import WindowedDataset


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
