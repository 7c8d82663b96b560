"""Frames and derivatives of a few shards in memory, loaded ahead of their use; those of others are read where asked.

Memory is that of the slots, however many shards there are. What is read does not depend on what is held: only how long
it takes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from distill.dataset.index import Shards
from distill.dataset.large import refuse_nan
from distill.dataset.schema import FRAME
from distill.dataset.store import will_need
from distill.envs.presets import STACK
from distill.errors import UserError

Array = npt.NDArray[Any]


class Held(NamedTuple):
    """A shard that is held."""

    slot: int
    row_scale: Array | None
    jacobian: Array | None


class Windows:
    """Large arrays of a dataset's shards.

    One thread may say what is held while another reads: on a GPU batches are made beside the step, and validations.

    Args:
        shards: all of them.
        slots: how many are held at most.
        stored: rows of a state's derivatives, and type of their codes; None where none are stored, or wanted.
        verify: compare a shard's checksums when it is loaded for the first time.
    """

    def __init__(
        self,
        shards: Shards,
        slots: int,
        *,
        stored: tuple[int, np.dtype[Any]] | None,
        verify: bool,
    ) -> None:
        self._shards, self._stored = shards, stored
        starts = shards.starts
        self._row_starts, self._frame_starts = starts[:, 1], starts[:, 2]
        self._longest = int(np.diff(self._frame_starts).max())
        self._unchecked = set(range(len(shards.paths))) if verify else set()
        self._most, self._slots = min(slots, len(shards.paths)), 0
        self._free: list[int] = []
        self._held: dict[int, Future[Held]] = {}
        self._slot_of: dict[int, int] = {}
        self._frames = torch.empty((1, *FRAME), dtype=torch.uint8)
        self._lock = threading.Lock()
        self._threads = max(1, min(4, (os.cpu_count() or 1) // 2))
        self._pool: ThreadPoolExecutor | None = None

    def want(self, numbers: Collection[int]) -> bool:
        """Hold these shards, the first ones first, from now on, and no others; does not wait for them.

        Returns:
            True where anything changes.
        """
        with self._lock:
            size = min(self._most, len(numbers))
            grows = size > self._slots
            dropped = [number for number in self._held if grows or number not in numbers]
            for number in dropped:
                self._held.pop(number).exception()  # it may still be loading
                self._free.append(self._slot_of.pop(number))
            if grows:  # only now: of a process that holds a part, all shards together may be more than it has memory
                self._slots, self._free = size, list(range(size))
                self._frames = torch.empty((size * self._longest, *FRAME), dtype=torch.uint8)
            new = [number for number in numbers if number not in self._held][: len(self._free)]
            for number in new:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self._threads, "windows")
                self._slot_of[number] = self._free.pop()
                self._held[number] = self._pool.submit(self._load, number, self._slot_of[number])
            return bool(dropped or new)

    def frames(self, rows: Array) -> Array:
        """uint8 (n, 84, 84): frames by their numbers in the dataset, int64 (n,)."""
        with self._lock:
            return self._find_frames(rows)

    def jacobian(self, rows: Array) -> tuple[Array, Array]:
        """Codes (n, R, 4, 84, 84) and row scales float16 (n, R, 4, 84) of rows of the dataset, int64 (n,)."""
        with self._lock:
            return self._find_jacobian(rows)

    def _find_frames(self, rows: Array) -> Array:
        owner = np.searchsorted(self._frame_starts, rows, side="right") - 1
        local = rows - self._frame_starts[owner]
        numbers = np.unique(owner).tolist()
        slots = np.zeros(len(self._shards.paths), np.int64)
        for number in numbers:
            slots[number] = self._held[number].result().slot if number in self._held else 0
        others = [number for number in numbers if number not in self._held]
        # Rows of shards that are not held are any frames first.
        place = np.where(np.isin(owner, others), 0, slots[owner] * self._longest + local)
        found: Array = torch.index_select(self._frames, 0, torch.from_numpy(place)).numpy()

        def read(number: int) -> None:
            (mine,) = np.nonzero(owner == number)
            wanted, where = np.unique(local[mine], return_inverse=True)
            found[mine] = self._shards.file(number).frames(wanted)[where]

        self._each(read, others)
        return found

    def _find_jacobian(self, rows: Array) -> tuple[Array, Array]:
        owner = np.searchsorted(self._row_starts, rows, side="right") - 1
        local = rows - self._row_starts[owner]
        numbers = np.unique(owner).tolist()
        count, dtype = self._stored or (0, np.dtype(np.int8))
        codes = np.empty((len(rows), count, STACK, *FRAME), dtype)
        scale = np.empty((len(rows), count, STACK, FRAME[0]), np.float16)

        def read(number: int) -> None:
            (mine,) = np.nonzero(owner == number)
            held = self._held[number].result() if number in self._held else None
            if held is not None:
                assert held.jacobian is not None
                assert held.row_scale is not None
                stored, scale[mine] = held.jacobian, held.row_scale[local[mine]]
            else:
                file = self._shards.file(number)
                stored, scale[mine] = file.jacobian(), file.row_scale(local[mine])
            # A row at a time: a fancy index would copy once more.
            for place, row in zip(mine.tolist(), local[mine].tolist(), strict=True):
                codes[place] = stored[row]

        self._each(read, numbers)
        return codes, scale

    def _each(self, read: Callable[[int], None], numbers: Sequence[int]) -> None:
        """Read from several shards, at once where there are many."""
        if len(numbers) < 4 * self._threads or self._threads == 1:
            for number in numbers:
                read(number)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(read, numbers):
                pass

    def _load(self, number: int, slot: int) -> Held:
        file = self._shards.file(number)
        if number in self._unchecked:
            file.check()
            self._unchecked.discard(number)
        first = slot * self._longest
        file.all_frames(self._frames[first : first + file.record.frames].numpy())
        if self._stored is None:
            return Held(slot, None, None)
        scale, codes = file.row_scale(), file.jacobian()
        refuse_nan(file.folder, "row_scale", scale)
        wanted = (file.record.rows, self._stored[0], STACK, FRAME[0])
        if scale.shape != wanted or codes.shape != (*wanted, FRAME[1]) or codes.dtype != self._stored[1]:
            raise UserError(f"{file.folder} is damaged: its derivatives do not fit its record")
        if codes.size:
            will_need(codes, 0, codes.nbytes)
        return Held(slot, scale, codes)
