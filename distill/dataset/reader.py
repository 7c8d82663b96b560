"""Reading a dataset: frames in memory, Jacobians memory-mapped, any state at random."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from distill.dataset.codec import scales
from distill.dataset.remote import fetching
from distill.dataset.repeats import (
    Distinct,
    Runs,
    distinct_games,
    first_copy,
    play_digest,
    shard_contents,
    stack_names,
)
from distill.dataset.schema import FRAME, GAME_BITS, ShardArrays, read_manifest, teacher_name
from distill.dataset.shards import (
    committed_shards,
    contents_digest,
    load_shard,
    read_record,
    refuse_not_finite,
    refuse_other_arrays,
)
from distill.dataset.store import Wanted, mapped_copy, memory_size, will_need
from distill.envs.presets import STACK
from distill.errors import UserError
from distill.system.files import at_home
from distill.task import Task


@dataclass
class JacobianBatch:
    """Stored derivatives of a batch, still compressed."""

    codes: npt.NDArray[np.generic]
    """int8 or float16 (B, R, 4, 84, 84)."""
    scale: npt.NDArray[np.float32]
    """float32 (B, R, 4, 84): what one unit of code is worth."""


class Dataset:
    """All states of a dataset folder, indexed 0..len - 1.

    Args:
        folder: dataset folder.
        jacobian: make Jacobians available.
        verify: check every checksum first.
        mapped: map what is large from uncompressed copies in the folder (made once) and hold none of it in memory.

    Raises:
        UserError: no dataset, a lost shard, or damage.
    """

    def __init__(
        self, folder: str | Path, *, jacobian: bool = True, verify: bool = False, mapped: bool = False
    ) -> None:
        self._list(folder)
        self.mapped, self._verify = mapped, verify
        remote = fetching(self.folder, self.shards, self.records, None, verify=verify)
        if remote is not None:
            remote.fetch_all()
        frame_starts = np.cumsum([0, *(record.frames for record in self.records)])
        places = {path: slice(first, last) for path, (first, last) in
                  zip(self.shards, itertools.pairwise(frame_starts), strict=True)}  # fmt: skip
        self.frames = self._mapped_frames(places) if mapped else np.empty((int(frame_starts[-1]), *FRAME), np.uint8)
        self._row_starts = np.cumsum([0, *(record.rows for record in self.records)])
        self.row_scale: npt.NDArray[np.float16] | None = None
        parts: list[ShardArrays] = []
        played: list[str | None] = []
        for number, (path, place) in enumerate(places.items()):
            frames = self.frames[place]
            part = load_shard(path, jacobian=jacobian, verify=verify, frames=frames, decompress=not mapped)
            if verify:
                refuse_not_finite(path, part)
            # One of an earlier version does not tell what was played, so that takes time.
            played.append(play_digest(part) if verify and self.records[number].play is None else None)
            refuse_other_arrays(path, part, parts[0] if parts else part)
            self._keep_scale(number, part)
            parts.append(part)
        self.refuse_copies(played)
        self._rows = torch.from_numpy(self.frames).view(len(self.frames), -1)
        self.pos = np.concatenate([part.pos + start for part, start in zip(parts, frame_starts, strict=False)])
        # Game numbers are unique within a writer; the writer's index makes them unique overall.
        owner = np.repeat(self._owners, [len(part) for part in parts])
        self.episode = np.concatenate([part.episode for part in parts]) + (owner << GAME_BITS)
        self.t = np.concatenate([part.t for part in parts])
        self.action = np.concatenate([part.action for part in parts])
        self.ends_game = np.concatenate([part.terminated | part.truncated for part in parts])
        self.logits = np.concatenate([part.logits for part in parts])
        self.value = _joined([part.value for part in parts])
        carries = _joined([part.carries for part in parts])
        self._row = None if carries is None else np.where(carries, np.cumsum(carries) - 1, -1)
        self.v = _joined([part.v for part in parts])
        # A memory map costs ten times as much to index as the plain array over it.
        self.jacobians = [None if part.jacobian is None else np.asarray(part.jacobian) for part in parts]
        self._outgrows_memory = sum(part.nbytes for part in self.jacobians if part is not None) > memory_size() / 2
        self.gain = _joined([part.gain for part in parts])

    def _list(self, place: str | Path) -> None:
        """What the records tell: what the dataset is, and its shards."""
        self.folder = folder = at_home(place)
        self.manifest = read_manifest(folder)
        self.identity = self.manifest.identity
        writers = committed_shards(folder)
        self.writers = list(writers)
        self.shards = [path for paths in writers.values() for path in paths]
        self._owners = [index for index, paths in enumerate(writers.values()) for _ in paths]
        if not self.shards:
            raise UserError(f"{folder} holds no complete shard yet; run `distill collect` to its end")
        self.teacher_name = teacher_name(folder, self.manifest)
        self.records = [read_record(path) for path in self.shards]
        self._refuse_strangers()

    def __len__(self) -> int:
        return len(self.pos)

    @property
    def task(self) -> Task:
        """What was played, as it is recorded."""
        return Task(self.identity.game, self.identity.preset, self.identity.preset_hash, self.logits.shape[1])

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over what the dataset is and every byte of its shards: grown or other data has another."""
        names = (path.name for path in self.shards)
        return contents_digest(self.identity, dict(zip(names, self.records, strict=True)))

    @property
    def has_jacobian(self) -> bool:
        """True where derivatives (projected or full) of any state are stored."""
        return self.gain is not None and len(self.gain) > 0 and self.jacobians[0] is not None

    @functools.cached_property
    def carries(self) -> npt.NDArray[np.bool_]:
        """Which states' derivatives are stored, bool (len,)."""
        if self._row is None or not self.has_jacobian:
            return np.full(len(self), self.has_jacobian)
        return self._row >= 0

    @property
    def writer(self) -> npt.NDArray[np.int64]:
        """Number of each state's writer, int64 (len,)."""
        owner: npt.NDArray[np.int64] = self.episode >> GAME_BITS
        return owner

    @functools.cached_property
    def runs(self) -> Runs:
        """Which states are of which game, in few numbers."""
        return Runs.of(self.episode)

    @functools.cached_property
    def distinct_games(self) -> Distinct:
        """See ``distill.dataset.repeats.distinct_games``."""
        return distinct_games(self)

    def openings(self, firsts: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """``stack_names`` of the first states of all games."""
        return stack_names(self, firsts)

    @property
    def shard_starts(self) -> npt.NDArray[np.int64]:
        """First state of every shard, and the number of all, int64 (shards + 1,)."""
        return np.cumsum([0, *(record.states for record in self.records)], dtype=np.int64)

    def want(self, shards: Collection[int]) -> None:
        """Say which shards, by number, are read next: those of a dataset in windows are loaded, the others dropped."""

    def keep(self, index: npt.NDArray[np.integer[Any]]) -> None:
        """Say which states are asked for again and again: a dataset in windows keeps what it has read of them."""

    def rows_of(self, index: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
        """Rows of ``v``, ``gain`` and ``row_scale`` that are these states'.

        Raises:
            UserError: derivatives of one of them are not stored.
        """
        rows = index if self._row is None else self._row[index]
        if self._row is not None and (rows < 0).any():
            raise UserError(
                f"{self.folder} stores derivatives of a share of its states, {self.identity.jacobian_share}, and "
                f"state {index[rows < 0][0]} is none of them; ask for states that Dataset.carries names"
            )
        return rows

    @property
    def jacobian_scale(self) -> float:
        """s: mean over all states that carry derivatives, and rows, of ||J_T^T v||^2, from the shards' records."""
        total = sum(record.jacobian_square_sum for record in self.records)
        return total / max(1, int(self._row_starts[-1]))

    def stacks(self, index: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """Observations uint8 (B, 4, 84, 84), as recorded: exactly what the teacher saw, if ``identity.same_eyes``."""
        rows = (self.pos[index][:, None] + np.arange(1 - STACK, 1)).ravel()
        # torch's index_select works with all threads, and lets Python's other threads run.
        return torch.index_select(self._rows, 0, torch.from_numpy(rows)).view(-1, STACK, *FRAME).numpy()

    def each_frame(self, numbers: npt.NDArray[np.integer[Any]]) -> Iterator[npt.NDArray[np.uint8]]:
        """Frames uint8 (84, 84), one after the other."""
        return (self.frames[number] for number in numbers.tolist())

    def jacobian(self, index: npt.NDArray[np.integer[Any]]) -> JacobianBatch:
        """Stored derivatives of a batch of states, which must carry them (``carries``)."""
        first = self.jacobians[0]
        if self.gain is None or self.row_scale is None or first is None:
            raise UserError(f"{self.folder} stores no derivatives; collect with --collect.jacobian=projected")
        rows = self.rows_of(index)
        codes = np.empty((len(rows), *first.shape[1:]), first.dtype)
        for place, (shard, row) in enumerate(self._places(rows)):
            part = self.jacobians[shard]
            assert part is not None
            codes[place] = part[row]
        return JacobianBatch(codes, scales(self.row_scale[rows], self.gain[rows], self.identity.codec))

    def ask_for(self, index: npt.NDArray[np.integer[Any]], *, carrying: int | None = None) -> None:
        """Have the kernel read what these states need from disk, where it cannot all be in memory; does not wait.

        ``carrying``: derivatives are needed of so many of them, the first ones; by default of all.
        """
        if self.mapped:
            frame = self._rows.shape[1]
            for pos in self.pos[index].tolist():
                will_need(self.frames, (pos + 1 - STACK) * frame, STACK * frame)
        if self._outgrows_memory and carrying != 0:
            for shard, row in self._places(self.rows_of(index[:carrying])):
                part = self.jacobians[shard]
                assert part is not None
                will_need(part, row * part[0].nbytes, part[0].nbytes)

    def refuse_copies(self, played: Sequence[str | None] = ()) -> None:
        """Refuse shards that are there twice.

        Args:
            played: ``play_digest`` of each, where its record, of an earlier version, does not have it.

        Raises:
            UserError: naming the first.
        """
        known = [shard_contents(record) for record in self.records]
        for contents, digest in zip(known, played, strict=False):
            contents |= {digest} if digest else set()
        copy = first_copy(zip((path.name for path in self.shards), known, strict=True))
        if copy is not None:
            writer = copy[0].rsplit("-", 1)[0]
            raise UserError(
                f"{self.folder}: shard {copy[0]} holds the same games as {copy[1]}, so held-out games would be "
                f"training games; collect anew with another --seed, or take the writer {writer!r} out "
                f"(shards/{writer}-* and writers/{writer}.json)"
            )

    def _refuse_strangers(self) -> None:
        """Refuse shards of another dataset; those of earlier versions do not tell."""
        mine = self.identity.digest
        for path, record in zip(self.shards, self.records, strict=True):
            if record.identity not in (None, mine):
                raise UserError(
                    f"{path} was collected differently from {self.folder} (another game, teacher, preset or kind of "
                    "derivatives), so it does not belong there; move it out"
                )

    def _keep_scale(self, shard: int, part: ShardArrays) -> None:
        """Move a shard's row scales, which are large, to where those of all shards are."""
        scale, part.row_scale = part.row_scale, None
        if (None if scale is None else scale.shape[:2]) != (None if part.gain is None else part.gain.shape):
            raise UserError(f"{self.shards[shard]} is damaged: its row_scale does not fit its gain")
        if scale is None:
            return
        if self.mapped:
            self.row_scale = self._mapped_scales(scale.shape[1:]) if self.row_scale is None else self.row_scale
            return
        if self.row_scale is None:
            self.row_scale = np.empty((int(self._row_starts[-1]), *scale.shape[1:]), np.float16)
        self.row_scale[self._row_starts[shard] : self._row_starts[shard + 1]] = scale

    def _mapped_frames(self, places: dict[Path, slice]) -> npt.NDArray[np.uint8]:
        def fill(frames: npt.NDArray[Any]) -> None:
            for path, place in places.items():
                load_shard(path, jacobian=False, frames=frames[place])

        shape = (int(max(place.stop for place in places.values())), *FRAME)
        wanted = Wanted("frames", shape, np.uint8)
        return mapped_copy(self.folder, self._contents, wanted, fill, verify=self._verify)

    def _mapped_scales(self, shape: tuple[int, ...]) -> npt.NDArray[np.float16]:
        def fill(row_scale: npt.NDArray[Any]) -> None:
            for path, (first, last) in zip(self.shards, itertools.pairwise(self._row_starts), strict=True):
                row_scale[first:last] = load_shard(path, jacobian=False, decompress=False).row_scale

        wanted = Wanted("row_scale", (int(self._row_starts[-1]), *shape), np.float16)
        return mapped_copy(self.folder, self._contents, wanted, fill, verify=self._verify)

    @property
    def _contents(self) -> list[str]:
        """What the copies are copies of."""
        return [record.files["steps.safetensors"].sha256 for record in self.records]

    def _places(self, rows: npt.NDArray[np.integer[Any]]) -> Iterator[tuple[int, int]]:
        """(shard, row in its Jacobian) of every row."""
        owner = np.searchsorted(self._row_starts, rows, side="right") - 1
        return zip(owner.tolist(), (rows - self._row_starts[owner]).tolist(), strict=True)


def _joined(parts: list[Any]) -> Any:
    """All shards' arrays end to end, or None for a field this dataset does not store."""
    return None if parts[0] is None else np.concatenate(parts)
