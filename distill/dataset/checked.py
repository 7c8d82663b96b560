"""Checking every byte of a dataset, several shards at once, and going on where an interrupted check stopped.

What was found sound is noted in ``cache/verified.json`` with size and time of its files, and counts as long as these
are the same. A check that came to its end leaves no notes: the next one reads everything again.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from distill.dataset.reader import Dataset
from distill.dataset.remote import fetching
from distill.dataset.repeats import play_digest
from distill.dataset.shards import committed_shards, load_shard, read_record, refuse_not_finite, refuse_other_arrays
from distill.dataset.windowed import ROOM, WindowedDataset
from distill.records.dataset import ShardRecord
from distill.system.files import write_json
from distill.system.progress import Bar

FEW_FRAMES = 250_000
"""Of a dataset that may be in memory as a whole: 1.8 GB."""
EVERY_S = 5.0
"""Seconds between notes."""
Notes = dict[str, dict[str, Any]]


def open_checked(folder: Path) -> Dataset:
    """A dataset whose every byte was compared with what was written down of it.

    One of many states is held in a window, and checked by several threads.

    Raises:
        UserError: damage, labels that are NaN or infinite, a shard of another kind, or one that is there twice.
    """
    listed = [path for paths in committed_shards(folder).values() for path in paths]
    if sum(read_record(path).frames for path in listed) < FEW_FRAMES:
        return Dataset(folder, verify=True)
    dataset = WindowedDataset(folder, 1)
    path = folder / "cache" / "verified.json"
    notes = _read(path)
    remote = fetching(folder, dataset.shards, dataset.records, ROOM, verify=True)
    fetch = (lambda name: None) if remote is None else remote.fetch
    fetch(dataset.shards[0].name)
    first = load_shard(dataset.shards[0])

    def check(number: int) -> dict[str, Any]:
        shard, record = dataset.shards[number], dataset.records[number]
        fetch(shard.name)
        state, known = _state(shard, record), notes.get(shard.name)
        if known is not None and known["files"] == state:
            return known
        arrays = load_shard(shard, verify=True)
        refuse_not_finite(shard, arrays)
        refuse_other_arrays(shard, arrays, first)
        return {"files": state, "play": play_digest(arrays) if record.play is None else None}

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    noted = time.monotonic()
    try:
        with Bar("verify", "shards", len(dataset.shards)) as bar:
            found = pool.map(check, range(len(dataset.shards)))
            for done, (shard, note) in enumerate(zip(dataset.shards, found, strict=True), 1):
                notes[shard.name] = note
                bar.update(done, "")
                if time.monotonic() - noted > EVERY_S:
                    noted = time.monotonic()
                    write_json(path, notes)
    except BaseException:
        write_json(path, notes)
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    dataset.refuse_copies([notes[shard.name]["play"] for shard in dataset.shards])
    path.unlink(missing_ok=True)
    return dataset


def _read(path: Path) -> Notes:
    """Notes of an interrupted check; damaged ones are none."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        notes = json.loads(path.read_text())
        return {name: note for name, note in notes.items() if {"files", "play"} <= note.keys()}
    return {}


def _state(shard: Path, record: ShardRecord) -> dict[str, list[Any]]:
    """What files were when they were checked, and against what."""
    stats = {name: (shard / name).stat() for name in record.files}
    return {name: [record.files[name].sha256, stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
