"""A dataset whose memory stays flat: a mapped index, and frames and derivatives of a window of shards."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distill.dataset.codec import CODECS, scales
from distill.dataset.index import Shards, read_index
from distill.dataset.reader import Dataset, JacobianBatch
from distill.dataset.remote import fetch_index, fetching
from distill.dataset.repeats import NAME, stack_names
from distill.dataset.schema import FRAME
from distill.dataset.store import Wanted, mapped_copy, release
from distill.dataset.windows import Windows
from distill.envs.presets import STACK
from distill.errors import UserError

Index = npt.NDArray[np.integer[Any]]
ROOM = 8
"""Shards of a store, besides those that are held, that have room here: threads read others."""
PIECE = 16_384
"""Frames that are read at once, where there is no end of them."""


class WindowedDataset(Dataset):
    """All states of a dataset folder, however many: ``want`` says of which shards frames and derivatives are held.

    What is read is what ``Dataset`` reads. States of shards that are not held are read from their files, a chunk of 256
    frames for each.

    Args:
        folder: dataset folder.
        shards: how many are held at most.
        verify: check the index's checksum now, and that of every shard when it is first held.
        jacobian: make derivatives available.

    Raises:
        UserError: no dataset, a lost shard, or damage.
    """

    def __init__(self, folder: str | Path, shards: int, *, jacobian: bool = True, verify: bool = False) -> None:
        self._list(folder)
        self.refuse_copies()
        self.mapped, self._verify = False, verify
        remote = fetching(self.folder, self.shards, self.records, shards + ROOM, verify=verify)
        fetch_index(self.folder, self._contents)
        listed = Shards(self.shards, self.records, self._owners, None if remote is None else remote.fetch)
        self._whole, columns = read_index(self.folder, listed, verify=verify)
        self.pos, self.episode, self.t = columns["pos"], columns["episode"], columns["t"]
        self.action, self.ends_game, self.logits = columns["action"], columns["ends_game"], columns["logits"]
        self.value, self._row = columns.get("value"), columns.get("row")
        self.v, self.gain = columns.get("v"), columns.get("gain")
        self._row_starts = listed.starts[:, 1]
        self._stored = jacobian and "jacobian.npy" in self.records[0].files and bool(self._row_starts[-1])
        codec, gain = CODECS[self.identity.codec], self.gain
        stored = (int(gain.shape[1]), codec) if self._stored and gain is not None else None
        self._windows = Windows(listed, shards, stored=stored, verify=verify)
        self._kept = _Kept(np.empty(0, np.int64))

    @property
    def has_jacobian(self) -> bool:
        """True where derivatives (projected or full) of any state are stored."""
        return self._stored

    def stacks(self, index: Index) -> npt.NDArray[np.uint8]:
        """Observations uint8 (B, 4, 84, 84)."""
        if self._kept.has(index):
            self._fill()
            return self._kept.stacks[self._kept.places(index)]
        return self._stacks(index)

    def openings(self, firsts: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """``stack_names`` of the first states of all games, from a copy that is made once."""

        def fill(names: npt.NDArray[Any]) -> None:
            names[:] = stack_names(self, firsts)[:, None].view(np.uint8)

        wanted = Wanted("openings", (len(firsts), NAME * STACK), np.uint8)
        names = mapped_copy(self.folder, self._contents, wanted, fill, verify=self._verify)
        return names.view(f"V{NAME * STACK}").ravel()

    def each_frame(self, numbers: Index) -> Iterator[npt.NDArray[np.uint8]]:
        """Frames uint8 (84, 84), one after the other; of so many at a time as a window has."""
        for start in range(0, len(numbers), PIECE):
            yield from self._windows.frames(numbers[start : start + PIECE])

    def jacobian(self, index: Index) -> JacobianBatch:
        """Stored derivatives of a batch of states, which must carry them (``carries``)."""
        if not self._stored or self.gain is None:
            raise UserError(f"{self.folder} stores no derivatives; collect with --collect.jacobian=projected")
        rows = self.rows_of(index)
        if self._kept.has(index):
            self._fill()
            place = np.searchsorted(self._kept.rows, rows)
            codes, row_scale = self._kept.codes[place], self._kept.row_scale[place]
        else:
            codes, row_scale = self._windows.jacobian(rows)
        return JacobianBatch(codes, scales(row_scale, self.gain[rows], self.identity.codec))

    def ask_for(self, index: Index, *, carrying: int | None = None) -> None:
        """Nothing: what ``want`` named is loaded ahead."""

    def want(self, shards: Collection[int]) -> None:
        """Load these shards, by number, the first ones first, and drop the others; does not wait."""
        if self._windows.want(shards):
            release(self._whole)  # lines of the last windows' states

    def keep(self, index: Index) -> None:
        """Keep frames and derivatives of these states, once they are asked for: they are read again and again."""
        self._kept = _Kept(np.unique(index))

    def _stacks(self, index: Index) -> npt.NDArray[np.uint8]:
        rows = (self.pos[index][:, None] + np.arange(1 - STACK, 1)).ravel()
        return self._windows.frames(rows).reshape(-1, STACK, *FRAME)

    def _fill(self) -> None:
        kept = self._kept
        if len(kept.stacks):
            return
        kept.stacks = self._stacks(kept.index)
        carrying = kept.index[self.carries[kept.index]]
        kept.rows = self.rows_of(carrying)
        kept.codes, kept.row_scale = self._windows.jacobian(kept.rows)


class _Kept:
    """Some states that are read again and again; ``index`` is sorted."""

    def __init__(self, index: Index) -> None:
        self.index = self.rows = index
        self.stacks = np.empty((0, STACK, *FRAME), np.uint8)
        self.codes: npt.NDArray[Any] = self.stacks
        self.row_scale: npt.NDArray[Any] = self.stacks

    def places(self, index: Index) -> Index:
        """Where these states are, or would be."""
        return np.searchsorted(self.index, index)

    def has(self, index: Index) -> bool:
        """True where all of these are among them."""
        if not len(self.index) or not len(index):
            return False
        place = np.minimum(self.places(index), len(self.index) - 1)
        return bool((self.index[place] == index).all())
