"""Where figures of a run go while it goes on: TensorBoard, or what anyone registers or names by a dotted path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from distill.errors import UserError
from distill.system.registry import Registry
from distill.system.trouble import blaming

Picture = npt.NDArray[np.float32]


class Logger(Protocol):
    """Writes the figures of one run."""

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures by tag (docs/metrics.md) at an optimizer step, after so many states (``imitate``, ``finetune``)."""

    def image(self, step: int, tag: str, pixels: Picture) -> None:
        """A gray picture, float32 (H, W) from 0 to 1."""

    def hparams(self, settings: Mapping[str, Any], step: int, figures: Mapping[str, float | None]) -> None:
        """At the end: what was set, by short name, and the figures by tag of the weights of ``step``, which are kept.

        None is what was not set or does not apply.
        """

    def close(self) -> None:
        """Nothing more will come, after an error too."""


METHODS = ("scalars", "image", "hparams", "close")
MakeLogger = Callable[[Path, int], Logger]
"""Given the run's folder, which is there, and the last step that counts: a killed process may have gone further."""
LOGGERS: Registry[MakeLogger] = Registry("logger", "a callable that makes a Logger of a folder and a step", callable)


def register_logger(name: str, make: MakeLogger) -> MakeLogger:
    """Let ``train.loggers``, ``imitate.loggers`` and ``finetune.loggers`` name ``make``.

    Raises:
        UserError: the name is taken.
    """
    return LOGGERS.register(name, make)


def check_loggers(names: Sequence[str]) -> None:
    """Refuse, with a UserError, a name that no logger has."""
    for name in names:
        LOGGERS.find(name)


class Loggers:
    """Several loggers as one; in context, since they hold files.

    Args:
        names: registered names or dotted paths.
        folder: the run, or None to write nothing: another process does.
        step: the last one that counts.

    Raises:
        UserError: one cannot be made, or has not all the methods of ``Logger``.
    """

    def __init__(self, names: Sequence[str], folder: Path | None, step: int) -> None:
        self._loggers: list[Logger] = []
        try:
            for name in names:
                if folder is not None:
                    self._loggers.append(_made(name, folder, step))
        except BaseException:
            self.close()
            raise

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """See ``Logger``."""
        for logger in self._loggers:
            logger.scalars(step, figures)

    def image(self, step: int, tag: str, pixels: Picture) -> None:
        """See ``Logger``."""
        for logger in self._loggers:
            logger.image(step, tag, pixels)

    def hparams(self, settings: Mapping[str, Any], step: int, figures: Mapping[str, float | None]) -> None:
        """See ``Logger``."""
        for logger in self._loggers:
            logger.hparams(settings, step, figures)

    def close(self) -> None:
        """See ``Logger``."""
        for logger in self._loggers:
            logger.close()

    def __enter__(self) -> Loggers:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _made(name: str, folder: Path, step: int) -> Logger:
    with blaming(f"logger {name!r} cannot be made", "mend it, or leave it out"):
        logger = LOGGERS.find(name)(folder, step)
    missing = [method for method in METHODS if not callable(getattr(logger, method, None))]
    if missing:  # else it would show after the last step
        raise UserError(
            f"logger {name!r} gives a {type(logger).__name__} without {', '.join(missing)}; "
            "give it all methods of distill.api.Logger"
        )
    return logger


def _tensorboard(folder: Path, step: int) -> Logger:
    from distill.records.tensorboard import TensorBoard

    return TensorBoard(folder, step)


register_logger("tensorboard", _tensorboard)
