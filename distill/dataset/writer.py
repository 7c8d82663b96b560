"""Committing shards: a shard is either complete and checksummed on disk, or it is not there."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import zstandard
from safetensors.numpy import save

from distill.dataset.codec import CODECS
from distill.dataset.remote import Sender
from distill.dataset.repeats import play_digest, shard_contents
from distill.dataset.schema import FRAMES_PER_CHUNK, ShardArrays, read_manifest
from distill.dataset.shards import committed_shards, read_record, refuse_not_finite
from distill.errors import UserError
from distill.records.dataset import (
    FileMark,
    Identity,
    Manifest,
    Played,
    ShardRecord,
    WriterRecord,
    read_writer,
    write_manifest,
    write_shard,
    write_writer,
)
from distill.system.files import fsync_dir, is_vacant, replacing, sha256, write_bytes
from distill.system.provenance import command_line, versions


class WriterInUseError(UserError):
    """Another process holds this writer's name."""


class DatasetWriter:
    """Appends one named writer's shards to a dataset folder, which it creates if need be.

    Args:
        folder: dataset folder; must be new, empty, or a dataset of the same identity.
        identity: what every state has in common.
        writer: this stream's name; two processes may write under different names at once.
        behaviour: who acts and how; a writer's must not change.
        teacher: description of the teacher, kept in the manifest for people.
        command: the command that asked for it; by default this process's.

    Raises:
        UserError: the folder is something else, or differs; the difference is named.
        WriterInUseError: another process holds that name.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        writer: str,
        behaviour: Mapping[str, Any],
        teacher: Mapping[str, Any],
        command: str | None = None,
    ) -> None:
        self.folder, self.identity, self.writer = folder, identity, writer
        self._record = folder / "writers" / f"{writer}.json"
        self.behaviour, self._command = behaviour, command or command_line()
        self._open(identity, teacher)
        self._lock = self._locked()
        self._sender: Sender | None = None
        try:
            self._check_behaviour()
            # In this order: a committed shard that lost its shard.json is reported, not deleted.
            self.shards = self._committed()
            self._drop_unfinished()
            records = [read_record(shard) for shard in self.shards]
            self.next_episode = records[-1].next_episode if records else 0
            self.states = sum(record.states for record in records)
            self._contents: dict[str, set[str]] = {}
            self._save_record(self._earlier_command())
            self._sender = Sender.of(folder, writer)
            self._send(self.shards)
        except BaseException:
            self.close()
            raise

    def commit(self, arrays: ShardArrays, played: Played) -> Path:
        """Write one shard; when this returns it survives any crash.

        Args:
            arrays: the states.
            played: kept in shard.json beside counts and checksums.

        Raises:
            UserError: another shard of the dataset holds the same games, or labels are NaN or infinite.
        """
        refuse_not_finite(self.folder, arrays)
        digest = play_digest(arrays)
        self._refuse_copy(digest)
        folder = self.folder / "shards" / f"{self.writer}-{len(self.shards):05d}"
        folder.mkdir()
        if self._sender is not None:
            self._sender.announce(folder)
        fsync_dir(folder.parent)
        files = {"steps.safetensors": self._write_steps(folder / "steps.safetensors", arrays)}
        try:
            self._refuse_copy(files["steps.safetensors"].sha256)
        except UserError:
            shutil.rmtree(folder)
            raise
        if arrays.jacobian is not None:
            files["jacobian.npy"] = self._write_jacobian(folder / "jacobian.npy", arrays.jacobian)
        record = ShardRecord(
            **vars(played), states=len(arrays), frames=len(arrays.frames), files=files, play=digest,
            identity=self.identity.digest, carrying=None if arrays.carries is None else arrays.rows,
        )  # fmt: skip
        write_shard(folder / "shard.json", record)
        self.shards.append(folder)
        self.states += len(arrays)
        self.next_episode = played.next_episode
        self._save_record(self._command)
        self._send([folder])
        return folder

    def close(self) -> None:
        """Let another process use this writer's name; readers of a store then know of all shards."""
        try:
            if self._sender is not None:
                self._sender.tell()
        finally:
            self._lock.close()

    def _send(self, shards: Sequence[Path]) -> None:
        """Send committed shards to the store that the folder is a copy of, where it is one."""
        if self._sender is not None:
            for shard in shards:
                self._sender.send(shard)

    def _refuse_copy(self, contents: str | None) -> None:
        """The same games twice would put copies of training states among the held-out ones."""
        for shard in os.listdir(self.folder / "shards"):
            path = self.folder / "shards" / shard
            if shard not in self._contents and (path / "shard.json").exists():  # other writers may be at work
                self._contents[shard] = shard_contents(read_record(path))
        copies = [shard for shard, known in self._contents.items() if contents in known]
        if contents is not None and copies:
            raise UserError(
                f"what {self.writer!r} plays is already in shard {copies[0]} of {self.folder}; "
                "use another --seed or --collect.writer"
            )

    def _open(self, identity: Identity, teacher: Mapping[str, Any]) -> None:
        foreign = UserError(f"{self.folder} exists and is not a dataset; choose another --collect.out")
        if self.folder.exists() and not self.folder.is_dir():
            raise foreign
        self.folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(self.folder):
            if (self.folder / "dataset.json").exists():
                self._compare(identity)
            elif is_vacant(self.folder):
                self._create(identity, teacher)
            else:
                raise foreign
            for name in ("shards", "writers"):
                (self.folder / name).mkdir(exist_ok=True)
            fsync_dir(self.folder)

    def _compare(self, identity: Identity) -> None:
        existing = read_manifest(self.folder).identity
        if existing != identity:
            raise UserError(
                f"{self.folder} was collected differently: {existing.difference(identity)}; "
                "choose another --collect.out or the same settings"
            )

    def _create(self, identity: Identity, teacher: Mapping[str, Any]) -> None:
        # So fine that no two datasets are begun at once: students tell theirs by it.
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        write_manifest(self.folder / "dataset.json", Manifest(identity, teacher, created, versions()))
        fsync_dir(self.folder.parent)

    def _locked(self) -> TextIO:
        lock = (self._record.with_suffix(".lock")).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise WriterInUseError(
                f"another process is collecting into {self.folder} as {self.writer!r}; "
                "wait for it or choose another --collect.writer"
            ) from error
        return lock

    def _check_behaviour(self) -> None:
        if not self._record.exists():
            return
        existing = read_writer(self._record).behaviour
        # A run that was killed before its first checkpoint and its first shard begins anew, as another one.
        same = () if self._committed() else ("run",)
        changed = [f"{key} is {existing.get(key)}, not {value}" for key, value in self.behaviour.items()
                   if existing.get(key) != value and key not in same]  # fmt: skip
        if changed:
            raise UserError(
                f"writer {self.writer!r} of {self.folder} acted differently: {'; '.join(changed)}; "
                "choose another --collect.writer or the same settings"
            )

    def _drop_unfinished(self) -> None:
        for folder in self.folder.glob(f"shards/{self.writer}-[0-9][0-9][0-9][0-9][0-9]"):
            if not (folder / "shard.json").exists():
                shutil.rmtree(folder)

    def _committed(self) -> list[Path]:
        return committed_shards(self.folder).get(self.writer, [])

    def _earlier_command(self) -> str | None:
        """The command behind what is committed; this one where nothing is."""
        return read_writer(self._record).command if self.shards and self._record.exists() else self._command

    def _save_record(self, command: str | None) -> None:
        record = WriterRecord(len(self.shards), self.states, self.behaviour, command)
        write_writer(self._record, record)

    def _write_steps(self, path: Path, arrays: ShardArrays) -> FileMark:
        compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
        chunks = [
            compressor.compress(arrays.frames[start : start + FRAMES_PER_CHUNK].tobytes())
            for start in range(0, len(arrays.frames), FRAMES_PER_CHUNK)
        ]
        tensors: dict[str, Any] = {
            "frames_zstd": np.frombuffer(b"".join(chunks), np.uint8),
            "frames_offsets": np.cumsum([0, *map(len, chunks)], dtype=np.int64),
        }
        for name, value in vars(arrays).items():
            if name not in ("frames", "jacobian") and value is not None:
                tensors[name] = np.ascontiguousarray(value)
        write_bytes(path, save(tensors))
        return FileMark(path.stat().st_size, sha256(path))

    def _write_jacobian(self, path: Path, jacobian: Any) -> FileMark:
        assert jacobian.dtype == CODECS[self.identity.codec]
        jacobian = np.ascontiguousarray(jacobian)
        header = np.lib.format.header_data_from_array_1_0(jacobian)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.write(jacobian.data)  # np.save hides the reason of an error, such as a full disk
        return FileMark(path.stat().st_size, sha256(path))


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes that open the same dataset waiting: two may be about to create it."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
