"""Folders in a store and their copies here, which are made when a name is used, as far as they are small.

A dataset lies in a store as on a disk (docs/dataset.md), with two things more:

    ledgers/<writer>.json    the shard.json of every shard that this writer has sent: one object to read, none to list
    cache/                   the index of all shards, so that none is read to open the data
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from distill.errors import UserError
from distill.system.files import sha256, write_bytes
from distill.system.stores import LIMIT, Store, address, cache_limit, is_inside, place_of

THREADS = 8
"""Objects that travel at once."""
FRESH_S = 30.0
"""Seconds for which what was looked up is taken to be what is there."""
LARGEST = 2e9
"""Bytes of a folder that is no dataset; more is a mistake in the address."""
SHARD, UNSENT = "shard.json", "unsent"
"""What says that a shard is whole, and that the store does not have it yet."""
_looked: dict[str, tuple[Path, float]] = {}


def mirrored(name: str | Path) -> Path:
    """Where the copy of a store's folder or file lies, made or brought up to date; of a dataset without its shards.

    Where there is nothing at that address, there is nothing here either.

    Raises:
        UserError: the store cannot be used.
    """
    url = address(name)
    if url not in _looked or time.monotonic() - _looked[url][1] > FRESH_S:
        _looked[url] = _look(Store(url)), time.monotonic()
    return _looked[url][0]


def origin(folder: Path) -> str | None:
    """The store's address that a folder is a copy of; None for other folders."""
    mark = _mark(folder)
    return mark.read_text() if mark.is_file() else None


def _mark(place: Path) -> Path:
    return place.with_name(f"{place.name}.url")


def _look(store: Store) -> Path:
    place = place_of(store.url)
    place.parent.mkdir(parents=True, exist_ok=True)
    if store.is_file():
        parent, _, name = store.url.rpartition("/")
        place = place_of(parent) / name
        beside, card = Store(parent), Path(name).with_suffix(".md").name  # a teacher's
        beside.download(name, place)
        if card != name and beside.size(card) is not None:
            beside.download(card, place.with_name(card))
        elif card != name:
            place.with_name(card).unlink(missing_ok=True)
        return place
    _mark(place).write_text(store.url)
    manifest = store.read("dataset.json")
    if manifest is None:
        _fetch_folder(store, place)
    else:
        _fetch_records(store, place, manifest)
    return place


def _fetch_folder(store: Store, place: Path) -> None:
    """All files of a run, a student or a teacher, and no others."""
    sizes = store.sizes()
    if (place / "dataset.json").is_file():
        if any(not path.with_name(UNSENT).exists() for path in place.glob(f"shards/*/{SHARD}")):
            raise UserError(
                f"{store.url} had a dataset and has none any more; put it back (`distill push {place} {store.url}`, if "
                "all of it is here), or remove that copy"
            )
        return  # what was collected here is to be sent
    if sum(sizes.values()) > LARGEST:
        raise UserError(
            f"{store.url} has {sum(sizes.values()):,} bytes and is no dataset; name a run or an agent in it"
        )

    def fetch(name: str) -> None:
        path = place / name
        if not path.is_file() or not store.same(name, path):
            store.download(name, path)

    for_each(fetch, sizes)
    for path in [path for path in place.rglob("*") if _is_sent(path) and str(path.relative_to(place)) not in sizes]:
        path.unlink(missing_ok=True)  # it is there no more
    if not sizes:
        shutil.rmtree(place, ignore_errors=True)


def _fetch_records(store: Store, place: Path, manifest: bytes) -> None:
    """What is written down of a dataset and its shards: one listing, and two objects of each writer."""
    if not (place / "dataset.json").is_file() or (place / "dataset.json").read_bytes() != manifest:
        if (place / "shards").is_dir():
            raise UserError(f"{store.url} is another dataset than the one that {place} is a copy of; remove the copy")
        write_bytes(place / "dataset.json", manifest)
    for folder in ("shards", "writers"):
        (place / folder).mkdir(exist_ok=True)

    def fetch(name: str) -> None:
        # Its count before the shards that it counts: a writer sends a shard first and counts it then.
        record = store.read(f"writers/{Path(name).name}")
        for shard, text in read_ledger(store, name).items():
            path = place / "shards" / shard / SHARD
            if not path.is_file():
                path.parent.mkdir(exist_ok=True)
                temporary = path.with_name(f".{SHARD}.{os.getpid()}")
                temporary.write_text(text)
                os.replace(temporary, path)  # no fsync: it can be fetched again
            elif path.read_text() != text and not path.with_name(UNSENT).exists():
                raise UserError(f"{store.url} has another shard {shard} than {place}, a copy of it; remove the copy")
        mine = place / "writers" / Path(name).name
        if record is not None and _counted(record) > (_counted(mine.read_bytes()) if mine.is_file() else -1):
            write_bytes(mine, record)

    for_each(fetch, store.sizes("ledgers"))


def read_ledger(store: Store, name: str) -> dict[str, str]:
    """Texts of the shard.json of all shards that a writer has sent, by shard."""
    content = store.read(name)
    try:
        ledger: dict[str, str] = json.loads(content)["shards"] if content is not None else {}
        for shard, text in ledger.items():
            if not isinstance(text, str) or not is_inside(shard):
                raise ValueError(f"no shard can be {shard!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{store.url}/{name} is damaged ({error}); push the dataset again") from error
    return ledger


