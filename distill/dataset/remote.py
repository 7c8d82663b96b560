"""Datasets in a store: their shards are sent one by one, as they are committed or later, and fetched when needed.

A shard's files are sent first, its shard.json then, and the writer's ledger last, so that what a reader is told of is
there. Reading goes through the copy that ``distill.system.mirror`` keeps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from distill.dataset.shards import committed_shards, read_record
from distill.dataset.store import copy_of, is_sound
from distill.errors import UserError
from distill.records.dataset import ShardRecord
from distill.system.mirror import SHARD, UNSENT, Shards, for_each, origin, read_ledger
from distill.system.progress import console
from distill.system.stores import Store

LEDGER_S = 20.0
"""Seconds between two versions of a ledger: the whole is written each time."""
INDEX = ("index", "openings")
"""Copies that are sent, too."""


class Sender:
    """Sends one writer's shards.

    Args:
        folder: dataset folder, whose dataset.json is sent if there is none.
        url: where to.
        writer: its name.
        copies: keeps the limit of the copies, where the folder is one.

    Raises:
        UserError: another dataset is there, or the store cannot be used.
    """

    def __init__(self, folder: Path, url: str, writer: str, copies: Shards | None = None) -> None:
        self._folder, self._store, self._writer, self._copies = folder, Store(url), writer, copies
        manifest = (folder / "dataset.json").read_bytes()
        there = self._store.read("dataset.json")
        if there is None:
            self._store.write("dataset.json", manifest)
        elif there != manifest:
            raise UserError(f"{url} holds another dataset than {folder}; choose another address")
        self._ledger = read_ledger(self._store, self._name)
        self._written = time.monotonic()

    @property
    def _name(self) -> str:
        return f"ledgers/{self._writer}.json"

    @staticmethod
    def of(folder: Path, writer: str) -> Sender | None:
        """For a folder that is a copy of a store's; None for any other."""
        url = origin(folder)
        return None if url is None else Sender(folder, url, writer, _fetching_any(folder, 0, verify=False))

    def announce(self, shard: Path) -> None:
        """Mark a shard that is about to be written as one that the store does not have."""
        (shard / UNSENT).touch()

    def send(self, shard: Path) -> None:
        """Send a committed shard, but for files that are there already; one that was sent and not told of is, too.

        Raises:
            UserError: the store has another shard of that name, or has lost it.
        """
        text = (shard / SHARD).read_text()
        there = self._ledger.get(shard.name)
        if there is None:
            sentinel = self._store.read(f"shards/{shard.name}/{SHARD}")
            there = None if sentinel is None else sentinel.decode()
        if there not in (None, text):
            raise UserError(
                f"{self._store.url} has another shard {shard.name}: somebody else writes there as {self._writer!r}; "
                "choose another --collect.writer"
            )
        if there is None:
            if not all((shard / name).is_file() for name in read_record(shard).files):
                raise UserError(
                    f"{self._store.url} has lost shard {shard.name}, which was sent there: restore it from a copy, or "
                    "collect to a new address"
                )
            for_each(lambda name: self._send_file(shard, name), read_record(shard).files)
            self._store.write(f"shards/{shard.name}/{SHARD}", text.encode())
        self._ledger[shard.name] = text
        if (shard / UNSENT).exists():
            (shard / UNSENT).unlink()
            if self._copies is not None:
                self._copies.sent(shard.name, _marks(read_record(shard)))
        if time.monotonic() - self._written > LEDGER_S:
            self.tell()

    def tell(self) -> None:
        """Write down what was sent, so that readers know of it, beside what was written down meanwhile."""
        self._ledger = read_ledger(self._store, self._name) | self._ledger
        self._store.write(self._name, json.dumps({"shards": self._ledger}).encode())
        record = f"writers/{self._writer}.json"
        content = json.loads((self._folder / record).read_text())
        if content.get("shards") == len(self._ledger):  # else the next one tells it
            self._store.write(record, (self._folder / record).read_bytes())
        self._written = time.monotonic()

    def _send_file(self, shard: Path, name: str) -> None:
        target = f"shards/{shard.name}/{name}"
        if not self._store.same(target, shard / name):
            self._store.upload(shard / name, target)


def push_dataset(folder: Path, url: str) -> int:
    """Send a dataset, or what was committed since; an interrupted one goes on. Returns how many shards it has.

    Raises:
        UserError: another dataset is there, or the store cannot be used.
    """
    writers = committed_shards(folder)
    for writer, shards in writers.items():
        sender = Sender(folder, url, writer)
        try:
            for shard in shards:
                sender.send(shard)
        finally:
            sender.tell()
    store = Store(url)
    for path in (path for name in INDEX for path in (folder / "cache").glob(f"{name}-*.npy")):
        if not store.same(f"cache/{path.name}", path):
            store.upload(path, f"cache/{path.name}")
    return sum(map(len, writers.values()))


def fetching(
    folder: Path, paths: Iterable[Path], records: Iterable[ShardRecord], window: int | None, *, verify: bool
) -> Shards | None:
    """What fetches shards of a dataset in a store; None for a dataset that is here.

    Args:
        folder: dataset folder.
        paths: its shards.
        records: theirs.
        window: shards that must have room here; None for all.
        verify: compare copies that are here already with their checksums; what differs is fetched anew.

    Raises:
        UserError: they do not, within the limit of the copies.
    """
    if origin(folder) is None:
        return None
    files = {path.name: _marks(record) for path, record in zip(paths, records, strict=True)}
    sizes = sorted((sum(size for size, _ in marks.values()) for marks in files.values()), reverse=True)
    return Shards(folder, files, sum(sizes[:window]), verify=verify)


def fetch_shards(folder: Path) -> None:
    """Have all shards of a dataset in a store here, each as its checksum says.

    Raises:
        UserError: they have no room within the limit of the copies, or the store cannot be used.
    """
    remote = _fetching_any(folder, None, verify=True)
    if remote is not None:
        remote.fetch_all()


def _fetching_any(folder: Path, window: int | None, *, verify: bool) -> Shards | None:
    """``fetching`` of all shards that are committed."""
    paths = [path for shards in committed_shards(folder).values() for path in shards]
    return fetching(folder, paths, map(read_record, paths), window, verify=verify)


def _marks(record: ShardRecord) -> dict[str, tuple[int, str]]:
    return {name: (mark.bytes, mark.sha256) for name, mark in record.files.items()}


def fetch_index(folder: Path, contents: Sequence[str]) -> None:
    """Have the index of a dataset in a store here, where it has one; a damaged one is left to be made again.

    Args:
        folder: dataset folder.
        contents: checksums of its shards, in order.
    """
    url = origin(folder)
    if url is None:
        return
    store = Store(url)
    for path in (copy_of(folder, name, contents) for name in INDEX):
        there = f"cache/{path.name}"
        if not path.is_file() and store.size(there) is not None:
            store.download(there, path)
            if not is_sound(path):
                path.unlink()
                console.print(f"{url}/{there} does not match its checksum: it is made here; `distill push` mends it")
