"""Ten kills (SIGKILL) of the real command at random moments: nothing that was committed is lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.cli.command import main
from distill.dataset.reader import Dataset
from distill.system.files import sha256

KILLS = 10


def fingerprints(folder: Path) -> dict[str, dict[str, str]]:
    """Checksum of every file of every committed shard."""
    return {
        record.parent.name: {path.name: sha256(path) for path in sorted(record.parent.iterdir())}
        for record in folder.glob("shards/*/shard.json")
    }


def wait_until(happened: Callable[[], bool], process: Any) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, process.stderr.read_text()
        time.sleep(0.001)


def unfinished(folder: Path) -> int:
    return sum(not (path / "shard.json").exists() for path in folder.glob("shards/*"))


def test_ten_kills_lose_and_double_nothing(tmp_path: Path, start: Callable[..., Any]) -> None:
    folder = tmp_path / "data"
    rng = random.Random(7)

    def words(states: int) -> list[str]:
        settings = {"out": folder, "states": states, "num_envs": 2, "shard_states": 6}
        return ["collect", "--device", "cpu", *(f"--collect.{key}={value}" for key, value in settings.items())]

    before: dict[str, dict[str, str]] = {}
    left_behind = 0
    for kill in range(KILLS):
        process = start(*words(1_000_000))
        if kill % 3 == 2:
            time.sleep(rng.uniform(0.0, 1.0))  # anywhere: while it starts, resumes or drops what was unfinished
        else:
            shards = len(before)
            wait_until(lambda: len(list(folder.glob("shards/*/shard.json"))) > shards, process)  # noqa: B023
            time.sleep(rng.uniform(0.0, 0.3))
        if kill % 3 == 1:
            wait_until(lambda: unfinished(folder) > 0, process)  # while it writes
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, process.stderr.read_text()
        after = fingerprints(folder)
        assert {name: after.get(name) for name in before} == before, "a committed shard changed or is gone"
        left_behind += unfinished(folder)
        before = after
    assert left_behind > 0, "no kill hit a shard half written"

    states = len(before) * 6 + 15
    process = start(*words(states))
    assert process.wait() == 0, process.stderr.read_text()
    after = fingerprints(folder)
    assert {name: after[name] for name in before} == before
    assert sorted(after) == [f"teacher-{n:05d}" for n in range(len(before) + 3)]
    assert len(list(folder.glob("shards/*"))) == len(after)
    dataset = Dataset(folder, verify=True)
    assert len(dataset) == states
    assert len(set(zip(dataset.writer, dataset.episode, dataset.t, strict=True))) == states
    assert main(["verify", str(folder)]) == 0
