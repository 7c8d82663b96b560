"""The curve of a run: a point now and then, and what shows it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from distill.errors import UserError
from distill.imitate.player import Played
from distill.imitate.progress import Progress
from distill.losses.divergence import action_error, kl
from distill.losses.sobolev import Losses
from distill.system.files import write_bytes
from distill.system.progress import Bar
from distill.train.hooks import Hook, Status


@dataclass(frozen=True)
class Point:
    """What a run is like after so many states; means are over the states and steps since the point before."""

    states: int
    """States played so far."""
    step: int
    """Optimizer steps so far."""
    seconds: float
    """Time so far, earlier runs in the same folder included."""
    score: float | None
    """Mean score of the last games, at most 20, that the student played alone; None before the first."""
    games: int
    """Games that it finished so far."""
    kl: float
    """KL(teacher || student) in nats on the newest states, before anything was learned from them."""
    action_error: float
    """Share of those states whose most likely actions differ."""
    loss: float | None
    """The objective on the batches; None where nothing was learned yet."""
    grad_norm: float | None
    """Global gradient norm before clipping."""
    learning_rate: float
    """Adam's."""
    teacher_share: float
    """Share of the games that the teacher plays."""
    fps: float
    """States played per second."""

    def tags(self) -> dict[str, float]:
        """What there is of it, by TensorBoard tag."""
        found = {tag: getattr(self, name) for name, tag in TAGS.items()}
        return {tag: value for tag, value in found.items() if value is not None}


TAGS = {
    **{name: f"play/{name}" for name in ("score", "kl", "action_error", "teacher_share", "fps")},
    **{name: f"train/{name}" for name in ("loss", "grad_norm", "learning_rate")},
}


class Curve:
    """Writes ``curve.csv``; points after ``states`` of an earlier, killed process are dropped.

    Args:
        folder: the run.
        states: the last one that counts.
    """

    def __init__(self, folder: Path, states: int) -> None:
        self._path = folder / "curve.csv"
        self._rows = [row for row in read_curve(self._path) if int(row["states"]) <= states] if states else []

    def add(self, point: Point) -> None:
        """Add a row; the file is whole at any moment."""
        self._rows.append({name: "" if value is None else str(value) for name, value in vars(point).items()})
        text = io.StringIO()
        table = csv.DictWriter(text, [column.name for column in fields(Point)], lineterminator="\n")
        table.writeheader()
        table.writerows(self._rows)
        write_bytes(self._path, text.getvalue().encode())


class CurveBar(Bar, Hook):
    """A progress bar over the budget."""

    def __init__(self, title: str, states: int | None, minutes: float | None, progress: Progress) -> None:
        self._by_time = states is None
        total = round(60 * (minutes or 0)) if states is None else states
        super().__init__(title, "s" if self._by_time else "states", total, self._done(progress))

    def measured(self, now: Status, figures: Mapping[str, float]) -> None:
        """See ``Hook``."""
        score = f"score {figures['play/score']:.1f}" if "play/score" in figures else "no game finished yet"
        self.update(self._done(now), f"{score}, KL {figures['play/kl']:.4f}, {figures['play/fps']:,.0f}/s")

    def _done(self, at: Status | Progress) -> int:
        return int(at.seconds) if self._by_time else at.states


def read_curve(path: Path) -> list[dict[str, Any]]:
    """The rows of a curve.csv, as text by name; none where it is not there.

    Raises:
        UserError: it is something else.
    """
    if not path.is_file():
        return []
    names = [column.name for column in fields(Point)]
    foreign = UserError(f"{path} is not a curve of this toolkit; remove it, or choose another --imitate.out")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            rows, found = list(table), table.fieldnames
    except (UnicodeDecodeError, csv.Error) as error:
        raise foreign from error
    # A row with too many fields has them under None, and one with too few has None in them.
    whole = all(list(row) == names and None not in row.values() and row["states"].isdecimal() for row in rows)
    if found != names or not whole:
        raise foreign
    return rows


@dataclass(frozen=True)
class Rates:
    """What follows from the share of the budget that is used up."""

    learning_rate: float = 0.0
    teacher_share: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of the objective's terms, by name."""


class Tally:
    """Adds up what happens between two points.

    Args:
        progress: where the run stands; changed by the loop.
        temperature: the teacher's logits are divided by it.
        every: states between two points.
        curve: gets every point.
        hooks: are told of every turn, and of every point by its tags.
    """

    def __init__(self, progress: Progress, temperature: float, every: float, curve: Curve, hooks: Hook) -> None:
        self._progress, self._temperature, self._every = progress, temperature, every
        self._curve, self._hooks = curve, hooks
        self._now = Status(progress.step, None, progress.states, progress.seconds)
        self._begin()

    def start(self) -> None:
        """Before the first turn."""
        self._hooks.started(self._now)

    def add(self, played: Played, learned: Sequence[tuple[Losses, Tensor]], rates: Rates) -> None:
        """One turn; a point, if it is time for one."""
        student, teacher = played.logits()
        teacher = teacher / self._temperature
        self._kl += float(kl(student, teacher).sum())
        self._errors += float(action_error(student, teacher).sum())
        self._step(learned, rates)
        if self._progress.states - self._states >= self._every:
            self.point()
        self._hooks.stepped(self._now)

    def learn(self, losses: Losses, norm: Tensor, rates: Rates) -> None:
        """An optimizer step between two turns, where a form learns when nothing is played."""
        self._step([(losses, norm)], rates)
        self._hooks.stepped(self._now)

    def _step(self, learned: Sequence[tuple[Losses, Tensor]], rates: Rates) -> None:
        self._learned += [(float(losses.total), float(norm)) for losses, norm in learned]
        self._matched += [float(losses.jacobian) for losses, _ in learned if losses.jacobian is not None]
        self._rates = rates
        p, (losses, norm) = self._progress, learned[-1] if learned else (None, None)
        rate, weights = rates.learning_rate, rates.weights if learned else {}
        self._now = Status(p.step, None, p.states, p.seconds, losses, norm, rate, weights)

    def end(self) -> None:
        """After the last turn: a point of what was added since the last one."""
        self.point()
        self._hooks.ended(self._now)

    def point(self) -> None:
        """A point of what was added since the last one, if anything was."""
        p, states = self._progress, self._progress.states - self._states
        if not states:
            return
        loss, norm = (
            (float(np.mean(part)) for part in zip(*self._learned, strict=True)) if self._learned else (None, None)
        )
        point = Point(
            p.states, p.step, p.seconds, float(np.mean(p.scores)) if p.scores else None, p.games,
            self._kl / states, self._errors / states, loss, norm,
            self._rates.learning_rate, self._rates.teacher_share,
            states / (p.seconds - self._seconds),
        )  # fmt: skip
        self._curve.add(point)
        matched = {"train/jacobian_loss": float(np.mean(self._matched))} if self._matched else {}
        self._hooks.measured(self._now, point.tags() | matched)
        self._begin()

    def _begin(self) -> None:
        self._states, self._seconds = self._progress.states, self._progress.seconds
        self._kl, self._errors, self._rates = 0.0, 0.0, Rates()
        self._learned: list[tuple[float, float]] = []
        self._matched: list[float] = []
