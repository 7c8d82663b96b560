"""Lessons of several datasets as one: a batch of each in turn, as often as its weight says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distill.batches.loader import Batch
from distill.losses.sobolev import Losses
from distill.train.lesson import Lesson

CYCLE = 1000
"""Steps after which the turns repeat; weights are rounded to so many parts."""


@dataclass
class OfLesson(Batch):
    """A batch of one of the datasets."""

    lesson: int
    """Which."""


def turns(weights: Sequence[float]) -> list[int]:
    """Whose turn it is at each step of a cycle.

    At every step it is the turn of who is furthest behind its share, the first of several; so datasets of equal weight
    simply alternate, and the cycle of whole shares is short.
    """
    share = np.array(weights, float) / sum(weights)
    done, order = np.zeros(len(share)), []
    for step in range(1, CYCLE + 1):
        chosen = int(np.argmax(np.round(step * share - done, 9)))
        done[chosen] += 1
        order.append(chosen)
        if np.allclose(done, step * share, atol=1e-9):
            break
    return order


def steps_of_each(weights: Sequence[float], total: int) -> list[int]:
    """How many of the first ``total`` steps each gets."""
    order = turns(weights)
    whole, rest = divmod(total, len(order))
    return [whole * order.count(number) + order[:rest].count(number) for number in range(len(weights))]


class InTurn:
    """A stream and an objective (``fit.Minimised``) made of those of several lessons.

    Every dataset's schedules go by its own steps: lambda of each falls over its own share of the training.

    Args:
        lessons: one for each dataset.
        weights: how much of the steps each gets.
    """

    def __init__(self, lessons: Sequence[Lesson], weights: Sequence[float]) -> None:
        self.lessons = lessons
        self._order = turns(weights)
        self._before = np.concatenate([np.zeros((1, len(lessons)), int), np.eye(len(lessons), dtype=int)[self._order]])
        self._before = self._before.cumsum(0)

    def of(self, step: int) -> int:
        """Whose turn it is."""
        return self._order[step % len(self._order)]

    def taken(self, step: int, lesson: int) -> int:
        """How many of the first ``step`` steps are of this lesson."""
        whole, rest = divmod(step, len(self._order))
        return int(whole * self._before[-1, lesson] + self._before[rest, lesson])

    def batches(self, first: int, last: int) -> Iterator[OfLesson]:
        """Batches ``first`` .. ``last - 1`` of ``last``."""
        each = [
            lesson.batches(*(self.taken(step, number) for step in (first, last, last)))
            for number, lesson in enumerate(self.lessons)
        ]
        for step in range(first, last):
            yield OfLesson(**vars(next(each[self.of(step)])), lesson=self.of(step))

    def weights(self, step: int, total: int) -> Mapping[str, float]:
        """Weights of the terms of whose turn it is."""
        number = self.of(step)
        return self.lessons[number].weights(self.taken(step, number), self.taken(total, number))

    def learning_rate(self, step: int, total: int) -> float:
        """That of whose turn it is, at this step of all: one that depends on lambda is each dataset's own."""
        return self.lessons[self.of(step)].learning_rate(step, total)

    def gradient(self, batch: OfLesson, weights: Mapping[str, float]) -> Losses:
        """Losses of a batch; adds their gradient to ``.grad`` of trunk and head."""
        return self.lessons[batch.lesson].gradient(batch, weights)
