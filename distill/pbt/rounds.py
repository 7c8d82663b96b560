"""A round of a member: a run of its own, which begins where its parent stands and ends a few hundred steps later."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.figures.fidelity import measure
from distill.networks.build import build_student
from distill.pbt.settings import changed
from distill.records.record import Kind
from distill.records.shape import count, number, text
from distill.train.checkpoint import newest_checkpoint
from distill.train.hooks import Hook, Status
from distill.train.loop import train
from distill.train.settings import TrainRun
from distill.train.setup import open_dataset, training_split

SCORE, ROUND = "score.json", "round.json"
"""In a round's folder: how good it was at its end, and all that there is to tell of it."""
OF_SCORE = Kind("score of a round", {"step": count, "val_kl": number})
OF_ROUND = Kind(
    "record of a round",
    {**dict.fromkeys(("run", "parent"), text), **dict.fromkeys(("number", "step"), count),
     "settings": {"*": number}, "val_kl": number},
)  # fmt: skip
Settings = Mapping[str, float]


@dataclass(frozen=True)
class Round:
    """What one round came to."""

    run: str
    """Name of its folder."""
    parent: str
    """That of the round before it, empty for the first."""
    number: int
    """1 for the first."""
    step: int
    """Steps in all at its end."""
    settings: Settings
    """What it trained with, of what changes."""
    val_kl: float
    """KL on held-out games after its last step."""


class Score(Hook):
    """Writes down val/kl at a run's last step.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[str, float] = {}

    def measured(self, now: Status, figures: Mapping[str, float]) -> None:
        """See ``Hook``."""
        if "val/kl" in figures:
            self._last = {"step": now.step, "val_kl": figures["val/kl"]}

    def ended(self, now: Status) -> None:
        """See ``Hook``."""
        if self._last.get("step") == now.step:
            OF_SCORE.write(self._path, self._last)


@dataclass(frozen=True)
class Job:
    """What all members have in common. It can be pickled."""

    config: TrainRun
    """Settings, but for what changes."""
    folder: Path
    """Of the population."""
    ends: tuple[int, ...]
    """The step that each round ends after."""
    where: str
    """Working folder of whoever asked; paths are relative to it."""
    ends_vary: bool = False
    """Whether a round's end is part of its name: of a schedule, which may be edited."""

    def open(self, verify: bool = False) -> Dataset:
        """The dataset that all train on."""
        return open_dataset(self.config, verify)

    def play(self, settings: Settings, parent: str, number: int, opened: Callable[[], Dataset]) -> Round:
        """Train a round, or find it done: its folder is named after all that it depends on.

        Args:
            settings: what it trains with, of what changes.
            parent: name of the round before it; empty for the first.
            number: 1 for the first.
            opened: the dataset, which is not asked for where the round is done.

        Raises:
            UserError: as ``train``.
        """
        step = self.ends[number - 1]
        content: list[Any] = [parent, {name: settings[name] for name in sorted(settings)}]
        content += [step] if self.ends_vary else []
        run = f"round-{number:03d}__{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]}"
        folder = self.folder / run
        if (folder / ROUND).is_file():
            return _read(folder / ROUND)
        own = {
            "train.out": str(folder),
            "train.fork_from": str(self.folder / parent) if parent else None,
            "train.last_step": step,
            "train.verify": False,
        }
        config = changed(self.config, {**settings, **own})
        if parent:
            config = changed(config, {"student.init": None})
        dataset = opened()
        train(config, hooks=[Score(folder / SCORE)], dataset=dataset)
        found = Round(run, parent, number, step, dict(settings), self._kl(folder, config, dataset))
        OF_ROUND.write(folder / ROUND, asdict(found))
        return found

    def rounds(self) -> list[Round]:
        """All rounds that were trained whole, the first first and the best of them first.

        Raises:
            UserError: a damaged record, or one whose parent is not there.
        """
        found = [_read(path) for path in self.folder.glob(f"round-*/{ROUND}")]
        known = {"", *(one.run for one in found)}
        for one in found:
            if one.parent not in known:
                raise UserError(
                    f"{self.folder / one.run} goes on from {one.parent}, which is not there; bring that back, or "
                    "choose another --pbt.out"
                )
        return sorted(found, key=lambda one: (one.number, one.val_kl, one.run))

    def _kl(self, folder: Path, config: TrainRun, dataset: Dataset) -> float:
        """KL after the last step, at the temperature that all are compared at."""
        temperature = self.config.objective.temperature
        if config.objective.temperature == temperature and (folder / SCORE).is_file():
            return float(OF_SCORE.read(folder / SCORE)["val_kl"])
        net = build_student(config.student, dataset.logits.shape[1])
        net.load_state_dict(newest_checkpoint(folder, torch.device("cpu"))["model"])
        index = training_split(config, dataset)[1]
        return float(measure(net, dataset, index, temperature=temperature).kl)


def _read(path: Path) -> Round:
    told = OF_ROUND.read(path)
    if told["run"] != path.parent.name:
        raise UserError(f"{path} is of {told['run']}, not of the folder that it lies in; give that its name back")
    return Round(**{field.name: told[field.name] for field in dataclasses.fields(Round)})
