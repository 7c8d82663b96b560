"""stable-baselines3's figures in TensorBoard, where a run that was killed goes on without showing a step twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter

from distill.records.tensorboard import TensorBoard


class Curve(KVWriter):
    """What PPO tells of each update.

    Args:
        folder: the run's.
        step: agent steps of the checkpoint that it starts from; later points of an earlier process are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._board = TensorBoard(folder, step)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """See ``KVWriter``; texts and pictures are left out, PPO tells none."""
        numbers = {
            key: float(value)
            for key, value in key_values.items()
            if isinstance(value, int | float | np.number) and "tensorboard" not in (key_excluded[key] or ())
        }
        self._board.scalars(step, numbers)

    def close(self) -> None:
        """See ``KVWriter``."""
        self._board.close()
