"""Which data a student learned from: kept in its run, checkpoints and papers, to tell whether it is still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from distill.dataset.reader import Dataset
from distill.dataset.split import split_by_episode
from distill.errors import UserError

Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DataUsed:
    """A dataset and both sides of its split."""

    folder: str
    """Where it was."""
    created: str
    """When its first writer made it."""
    states: int
    """All its states."""
    digest: str
    """Of all its contents (``Dataset.digest``)."""
    train: str
    """Digest of which states were trained on."""
    held: str
    """Digest of which states were held out."""

    @staticmethod
    def of(dataset: Dataset, train_index: Index, held_index: Index) -> DataUsed:
        """What is used where ``train_index`` of a dataset is trained on and ``held_index`` is held out."""
        created = str(dataset.manifest["created"])
        sides = (_digest(dataset, train_index), _digest(dataset, held_index))
        return DataUsed(str(dataset.folder), created, len(dataset), dataset.digest, *sides)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, as in student.json."""
        return asdict(self)

    def change_since(self, before: Mapping[str, Any]) -> str:
        """What differs from the data described by ``to_dict`` earlier, as a clause, or an empty string.

        Args:
            before: of this version, or of an earlier one that has no digests.
        """
        same = before.get("digest") == self.digest  # wherever it lies, and whoever recorded it once more
        if before.get("created", self.created) != self.created and not same:
            return f"it was trained on another dataset ({before.get('folder')}, made {before['created']})"
        states = before.get("states", self.states)
        if states != self.states:
            return f"{self.folder} had {states:,} states then and has {self.states:,} now"
        if before.get("digest", self.digest) != self.digest:
            return f"{self.folder} holds other data than then"
        for side, what in (("train", "training"), ("held", "held-out")):
            if before.get(side, getattr(self, side)) != getattr(self, side):
                return f"the {what} states of {self.folder} are others than then"
        return ""


def held_out(dataset: Dataset, papers: Mapping[str, Any]) -> Index:
    """States of a dataset that a student never trained on: all of another one, and its held-out games of its own.

    Args:
        dataset: any.
        papers: content of the student's student.json.

    Raises:
        UserError: the student's own dataset has changed since, so that they cannot be told.
    """
    used = papers["dataset"]
    if used["created"] != dataset.manifest["created"] and used.get("digest") != dataset.digest:
        return np.arange(len(dataset))
    train, held = split_by_episode(dataset, papers["val_fraction"], papers["seed"])
    now = DataUsed.of(dataset, train, held)
    # How many of the training games were used does not matter here.
    change = now.change_since({**used, "train": now.train})
    if change:
        raise UserError(
            f"{change}, so the games held out from this student cannot be told; name another dataset, or one made anew"
        )
    return held


def _digest(dataset: Dataset, index: Index) -> str:
    return hashlib.sha256(f"{dataset.digest}:".encode() + np.sort(index).astype("<i8").tobytes()).hexdigest()
