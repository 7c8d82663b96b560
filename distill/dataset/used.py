"""Which data a student learned from, told from the data at hand."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from distill.dataset.reader import Dataset
from distill.dataset.repeats import repeats
from distill.dataset.split import split_by_episode
from distill.errors import UserError
from distill.records.data import DataUsed
from distill.records.student import Training
from distill.system.mirror import origin
from distill.system.progress import console

Index = npt.NDArray[np.int64]
PIECE = 2**17
"""States that are hashed at once."""


def data_used(dataset: Dataset, train_index: Index, held_index: Index) -> DataUsed:
    """What is used where ``train_index`` of a dataset is trained on and ``held_index`` is held out."""
    sides = (_digest(dataset, train_index), _digest(dataset, held_index))
    return DataUsed(
        origin(dataset.folder) or str(dataset.folder), dataset.manifest.created, len(dataset), dataset.digest, *sides
    )


def held_out(dataset: Dataset, training: Training) -> Index:
    """States of a dataset that a student never trained on: all of another one, and its held-out games of its own.

    Args:
        dataset: any.
        training: how the student was trained.

    Raises:
        UserError: the student's own dataset has changed since, so that they cannot be told.
    """
    used = training.data
    other = used.created != dataset.manifest.created and used.digest != dataset.digest
    if other or not isinstance(used, DataUsed):
        return np.arange(len(dataset))
    train, held = split_by_episode(dataset, training.val_fraction, training.seed)
    now = data_used(dataset, train, held)
    # How many of the training games were used does not matter here.
    change = now.change_since(dataclasses.replace(used, train=now.train))
    if change:
        raise UserError(
            f"{change}, so the games held out from this student cannot be told; name another dataset, or one made anew"
        )
    return held


def tell_repeats(name: str, training: Training, dataset: Dataset, index: Index) -> float:
    """Say how much of what a student is measured on is no test, where the data that it learned from is at hand.

    Args:
        name: the student's.
        training: how it was trained.
        dataset: what it is measured on.
        index: which states of that.

    Returns:
        The share of these states that occur among the training games; 0 where that is not known.
    """
    used = training.data
    folder = Path(used.folder)
    if not isinstance(used, DataUsed) or not (folder / "dataset.json").is_file():
        return 0.0
    with contextlib.suppress(UserError):  # damage there is no fault of this measurement
        own = dataset if dataset.digest == used.digest else Dataset(folder, jacobian=False)
        if own.digest != used.digest:
            return 0.0
        share = repeats(dataset, index, own, split_by_episode(own, training.val_fraction, training.seed)[0])
        if share > 0:
            console.print(
                f"{name}: {share:.1%} of the states scored occur, pixel by pixel, among the training games of {folder}"
            )
        return share
    return 0.0


def _digest(dataset: Dataset, index: Index) -> str:
    digest = hashlib.sha256(f"{dataset.digest}:".encode())
    ordered = index if (index[1:] >= index[:-1]).all() else np.sort(index)
    for start in range(0, len(ordered), PIECE):
        digest.update(ordered[start : start + PIECE].astype("<i8").tobytes())
    return digest.hexdigest()
