"""What an idea may change about a training; each one is a subclass in a file of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from distill.api import Batch, Hook, Lesson, StudentConfig
from distill.networks.nets import AtariCNN
from distill.sweep.grid import Cell
from distill.train.fit import Minimised
from studies.atari.plan import afforded
from teachers.protocol import Teacher

MEASURED = 64
"""Batches that are looked at before a training."""


class Idea:
    """By itself it changes nothing: the method as it is."""

    student = StudentConfig("mnih2013")
    """Who learns."""
    settings: ClassVar[Cell] = {}
    """What is set differently."""

    def steps(self, cell: Cell, cost: float) -> int:
        """Steps that it can afford."""
        return afforded(cell, cost)

    def prepare(self, net: AtariCNN, teacher: Teacher) -> None:
        """Change the fresh student."""

    def stream(self, batches: Iterator[Batch], seed: int) -> Iterator[Batch]:
        """Batches as they are learned from."""
        return batches

    def minimised(self, of: Lesson, teacher: Teacher) -> Minimised[Batch]:
        """What is minimised."""
        return of

    def hooks(self, net: AtariCNN) -> Sequence[Hook]:
        """What else happens at every step."""
        return []


class OfLesson:
    """A lesson with another gradient, its terms weighed as before."""

    def __init__(self, of: Lesson) -> None:
        self._of = of

    def weights(self, step: int, total: int) -> Mapping[str, float]:
        """As the lesson's."""
        return self._of.weights(step, total)


def first_batches(of: Lesson) -> Iterator[Batch]:
    """The training's first batches, of which figures are taken that its loss is divided by."""
    return of.batches(0, MEASURED, of.config.train.steps)