def _counted(record: bytes) -> int:
    """Shards that a writer's record counts; a damaged one is found when it is read."""
    try:
        return int(json.loads(record)["shards"])
    except (ValueError, KeyError, TypeError):
        return 0


def for_each(work: Callable[[str], None], names: Iterable[str]) -> None:
    """Several at once; the first error ends it."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        for _ in pool.map(work, names):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


class Shards:
    """Shards of a dataset in a store, fetched when they are needed; the limit of the copies is kept.

    Args:
        folder: the copy, with the records of all shards.
        files: of every shard by its name, bytes and SHA-256 of its files by theirs.
        least: bytes that must have room beside each other.
        verify: compare copies that are here already with their checksums, too, when they are first asked for.

    Raises:
        UserError: they do not.
    """

    def __init__(
        self, folder: Path, files: Mapping[str, Mapping[str, tuple[int, str]]], least: int, *, verify: bool = False
    ) -> None:
        url = origin(folder)
        assert url is not None
        self._store, self._folder, self._files = Store(url), folder / "shards", dict(files)
        self._room = cache_limit()
        if least > self._room:
            raise UserError(
                f"{url} needs {least / 1e9:.3g} GB here and {LIMIT} allows {self._room / 1e9:.3g}; raise it, or train "
                "with a smaller --train.window_shards"
            )
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._used = {name: time.time() for name in self._here()}
        self._unchecked = set(self._used) if verify else set()
        self._held = sum(map(self.size, self._used))

    def size(self, shard: str) -> int:
        """Bytes of a shard."""
        return sum(size for size, _ in self._files[shard].values())

    def _here(self) -> Iterator[str]:
        """Shards whose files are here, none cut short, the one used longest ago first."""
        times = {}
        for shard, files in self._files.items():
            paths = {self._folder / shard / name: size for name, (size, _) in files.items()}
            whole = all(path.is_file() and path.stat().st_size == size for path, size in paths.items())
            if whole and not (self._folder / shard / UNSENT).exists():
                times[shard] = max(path.stat().st_atime for path in paths)
        yield from sorted(times, key=lambda shard: times[shard])

    def fetch(self, shard: str) -> None:
        """Have a shard's files here, each as its checksum says; a copy that the disk has damaged is fetched anew.

        Raises:
            UserError: the store cannot be used, or has other files.
        """
        with self._lock:
            mine = self._fetching.setdefault(shard, threading.Lock())
        with mine:
            if (self._folder / shard / UNSENT).exists():
                return
            sound = self._is_sound(shard)
            with self._lock:
                known = self._used.pop(shard, None)
                if known is not None and sound:
                    self._used[shard] = time.time()  # now the last
                    return
                self._held -= 0 if known is None else self.size(shard)  # another process has made room
                self._make_room(self.size(shard))
            for name, (_, checksum) in self._files[shard].items():
                self._store.download(f"shards/{shard}/{name}", self._folder / shard / name, checksum)
            with self._lock:
                self._used[shard] = time.time()
                self._held += self.size(shard)

    def _is_sound(self, shard: str) -> bool:
        """Whether a copy's files are here and, where that is to be found out, as their checksums say."""
        unchecked = shard in self._unchecked
        self._unchecked.discard(shard)
        with contextlib.suppress(FileNotFoundError):  # another process has made room
            for name, (_, checksum) in self._files[shard].items():
                path = self._folder / shard / name
                if not path.is_file() or (unchecked and sha256(path) != checksum):
                    return False
            return True
        return False

    def fetch_all(self) -> None:
        """Have all shards here."""
        for_each(self.fetch, self._files)

    def sent(self, shard: str, files: Mapping[str, tuple[int, str]]) -> None:
        """Count a shard that was written here and that the store has now: what was used longest ago makes room for it.

        Args:
            shard: its name.
            files: bytes and SHA-256 of its files, by name.
        """
        with self._lock:
            if shard not in self._used:
                self._files[shard] = files
                self._make_room(self.size(shard))
                self._used[shard] = time.time()
                self._held += self.size(shard)

    def _make_room(self, size: int) -> None:
        """Remove what was used longest ago and the store has, too; who has it open keeps it."""
        while self._used and self._held + size > self._room:
            oldest = next(iter(self._used))
            del self._used[oldest]
            self._held -= self.size(oldest)
            for name in self._files[oldest]:
                (self._folder / oldest / name).unlink(missing_ok=True)


def push_folder(folder: Path, url: str) -> int:
    """Send the files of a run, a student or a teacher's folder, or what changed; JSON records last. Returns how many.

    Raises:
        UserError: the store cannot be used.
    """
    store = Store(url)
    if folder.is_file():
        store.upload(folder, "")
        card = folder.with_suffix(".md")
        if not card.is_file():
            return 1
        parent, _, name = store.url.rpartition("/")
        Store(parent).upload(card, Path(name).with_suffix(".md").name)
        return 2
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if _is_sent(path)]

    def send(name: str) -> None:
        if not store.same(name, folder / name):
            store.upload(folder / name, name)

    for_each(send, [name for name in names if not name.endswith(".json")])
    for_each(send, [name for name in names if name.endswith(".json")])
    return len(names)


def _is_sent(path: Path) -> bool:
    return path.is_file() and path.suffix not in (".tmp", ".lock")
