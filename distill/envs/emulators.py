"""ALE's vector environments, several as one, so that nobody waits for all games before the first frame is prepared."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Info = dict[str, npt.NDArray[np.int64]]
Prepare = Callable[[int, UInt8Array], None]
"""Called with the first of some lanes and their new frames, uint8 (n, 1, H, W[, 3])."""
GROUPS, SMALLEST = 8, 2
"""Environments side by side, and lanes of each: more of them wait less and cost more calls (docs/performance.md)."""


class Emulators:
    """What ``AtariVectorEnv`` is to its caller, but frames go through ``prepare`` while other lanes still play.

    Args:
        game: canonical game name.
        num_envs: lanes.
        prepare: takes new frames; it is called in the caller's thread, within ``reset`` and ``recv``.
        num_threads: threads of all emulators; 0 lets ALE choose.
        settings: of ``AtariVectorEnv``.
    """

    def __init__(self, game: str, num_envs: int, prepare: Prepare, *, num_threads: int = 0, **settings: Any) -> None:
        from ale_py.vector_env import AtariVectorEnv

        count = max(1, min(GROUPS, num_envs // SMALLEST, num_threads or GROUPS))
        bounds = [num_envs * index // count for index in range(count + 1)]
        self._rows = [slice(first, last) for first, last in itertools.pairwise(bounds)]
        self._groups: list[Any] = [
            AtariVectorEnv(game, rows.stop - rows.start, num_threads=num_threads // count, **settings)
            for rows in self._rows
        ]
        self._prepare, self._num_envs = prepare, num_envs
        self._frames: list[UInt8Array] = [np.empty(0, np.uint8)] * num_envs
        self._info: Info = {name: np.zeros(num_envs, np.int64) for name in ("lives", "episode_frame_number")}

    def reset(
        self, *, seed: int | npt.NDArray[np.int64] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Sequence[UInt8Array], Info]:
        """Start new games in the lanes of ``options["reset_mask"]``, or in all; a seed for each of them.

        Returns:
            (frames of every lane, uint8 (H, W[, 3]), info).
        """
        mask = np.ones(self._num_envs, bool) if options is None else options["reset_mask"]
        seeds = np.arange(seed, seed + mask.sum()) if isinstance(seed, int) else seed
        before = np.cumsum(mask) - mask  # lanes that are reset before this one

        def start(index: int) -> Any:
            rows = self._rows[index]
            first, count = int(before[rows.start]), int(mask[rows].sum())
            share = None if seeds is None else seeds[first : first + count]
            return self._groups[index].reset(seed=share, options={"reset_mask": mask[rows]})

        concerned = [index for index, rows in enumerate(self._rows) if mask[rows].any()]
        if len(concerned) == 1:
            self._take(concerned[0], *start(concerned[0]))
        elif concerned:
            with ThreadPoolExecutor(len(concerned)) as pool:  # a seed makes ALE load the ROM again, 0.1 s a lane
                for index, started in zip(concerned, pool.map(start, concerned), strict=True):
                    self._take(index, *started)
        return self._result()

    def send(self, actions: npt.NDArray[np.int64]) -> None:
        """Start a step of all lanes."""
        for rows, group in zip(self._rows, self._groups, strict=True):
            group.send(actions[rows])

    def recv(self) -> tuple[Sequence[UInt8Array], npt.NDArray[np.float64], Bools, Bools, Info]:
        """Wait for the step: (frames, reward, terminated, truncated, info)."""
        reward = np.empty(self._num_envs)
        terminated, truncated = np.empty(self._num_envs, bool), np.empty(self._num_envs, bool)
        for index, (rows, group) in enumerate(zip(self._rows, self._groups, strict=True)):
            frames, reward[rows], terminated[rows], truncated[rows], info = group.recv()
            self._take(index, frames, info)
        frames, info = self._result()
        return frames, reward, terminated, truncated, info

    def close(self) -> None:
        """Free the emulators."""
        for group in self._groups:
            group.close()

    def _take(self, index: int, frames: UInt8Array, info: dict[str, Any]) -> None:
        rows = self._rows[index]
        self._frames[rows] = frames[:, 0]
        for name, values in self._info.items():
            values[rows] = info[name]
        self._prepare(rows.start, frames)

    def _result(self) -> tuple[Sequence[UInt8Array], Info]:
        return list(self._frames), {name: values.copy() for name, values in self._info.items()}
