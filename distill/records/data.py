"""Which data a student learned from: kept in its run, checkpoints and papers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from distill.records.record import Kind
from distill.records.shape import Form, count, text

USED: dict[str, Form] = {
    "folder": text,
    "created": text,
    "states": count,
    "digest?": text,
    "train?": text,
    "held?": text,
}
DATA_FIELDS = tuple(name.rstrip("?") for name in USED)
DATA = Kind("description of a run's data", dict(zip(DATA_FIELDS, USED.values(), strict=True)))
"""A run's data.json."""


@dataclass(frozen=True)
class DataUsed:
    """A dataset and both sides of its split. Runs of earlier versions tell no digests."""

    folder: str
    """Where it was."""
    created: str
    """When its first writer made it."""
    states: int
    """All its states."""
    digest: str | None = None
    """Of all its contents (``Dataset.digest``)."""
    train: str | None = None
    """Digest of which states were trained on."""
    held: str | None = None
    """Digest of which states were held out."""

    @staticmethod
    def told(content: Mapping[str, Any]) -> DataUsed | None:
        """From ``to_dict``, as it stands in papers and checkpoints; None where nothing does."""
        if not content:
            return None
        digests = (content.get(name) for name in ("digest", "train", "held"))
        return DataUsed(str(content["folder"]), str(content["created"]), int(content["states"]), *digests)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, as in student.json."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def change_since(self, before: DataUsed | OwnGames | None) -> str:
        """What differs from the data used earlier, as a clause, or an empty string.

        Args:
            before: None where that is not known.
        """
        if before is None:
            return ""
        same = before.digest == self.digest  # wherever it lies, and whoever recorded it once more
        if before.created != self.created and not same:
            return f"it was trained on another dataset ({before.folder}, made {before.created})"
        if before.states != self.states:
            return f"{self.folder} had {before.states:,} states then and has {self.states:,} now"
        if before.digest not in (None, self.digest):
            return f"{self.folder} holds other data than then"
        for side, what in (("train", "training"), ("held", "held-out")):
            if getattr(before, side) not in (None, getattr(self, side)):
                return f"the {what} states of {self.folder} are others than then"
        return ""


@dataclass(frozen=True)
class OwnGames:
    """What a student of `distill imitate` or `finetune` learned from: no dataset was made, so none is taken for it."""

    states: int
    """Played in all."""
    games: int
    """Begun in all."""

    folder: ClassVar[str] = "its own games"
    """Stands where others name their dataset's folder."""
    created: ClassVar[str] = "online"
    digest: ClassVar[None] = None
    train: ClassVar[None] = None
    held: ClassVar[None] = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, as in student.json."""
        return {"online": True, "folder": self.folder, "created": self.created, **asdict(self)}


def data_told(content: Mapping[str, Any]) -> DataUsed | OwnGames:
    """From the ``dataset`` of a student.json."""
    if content.get("online"):
        return OwnGames(int(content["states"]), int(content.get("games", 0)))
    used = DataUsed.told(content)
    assert used is not None
    return used


def write_data(folder: Path, used: DataUsed) -> None:
    """Write a run's data.json."""
    DATA.write(folder / "data.json", used.to_dict())
