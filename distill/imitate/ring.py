"""The newest states, each frame kept once: a stack is the last four frames of one lane."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from distill.envs.presets import SIZE, STACK, Padding
from distill.errors import UserError
from distill.imitate.player import Row

Index = npt.NDArray[np.int64]
BACK = np.arange(STACK - 1, -1, -1)
"""How long ago each frame of a stack was the newest one."""


class Ring:
    """A ring of frames for every lane; a full one forgets its oldest state for each new one.

    Args:
        lanes: games side by side.
        states: how many are kept, rounded up to whole lanes.
        columns: shape of the numbers that are kept of a state, by their names in ``Row``, float32.
        padding: what stands before the first frame of a stack.

    Raises:
        UserError: it does not fit in memory.
    """

    def __init__(
        self, lanes: int, states: int, columns: Mapping[str, tuple[int, ...]], padding: Padding = "zero"
    ) -> None:
        self._padding = padding
        self.lane_states = -(-states // lanes)
        self._slots = self.lane_states + STACK - 1  # the oldest state needs the three frames before it
        rows = lanes * self._slots
        self._count = np.zeros(lanes, np.int64)
        try:
            # Memory that is not written yet takes no room.
            self._frames = np.empty((1 + rows, SIZE, SIZE), np.uint8)
            self._age = np.empty(rows, np.uint8)  # frames since the stack began anew, at most three
            self._columns = {name: np.empty((rows, *shape), np.float32) for name, shape in columns.items()}
        except (MemoryError, ValueError, OverflowError) as error:  # the latter: more than can be numbered
            raise UserError(
                f"a ring of {states:,} states takes {rows * SIZE * SIZE / 1e9:.1f} GB, more than there is; "
                "lower --imitate.ring"
            ) from error
        self._frames[0] = 0  # stands for every black frame before a stack's first

    def add(self, row: Row) -> None:
        """One step of all lanes. The next state of a lane that is not kept must be fresh, and so must the first one."""
        lanes = np.flatnonzero(row.keep)
        count, fresh = self._count[lanes], row.fresh[lanes]
        assert fresh[count == 0].all()
        place, before = self._row(lanes, count), self._row(lanes, count - 1)
        self._age[place] = np.where(fresh, 0, np.minimum(self._age[before], STACK - 2) + 1)
        self._frames[1 + place] = row.frame[lanes]
        for name, column in self._columns.items():
            column[place] = getattr(row, name)[lanes]
        self._count[lanes] += 1

    def extend(self, rows: Iterable[Row]) -> None:
        """Several steps of all lanes."""
        for row in rows:
            self.add(row)

    @property
    def states(self) -> int:
        """How many there is room for."""
        return len(self._count) * self.lane_states

    def __len__(self) -> int:
        return int(self._kept().sum())

    def draw(self, rng: np.random.Generator, size: int) -> Index:
        """Rows of states drawn uniformly, with replacement, int64 (size,)."""
        kept = self._kept()
        ends = np.cumsum(kept)
        drawn = rng.integers(ends[-1], size=size)
        lane = np.searchsorted(ends, drawn, side="right")
        return self._row(lane, self._count[lane] - (ends[lane] - drawn))

    def rows(self, lane: int) -> Index:
        """Rows of all states of a lane, oldest first, int64."""
        count = int(self._count[lane])
        return self._row(np.array(lane), np.arange(count - int(self._kept()[lane]), count))

    def stacks(self, rows: Index) -> npt.NDArray[np.uint8]:
        """What the agent saw, uint8 (B, 4, 84, 84), oldest frame first."""
        lane, slot = np.divmod(rows[:, None], self._slots)
        age = self._age[rows][:, None]
        frames = 1 + self._row(lane, slot - np.minimum(age, BACK))
        return self._frames[np.where(age >= BACK, frames, 0) if self._padding == "zero" else frames]

    def column(self, name: str, rows: Index) -> npt.NDArray[np.float32]:
        """What was kept of these states, float32 (B, ...)."""
        return self._columns[name][rows]

    def _kept(self) -> Index:
        """States of each lane."""
        return np.minimum(self._count, self.lane_states)

    def _row(self, lane: Index, number: Index) -> Index:
        return lane * self._slots + number % self._slots
