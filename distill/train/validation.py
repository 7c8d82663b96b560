"""The hook that scores the student on held-out games, and keeps the best weights."""

from __future__ import annotations

import math
from collections.abc import Callable

from distill.errors import DivergedError
from distill.figures.fidelity import Fidelity
from distill.train.checkpoint import Progress
from distill.train.hooks import Hook, Status
from distill.train.logs import Tell
from distill.train.saver import BestSaver


class Validation(Hook):
    """Fidelity on held-out games now and then, and after the last step.

    Args:
        score: the figures now; every process that trains this student calls it.
        every: steps between two.
        last: the last step.
        saver: keeps the best weights.
        tell: is told the figures.
    """

    def __init__(self, score: Callable[[], Fidelity], every: int, last: int, saver: BestSaver, tell: Tell) -> None:
        self._score, self._every, self._last, self._saver, self._tell = score, every, last, saver, tell

    def stepped(self, now: Status) -> None:
        """See ``Hook``.

        Raises:
            DivergedError: a figure is NaN or infinite: the last update of all can blow up without a loss to show it.
        """
        if now.step % self._every and now.step != self._last:
            return
        scores = self._score()
        for name, value in vars(scores).items():
            if value is not None and not math.isfinite(value):
                raise DivergedError(f"training stopped at step {now.step}: val/{name} {value}")
        self._saver.judge(scores)
        self._tell(now, {f"val/{name}": value for name, value in vars(scores).items() if value is not None})


def is_over(now: Status, last: int, patience: int, progress: Progress) -> bool:
    """True after the ``last`` step, or after ``train.patience`` validations without a better val/kl."""
    return now.step >= last or 0 < patience <= progress.bad_validations
